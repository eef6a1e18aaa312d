"""What every segmenter takes and gives: prompts in, candidate masks out, with the encoded photo kept in between."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..errors import UsageError

_KEEP = 4  # encoded photos that a second click can come back to


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a person points at, for one thing, in pixels of the photo as it is displayed.

    `points` are (x, y) from the upper left corner; `labels` say 1 = this thing, 0 = not this. `box` is
    (x0, y0, x1, y1). `mask` is an earlier mask of the same thing to start from.
    """

    points: Float[np.ndarray, "n 2"] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: Int[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0, np.int64))
    box: Float[np.ndarray, "4"] | None = None
    mask: Bool[np.ndarray, "H W"] | None = None


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks of a photo, best first. `scores` in [0, 1] are the backend's own estimate of each mask's quality (the best
    mask need not have the highest); `phrases` names what was found in each, for masks asked for by text."""

    masks: Bool[np.ndarray, "n H W"]
    scores: Float[np.ndarray, " n"]
    backend: str
    phrases: tuple[str, ...] = ()

    @property
    def best(self) -> Bool[np.ndarray, "H W"]:
        """The first mask."""
        return self.masks[0]


class Encoded(Protocol):
    """A photo that a segmenter has looked at once; each further prompt costs only its decoder."""

    grid: ClassVar[int]
    """How many clicks a side find everything."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photo."""

    def predict(self, prompts: Prompts) -> Masks:
        """Candidate masks at the photo's size for one thing, best first."""

    def glance(self, point: Float[np.ndarray, "2"]) -> Masks:
        """The candidates of a click on `point` at the least cost, in no order; scores are each one's quality."""


class Segmenter(Protocol):
    """A backend with its weights loaded; ours keep the photos lately encoded, see `Remembering`."""

    @property
    def name(self) -> str:
        """What `Masks.backend` says."""

    def encode(self, pixels: UInt8[np.ndarray, "H W 3"]) -> Encoded:
        """Look at a photo (RGB, display orientation)."""


class Remembering:
    """A segmenter that keeps the photos that it lately looked at, so that a second click is fast."""

    @cached_property
    def _lately(self) -> dict[bytes, Encoded]:
        return {}

    def look(self, pixels: UInt8[np.ndarray, "H W 3"]) -> Encoded:
        """Encode a photo."""
        raise NotImplementedError

    def encode(self, pixels: UInt8[np.ndarray, "H W 3"]) -> Encoded:
        """The photo as this segmenter sees it, from memory if it was encoded lately."""
        digest = blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=repr(pixels.shape).encode()).digest()
        encoded = self._lately.pop(digest, None) or self.look(pixels)
        self._lately[digest] = encoded
        while len(self._lately) > _KEEP:
            del self._lately[next(iter(self._lately))]
        return encoded


def check_pixels(photo: Any) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a `Photo` (anything with `.pixels`) or of an array. Raises UsageError for anything else."""
    pixels = getattr(photo, "pixels", photo)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise UsageError("A photo to segment is a Photo or an array of height x width x 3 bytes (RGB).")
    if 0 in pixels.shape:
        raise UsageError("The photo has no pixels.")
    return pixels


def check_points(
    points: Sequence[Sequence[float]], labels: Sequence[int] | None, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"]]:
    """Points (x, y) and labels as arrays; labels default to 1. Raises UsageError for a point outside the photo."""
    height, width = size
    if any(len(point) != 2 for point in points):
        raise UsageError("A point is two numbers, x and y.")
    xy = np.asarray(points, np.float32).reshape(-1, 2)
    marks = np.ones(len(xy), np.int64) if labels is None else np.asarray(labels, np.int64)
    if marks.shape != (len(xy),) or not np.isin(marks, (0, 1)).all():
        raise UsageError("Labels are one number for each point: 1 for this thing, 0 for not this.")
    for x, y in xy.tolist():
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(f"The point {x:g},{y:g} lies outside the photo, which is {width} x {height} pixels.")
    return xy, marks


def check_box(box: Sequence[float], size: tuple[int, int]) -> Float[np.ndarray, "4"]:
    """A box (x0, y0, x1, y1) as an array. Raises UsageError if it has no area or leaves the photo."""
    height, width = size
    if len(box) != 4:
        raise UsageError("A box is four numbers: left, top, right, bottom.")
    x0, y0, x1, y1 = (float(side) for side in box)
    said = f"The box {x0:g},{y0:g},{x1:g},{y1:g}"
    if not all(0 <= x <= width for x in (x0, x1)) or not all(0 <= y <= height for y in (y0, y1)):
        raise UsageError(f"{said} leaves the photo, which is {width} x {height} pixels.")
    if not (x1 - x0 >= 1 and y1 - y0 >= 1):
        raise UsageError(f"{said} has no area; give left, top, right, bottom.")
    return np.array([x0, y0, x1, y1], np.float32)
