"""Opened photos and what the segmenter makes of clicks on them."""

from __future__ import annotations

import io
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from ..editing.job import Setup
from ..errors import UsageError
from ..photos.photo import Photo
from .history import History

KEPT = 4
"""Opened photos, and photos as the segmenter sees them, that stay in memory."""

T = TypeVar("T")


class Pointed(BaseModel):
    """What a person points at on a photo, for one place: points (x, y, 1 = this or 0 = not this), a box, or a text."""

    model_config = ConfigDict(extra="forbid")

    points: Annotated[list[tuple[FiniteFloat, FiniteFloat, Literal[0, 1]]], Field(max_length=1000)] = []
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    text: str = ""


@dataclass(frozen=True)
class Found:
    """The best mask: a PNG of its bounding box, transparent outside of it, and where that stands on the photo."""

    png: bytes
    left: int
    top: int
    score: float
    backend: str
    seconds: float
    """What the segmenter itself took."""


@dataclass(frozen=True)
class Pointing:
    """One segmenter at work on the photos of a history, one request after the other."""

    history: History
    setup: Setup
    segmenter: str = "auto"
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "segmenter"))
    _photos: dict[str, Photo] = field(default_factory=dict)

    def open(self, identity: str) -> Photo:
        """A photo of the history."""
        photo = self._photos.pop(identity, None) or Photo.open(
            self.history.photo(identity), max_pixels=self.setup.max_pixels
        )
        self.remember(identity, photo)
        return photo

    def remember(self, identity: str, photo: Photo) -> None:
        self._photos[identity] = photo
        while len(self._photos) > KEPT:
            self._photos.pop(next(iter(self._photos)))

    def close(self) -> None:
        """Forget what nobody waits for any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def encode(self, identity: str) -> Future[None]:
        """Have the segmenter look at a photo now, so that the first click is as fast as any other."""
        return self._thread.submit(self._encode, identity)

    def find(self, identity: str, pointed: Pointed) -> Future[Found]:
        """The mask of what is pointed at; raises, in the future, what `segment` raises."""
        return self._thread.submit(self._find, identity, pointed)

    def _encode(self, identity: str) -> None:
        from ..segmentation.backends import load

        load(self.segmenter, self.setup.offline, self.setup.device).encode(self.open(identity).pixels)

    def _find(self, identity: str, pointed: Pointed) -> Found:
        from ..segmentation import pick, segment

        photo = self.open(identity)
        begun = time.perf_counter()
        found = segment(
            photo,
            points=[(x, y) for x, y, _ in pointed.points],
            labels=[label for *_, label in pointed.points],
            boxes=[] if pointed.box is None else [pointed.box],
            text=pointed.text or None,
            backend=self.segmenter,
            offline=self.setup.offline,
            device=self.setup.device,
        )
        mask = pick(found, "all" if pointed.text else "best")
        seconds = time.perf_counter() - begun
        if not mask.any():
            raise UsageError(f"{found.backend} finds nothing there; point at the middle of the thing, or draw a box.")
        png, left, top = cut_out(mask)
        return Found(png, left, top, float(found.scores.max()), found.backend, seconds)


def cut_out(mask: Bool[np.ndarray, "H W"]) -> tuple[bytes, int, int]:
    """A mask's bounding box as a PNG, opaque white on the mask and transparent beside it, and its left and top."""
    from PIL import Image

    from ..segmentation.masks import bounding_box

    left, top, right, bottom = bounding_box(mask)
    stream = io.BytesIO()
    Image.fromarray(mask[top:bottom, left:right]).save(stream, "PNG", transparency=0, compress_level=1)
    return stream.getvalue(), left, top
