"""Making the images of a table, one file per method, seed and scene, so that an interrupted run goes on where it was.

A file carries the key of what made it and what it cost; it is kept as long as the key stays the same.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from ..editing.editor import Editor
from ..editing.job import EditJob, GenerateJob, checked
from ..errors import PhotoError
from ..guidance.methods import chained
from ..guidance.regions import Region, on_grid
from ..guidance.written import parse
from ..jobs.ledger import sha256_of
from ..photos.photo import Photo
from ..photos.read import read_settings
from .job import Evaluation, GenerateEvaluation
from .protocols import Scene

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SAMPLED = {"steps", "guidance_scale", "guidance_interval", "scheduler"}
"""The fields of an evaluation that its jobs take over."""


@dataclass(frozen=True)
class Cost:
    """Wall time and UNet evaluations (one per element of a batch) of an image."""

    seconds: float
    unet_calls: int


def image_name(method: str, seed: int, scene: Scene) -> str:
    """Where an image, or its label map, lies below its folder; a colon cannot stand in a file name everywhere."""
    return f"{method.replace(':', '_')}/{seed}/{scene.name}.png"


Source = Callable[[Scene, int], tuple[Path, Cost | None]]
"""Gives the file of a scene's image for a seed, and its cost; raises UsageError or PhotoError where there is none."""


@dataclass(frozen=True)
class ImageFolder:
    """Images made elsewhere, named as the dataset's; the seed says nothing."""

    folder: Path

    def __call__(self, scene: Scene, seed: int) -> tuple[Path, None]:
        for suffix in SUFFIXES:
            file = self.folder / f"{scene.name}{suffix}"
            if file.is_file():
                return file, None
        raise PhotoError(f"{self.folder} has no image named {scene.name}.")


@dataclass(frozen=True)
class Maker:
    """A method at work: makes images below `output/images`, unless they are there already."""

    editor: Editor
    method: str
    job: Evaluation
    output: Path

    @staticmethod
    def understood(method: str) -> object:
        """What a method's name stands for; UsageError for an unknown one."""
        return chained(parse(method))

    def __call__(self, scene: Scene, seed: int) -> tuple[Path, Cost]:
        file = self.output / "images" / image_name(self.method, seed, scene)
        key = self._key(scene, seed)
        if kept := _kept(file, key):
            return file, kept
        with _counted(self.editor) as calls:
            start = time.perf_counter()
            image = self._make(scene, seed)
            cost = Cost(time.perf_counter() - start, sum(calls))
        image.save(file, overwrite=True, settings={"key": key, "seconds": cost.seconds, "unet_calls": cost.unet_calls})
        return file, cost

    def _make(self, scene: Scene, seed: int) -> Photo:
        asked = {"seed": seed, **self.job.model_dump(include=SAMPLED)}
        if isinstance(self.job, GenerateEvaluation):
            size = canvas(scene, self.job.size or self.editor.model.native_size, self.editor.model.grid)
            masks = on_grid(torch.from_numpy(np.stack(scene.masks)).float(), size).clamp(0, 1)
            words = [placement.words for placement in scene.placements]
            regions = [Region(mask, phrase) for mask, phrase in zip(masks, words, strict=True)]
            drawn = checked(GenerateJob, prompt=scene.prompt, method=self.method, size=size, **asked)
            return self.editor.run(drawn, regions=regions).images[0]
        (placement,) = scene.placements
        photo, mask = Photo.open(scene.picture.file), placement.segment.mask
        edited = checked(EditJob, prompt=scene.prompt, method=self.method, words=placement.words, **asked)
        return self.editor.run(edited, photo, mask).images[0]

    def _key(self, scene: Scene, seed: int) -> str:
        masks = [hashlib.sha256(mask.tobytes()).hexdigest() for mask in scene.masks]
        words = [placement.words for placement in scene.placements]
        generate = isinstance(self.job, GenerateEvaluation)
        photo = None if generate else sha256_of(scene.picture.file)
        settings = self.job.model_dump(include={*SAMPLED, "action", "size", "strength", "fill"})
        model, method = self.editor.model, repr(self.understood(self.method))
        made_by = [
            version("inlay"),
            model.fingerprint,
            model.marks,
            repr(model.adapters),
            model.defaults,
            str(model.dtype),
            method,
            settings,
            seed,
        ]
        return hashlib.sha256(json.dumps([*made_by, scene.prompt, words, masks, photo]).encode()).hexdigest()


def canvas(scene: Scene, size: tuple[int, int], grid: int) -> tuple[int, int]:
    """(H, W) to generate at: about the picture's aspect and the area of `size`, divisible by the model's grid."""
    height, width = scene.placements[0].segment.rle["size"]
    scale = (size[0] * size[1] / (height * width)) ** 0.5
    return max(grid, round(height * scale / grid) * grid), max(grid, round(width * scale / grid) * grid)


def _kept(file: Path, key: str) -> Cost | None:
    """What an image cost that is there, whole, and of this key."""
    try:
        Photo.open(file)
        record = read_settings(file)
    except PhotoError:
        return None
    return Cost(record["seconds"], record["unet_calls"]) if record and record.get("key") == key else None


@contextmanager
def _counted(editor: Editor) -> Iterator[list[int]]:
    """Counts the batch elements that go through the editor's UNet."""
    calls: list[int] = []
    hook = editor.model.unet.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    try:
        yield calls
    finally:
        hook.remove()
