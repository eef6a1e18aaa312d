"""What an edit or a generation gives back, and what is noted about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..diffusion.model import Model
from ..guidance.attention_pictures import Attention
from ..photos.photo import Photo
from .job import Facts, Job, Record


@dataclass(frozen=True)
class Result:
    """Pictures of one call, in the order of their seeds.

    `scores` are the ranker's, one per picture, None without a ranker. `settings` makes picture k again.
    """

    images: tuple[Photo, ...]
    seeds: tuple[int, ...]
    scores: tuple[float | None, ...]
    settings: tuple[Record, ...]
    warnings: tuple[str, ...] = ()
    attention: Attention | None = None
    """Where the asked-for words looked; in an edit, in the window of `Facts.crops` that was painted last."""

    @property
    def ranking(self) -> tuple[int, ...]:
        """Indices of the pictures, best first; in the order of seeds where nothing ranked them."""
        return tuple(sorted(range(len(self.images)), key=lambda k: -(self.scores[k] or 0.0)))

    @property
    def best(self) -> Photo:
        return self.images[self.ranking[0]]


def record_of(model: Model, job: Job, image_seed: int, image: Photo, **found: Any) -> Record:
    """What a run of `job` by `model` stores in one picture."""
    from importlib.metadata import version

    from .. import __version__

    advice = {one.name: model.defaults[one.name] for one in job.method or () if one.name in model.defaults}
    facts = Facts(
        inlay=__version__,
        torch=torch.__version__,
        diffusers=version("diffusers"),
        weights=model.fingerprint,
        adapters=model.marks,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        image_seed=image_seed,
        size=(image.size[1], image.size[0]),
        advice=advice,
        **found,
    )
    return Record(job=job, facts=facts)
