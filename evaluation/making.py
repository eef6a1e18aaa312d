"""Making the images of a table, one file per method, seed and scene, so that an interrupted run goes on where it was.

A file carries the key of the settings that made it and what it cost; it is kept as long as the key stays the same.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from ..errors import PhotoError
from .protocols import Scene

if TYPE_CHECKING:
    from ..editing.editor import Editor
    from ..guidance.base import Guidance

FIELD = "inlay-evaluation"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Cost:
    """Wall time and UNet evaluations (one per element of a batch) of an image."""

    seconds: float
    unet_calls: int


@dataclass(frozen=True)
class Settings:
    """What all images of a table share."""

    edit: bool
    steps: int
    guidance_scale: float | None = None
    size: tuple[int, int] | None = None
    """(H, W) whose area images are generated at; the model's own."""


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

    editor: "Editor"
    method: str
    guidance: "Guidance"
    output: Path
    settings: Settings

    def __call__(self, scene: Scene, seed: int) -> tuple[Path, Cost]:
        file = self.output / "images" / image_name(self.method, seed, scene)
        key = self._key(scene, seed)
        kept = _kept(file, key)
        if kept:
            return file, kept
        with _counted(self.editor) as calls:
            start = time.perf_counter()
            image = self._make(scene, seed)
            cost = Cost(time.perf_counter() - start, sum(calls))
        _save(image, file, key, cost)
        return file, cost

    def _make(self, scene: Scene, seed: int) -> UInt8[np.ndarray, "h w 3"]:
        from ..guidance.regions import Region, on_grid
        from ..photos.photo import Photo

        options: dict[str, Any] = {"guidance": self.guidance, "steps": self.settings.steps, "seed": seed}
        if self.settings.guidance_scale is not None:
            options["guidance_scale"] = self.settings.guidance_scale
        if self.settings.edit:
            (placement,) = scene.placements
            photo = Photo.open(scene.picture.file)
            made = self.editor.edit(photo, placement.segment.mask, scene.prompt, words=placement.words, **options)
        else:
            size = canvas(scene, self.settings.size or self.editor.model.native_size, self.editor.model.grid)
            masks = on_grid(torch.from_numpy(np.stack(scene.masks)).float(), size).clamp(0, 1)
            words = [placement.words for placement in scene.placements]
            regions = [Region(mask, phrase) for mask, phrase in zip(masks, words, strict=True)]
            made = self.editor.generate(scene.prompt, regions=regions, size=size, **options)
        return made.images[0].pixels

    def _key(self, scene: Scene, seed: int) -> str:
        masks = [hashlib.sha256(mask.tobytes()).hexdigest() for mask in scene.masks]
        words = [placement.words for placement in scene.placements]
        photo = hashlib.sha256(scene.picture.file.read_bytes()).hexdigest() if self.settings.edit else None
        model = self.editor.model
        settings = [version("inlay"), model.fingerprint, model.defaults, repr(self.guidance), repr(self.settings), seed]
        return hashlib.sha256(json.dumps([*settings, scene.prompt, words, masks, photo]).encode()).hexdigest()


def canvas(scene: Scene, size: tuple[int, int], grid: int) -> tuple[int, int]:
    """(H, W) to generate at: about the picture's aspect and the area of `size`, divisible by the model's grid."""
    height, width = scene.placements[0].segment.rle["size"]
    scale = (size[0] * size[1] / (height * width)) ** 0.5
    return max(grid, round(height * scale / grid) * grid), max(grid, round(width * scale / grid) * grid)


def _kept(file: Path, key: str) -> Cost | None:
    if not file.is_file():
        return None
    record = json.loads(Image.open(file).info.get(FIELD, "{}"))
    return Cost(record["seconds"], record["unet_calls"]) if record.get("key") == key else None


def _save(image: UInt8[np.ndarray, "h w 3"], file: Path, key: str, cost: Cost) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = PngImagePlugin.PngInfo()
    text.add_text(FIELD, json.dumps({"key": key, "seconds": cost.seconds, "unet_calls": cost.unet_calls}))
    unfinished = file.with_suffix(".part")
    Image.fromarray(image).save(unfinished, format="PNG", pnginfo=text)
    os.replace(unfinished, file)


@contextmanager
def _counted(editor: "Editor") -> Iterator[list[int]]:
    """Counts the batch elements that go through the editor's UNet."""
    calls: list[int] = []
    hook = editor.model.unet.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    try:
        yield calls
    finally:
        hook.remove()
