"""The files of a job: named and checked before the long work, and before PyTorch; written when it is done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from ..editing.crop import Box
from ..editing.job import Job, Record
from ..errors import UsageError
from ..photos.photo import Photo
from ..photos.save import STANDARD_OUTPUT, check_folder, check_output
from ..photos.sheet import preview

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..editing.result import Result
    from .perform import Performed


@dataclass(frozen=True)
class Written:
    """A picture on disk, the settings in it, and what to know about it."""

    path: Path
    settings: Record
    changed_outside: int
    warnings: tuple[str, ...]

    def record(self) -> str:
        """All of it as one line of JSON."""
        return json.dumps(
            {
                "path": str(self.path),
                "changed_outside": self.changed_outside,
                "warnings": self.warnings,
                "settings": self.settings.model_dump(mode="json"),
            }
        )


@dataclass(frozen=True)
class Outputs:
    """Where a job's pictures go: `path` itself, or path-1, path-2, … best first; `preview` adds a sheet beside them.

    `attention` is a folder for pictures of where the words look, which begin with each picture's seed.
    """

    path: Path
    job: Job
    overwrite: bool = False
    preview: bool = False
    attention: Path | None = None

    @property
    def pictures(self) -> tuple[Path, ...]:
        count = self.job.num_images
        return tuple(self.beside(str(k + 1)) for k in range(count)) if count > 1 else (self.path,)

    @property
    def sheet(self) -> Path:
        return self.beside("preview").with_suffix(".png")

    def beside(self, mark: str) -> Path:
        return self.path.with_stem(f"{self.path.stem}-{mark}")

    def check(self, size: tuple[int, int] | None = None) -> None:
        """Refuse, before the work, what could not be written after it; `size` is the pictures' width and height, once
        known.

        Raises:
            UsageError: a format that is not written, has no quality or cannot be that large, or a file that exists,
                unless `overwrite`; more than one picture for standard output.
            PhotoError: a folder that may not be written to.
        """
        if self.path == STANDARD_OUTPUT and (self.job.num_images > 1 or self.preview):
            raise UsageError("Standard output takes one picture: name a file, or leave out --num-images and --preview.")
        for path in self.pictures:
            check_output(path, overwrite=self.overwrite, size=size, quality=self.job.quality)
        if self.preview:
            check_output(self.sheet, overwrite=self.overwrite)
        if self.attention:
            self.check_attention(self.attention)

    def check_attention(self, folder: Path) -> None:
        """Which words get a picture shows only later, so any that belongs to a seed of this run is refused."""
        if folder.is_file():
            raise UsageError(f"{folder} is a file: name a folder for the attention pictures")
        seeds = range(self.job.seed, self.job.seed + self.job.num_images)
        there = [path for seed in seeds for path in folder.glob(f"{seed}-*.png")]
        if there and not self.overwrite:
            raise UsageError(f"{min(there)} exists: choose another folder or pass --overwrite (overwrite=True).")
        check_folder(folder, folder)

    def save(self, performed: Performed) -> list[Written]:
        """Write the pictures, best first, each with the settings that make it again, and the sheet."""
        result, written = performed.result, list[Written]()
        for path, k in zip(self.pictures, result.ranking, strict=True):
            settings = result.settings[k].model_dump(mode="json")
            saved = result.images[k].save(path, overwrite=self.overwrite, settings=settings, quality=self.job.quality)
            written.append(Written(path, result.settings[k], saved.changed_outside, saved.warnings))
        if self.preview:
            Photo.from_image(drawn(performed)).save(self.sheet, overwrite=self.overwrite)
        if self.attention and result.attention:
            from ..guidance.attention_pictures import save_pictures

            save_pictures(result.attention, painted(result), self.attention, overwrite=self.overwrite)
        return written


def drawn(performed: Performed) -> Image:
    """Photo, mask and candidates, best first, where the model looked."""
    result, photo = performed.result, performed.photo
    facts = result.settings[0].facts
    assert photo is not None
    assert performed.mask is not None
    seen = [Box(*crop) for crop in facts.crops]
    around = reduce(Box.union, seen)
    return preview(
        photo.pixels,
        performed.mask >= 0.5,
        [result.images[k].pixels for k in result.ranking],
        captions=[caption(result.seeds[k], result.scores[k]) for k in result.ranking],
        window=(slice(max(around.top, 0), around.bottom), slice(max(around.left, 0), around.right)),
    )


def painted(result: Result) -> list[UInt8[np.ndarray, "h w 3"]]:
    """What the recorded attention covers: each picture, in an edit the window that was painted last."""
    facts = result.settings[0].facts
    pictures = [image.pixels for image in result.images]
    if not facts.crops:
        return pictures
    left, top, right, bottom = facts.crops[-1]
    rows = np.arange(top, bottom).clip(0, len(pictures[0]) - 1)  # a window may stick out of a small photo
    columns = np.arange(left, right).clip(0, pictures[0].shape[1] - 1)
    return [picture[rows][:, columns] for picture in pictures]


def caption(seed: int, score: float | None) -> str:
    return f"seed {seed}" if score is None else f"seed {seed}, score {score:.2f}"
