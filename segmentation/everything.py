"""Every mask of a photo: a grid of clicks over any backend, doubles dropped."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ..errors import UsageError
from . import masks
from .backends import load
from .files import Rle, decode_rle, encode_rle
from .pointing import encode
from .protocol import Prompts, Segmenter, check_pixels

_WORKING_SIDE = 512  # clicks are answered at this size; only kept masks are brought to the photo's


@dataclass(frozen=True)
class Everything:
    """The masks of a photo, largest first, as COCO run lengths so that a large photo's fit in memory.

    `label_map` numbers them from 1 (0: in none); where they overlap the smaller one shows.
    """

    rles: tuple[Rle, ...]
    scores: Float[np.ndarray, " n"]
    label_map: Int[np.ndarray, "H W"]
    backend: str

    def masks(self) -> Iterator[Bool[np.ndarray, "H W"]]:
        """Each mask at the photo's size."""
        return (decode_rle(rle) for rle in self.rles)

    def coco(self) -> list[dict[str, Any]]:
        """The masks as COCO annotations, for JSON."""
        return [
            {"id": k + 1, "segmentation": rle, "area": int(mask.sum()), "bbox": _bbox(mask), "score": float(score)}
            for k, (rle, mask, score) in enumerate(zip(self.rles, self.masks(), self.scores, strict=True))
        ]


def everything(
    photo: Any,
    *,
    backend: str | Segmenter = "auto",
    grid: int = 16,
    least_score: float = 0.5,
    most_overlap: float = 0.7,
    offline: bool = False,
) -> Everything:
    """All masks that a grid of `grid` x `grid` clicks finds.

    Every candidate of a click whose score is at least `least_score` counts; of two that overlap by more than
    `most_overlap` (IoU) the one with the higher score stays. Raises UsageError if nothing is found.
    """
    import cv2

    pixels = check_pixels(photo)
    if grid < 1:
        raise UsageError(f"The grid of clicks has at least 1 a side, not {grid}.")
    height, width = pixels.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    segmenter = load(backend, offline=offline) if isinstance(backend, str) else backend
    encoded = encode(np.asarray(small, np.uint8), segmenter)
    found: list[tuple[float, Bool[np.ndarray, "h w"]]] = []
    for x, y in np.stack(np.meshgrid(*((np.arange(grid) + 0.5) / grid,) * 2), -1).reshape(-1, 2) * size:
        try:
            guess = encoded.predict(Prompts(np.array([[x, y]], np.float32), np.array([1])))
        except UsageError:  # a click that the backend makes nothing of
            continue
        found += [(float(s), m) for s, m in zip(guess.scores, guess.masks, strict=True) if s >= least_score and m.any()]
    kept = _drop_doubles(found, most_overlap)
    if not kept:
        raise UsageError(f"No mask of this photo reaches a score of {least_score:g}; allow a lower one.")
    return _assemble(kept, (height, width), segmenter.name)


def _drop_doubles(
    found: list[tuple[float, Bool[np.ndarray, "h w"]]], most_overlap: float
) -> list[tuple[float, Bool[np.ndarray, "h w"]]]:
    """Non-maximum suppression by mask IoU; what is kept, largest first."""
    kept: list[tuple[float, Bool[np.ndarray, "h w"]]] = []
    for score, mask in sorted(found, key=lambda one: -one[0]):
        if all(masks.iou(mask, other) <= most_overlap for _, other in kept):
            kept.append((score, mask))
    return sorted(kept, key=lambda one: -int(one[1].sum()))


def _assemble(kept: list[tuple[float, Bool[np.ndarray, "h w"]]], size: tuple[int, int], name: str) -> Everything:
    """The kept masks at the photo's size, one at a time."""
    label_map = np.zeros(size, np.int32)
    rles = []
    for number, (_, mask) in enumerate(kept, start=1):
        whole = masks.resize(mask, size)
        label_map[whole] = number
        rles.append(encode_rle(whole))
    return Everything(tuple(rles), np.array([score for score, _ in kept], np.float32), label_map, name)


def _bbox(mask: Bool[np.ndarray, "H W"]) -> list[int]:
    """Left, top, width, height, as COCO has it."""
    if not mask.any():
        return [0, 0, 0, 0]
    x0, y0, x1, y1 = masks.bounding_box(mask)
    return [x0, y0, x1 - x0, y1 - y0]
