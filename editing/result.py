"""What an edit or a generation gives back, and what is noted about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..diffusion.model import Model
from ..guidance.attention_pictures import Attention
from ..photos.photo import Photo
from .job import Facts, Record, SamplingJob


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


def facts(model: Model, job: SamplingJob, image_seed: int, image: Photo, **found: Any) -> Facts:
    """What a run of `job` by `model` knows of one picture."""
    from importlib.metadata import version

    from .. import __version__

    return Facts(
        inlay=__version__,
        torch=torch.__version__,
        diffusers=version("diffusers"),
        weights=model.fingerprint,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        image_seed=image_seed,
        size=(image.size[1], image.size[0]),
        advice={
            method.name: model.defaults[method.name] for method in job.method or () if method.name in model.defaults
        },
        **found,
    )
