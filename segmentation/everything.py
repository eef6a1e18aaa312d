"""Every mask of a photo: a grid of clicks over any backend, doubles dropped."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..errors import UsageError
from ..photos.mask_files import Rle, decode_rle, encode_rle, save_json, save_labels
from . import masks
from .backends import load
from .protocol import Segmenter, check_pixels

_WORKING_SIDE = 1024  # as much as SAM sees; only kept masks are brought to the size of a larger photo


@dataclass(frozen=True, eq=False)
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
        from pycocotools import mask as coco

        return [
            {
                "id": number,
                "segmentation": rle,
                "area": int(coco.area(rle)),
                "bbox": coco.toBbox(rle).tolist(),
                "score": float(score),
            }
            for number, (rle, score) in enumerate(zip(self.rles, self.scores, strict=True), start=1)
        ]

    def save(self, path: str | Path) -> None:
        """Writes them by the name's ending: .json as COCO annotations, else the label map as a picture (`save_labels`).
        Raises PhotoError where the file cannot be written, UsageError for another ending."""
        path = Path(path)
        if path.suffix.lower() == ".json":
            save_json(self.coco(), path)
        else:
            save_labels(self.label_map, path)


def everything(
    photo: Any,
    *,
    backend: str | Path | Segmenter = "auto",
    grid: int | None = None,
    least_score: float = 0.8,
    least_share: float = 0.001,
    most_overlap: float = 0.7,
    offline: bool = False,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> Everything:
    """All masks that a grid of `grid` x `grid` clicks finds, None for as many as the backend needs.

    Every candidate of a click (see `Encoded.glance`) counts whose score is at least `least_score` and that covers at
    least `least_share` of the photo, its specks dropped; of two that overlap by more than `most_overlap` (IoU) the one
    with the higher score stays. `on_progress` gets the clicks done and their number. Raises UsageError if nothing is
    found.
    """
    pixels = check_pixels(photo)
    if grid is not None and grid < 1:
        raise UsageError(f"The grid of clicks has at least 1 a side, not {grid}.")
    segmenter = load(backend, offline, device)
    small = _at_working_size(pixels)
    encoded = segmenter.encode(small)
    height, width = small.shape[:2]
    side = grid or encoded.grid
    found: list[tuple[float, Rle]] = []
    for done in range(side**2):
        row, column = divmod(done, side)
        guess = encoded.glance(np.array([(column + 0.5) * width, (row + 0.5) * height], np.float32) / side)
        offered = zip(guess.scores.tolist(), guess.masks, strict=True)
        good = [(score, masks.drop_specks(mask)) for score, mask in offered if score >= least_score]
        found += [(score, encode_rle(mask)) for score, mask in good if mask.mean() >= least_share]
        if on_progress:
            on_progress(done + 1, side**2)
    if not found:
        raise UsageError(f"No mask of this photo reaches a score of {least_score:g}; allow a lower one.")
    return _assemble(_without_doubles(found, most_overlap), pixels.shape[:2], segmenter.name)


def _at_working_size(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo, made smaller if it is large."""
    import cv2

    scale = _WORKING_SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _without_doubles(found: list[tuple[float, Rle]], most_overlap: float) -> list[tuple[float, Rle]]:
    """Non-maximum suppression by mask IoU; what is kept, largest first."""
    from pycocotools import mask as coco

    ranked = sorted(found, key=lambda one: -one[0])
    rles = [rle for _, rle in ranked]
    overlap = np.asarray(coco.iou(rles, rles, [False] * len(rles)))
    kept: list[int] = []
    for k in range(len(rles)):
        if (overlap[k, kept] <= most_overlap).all():
            kept.append(k)
    return [ranked[k] for k in sorted(kept, key=lambda k: -int(coco.area(rles[k])))]


def _assemble(kept: list[tuple[float, Rle]], size: tuple[int, int], name: str) -> Everything:
    """The kept masks at the photo's size, one at a time."""
    label_map = np.zeros(size, np.int32)
    rles = []
    for number, (_, rle) in enumerate(kept, start=1):
        mask = masks.resize(decode_rle(rle), size)
        label_map[mask] = number
        rles.append(encode_rle(mask))
    return Everything(tuple(rles), np.array([score for score, _ in kept], np.float32), label_map, name)
