"""Mean intersection over union, with spill counted.

For a class that was asked for, IoU = |predicted ∩ asked| / |predicted ∪ asked| over all pixels of the image: a pixel of
the class outside every mask of it lowers the score. (Code published with these methods drops predictions on unlabelled
pixels, so that spilling there is free, and averages in a class that nobody asked for.) A class that was not asked for
is not averaged in, whatever was predicted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int
from scipy.ndimage import label

from ..errors import UsageError

ClassT = TypeVar("ClassT", str, int)


@dataclass(frozen=True)
class Overlap:
    """Pixels of a class in one image, or summed over several."""

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        return self.intersection / self.union


def class_overlap(predicted: Bool[np.ndarray, "h w"], asked: Bool[np.ndarray, "h w"]) -> Overlap:
    """How a class that was asked for in `asked` (not empty) overlaps with where it was found."""
    return Overlap(int((predicted & asked).sum()), int((predicted | asked).sum()))


COVERED = 0.5
"""Share of an instance's mask that its class must cover for the instance to count as there."""


def kept_apart(found: Bool[np.ndarray, "h w"], masks: Sequence[Bool[np.ndarray, "h w"]]) -> bool:
    """Whether instances of one class are objects of their own.

    Each mask is at least half covered by the class, and mostly by another connected part (4-neighbourhood) of it than
    any other mask.
    """
    parts = label(found)[0]
    inside = [np.bincount(parts[mask])[1:] for mask in masks]
    covered = all(counts.sum() >= COVERED * mask.sum() for counts, mask in zip(inside, masks, strict=True))
    return covered and len({int(counts.argmax()) for counts in inside}) == len(masks)


def pooled_iou(images: Iterable[Mapping[ClassT, Overlap]]) -> dict[ClassT, float]:
    """Each class's IoU over the pixels of all images that ask for it, as ZestGuide's tables count."""
    pooled: dict[ClassT, Overlap] = {}
    for image in images:
        for name, found in image.items():
            so_far = pooled.get(name, Overlap(0, 0))
            pooled[name] = Overlap(so_far.intersection + found.intersection, so_far.union + found.union)
    return {name: pooled[name].iou for name in sorted(pooled)}


def mean_iou(predicted: Int[np.ndarray, "*n h w"], asked: Int[np.ndarray, "*n h w"], unlabelled: int = 0) -> float:
    """Mean over the classes in `asked` of their IoU, pixels pooled over the images that ask for them; in [0, 1].

    Both are label maps with the same class ids (arrays or CPU tensors); `unlabelled` is the id in `asked` of pixels for
    which nothing was asked. Raises UsageError if the shapes differ or nothing was asked for at all.
    """
    predicted, asked = np.asarray(predicted), np.asarray(asked)
    if predicted.shape != asked.shape:
        raise UsageError(f"Label maps of shapes {predicted.shape} and {asked.shape} differ; resize one to the other.")
    height, width = asked.shape[-2:]
    pairs = zip(predicted.reshape(-1, height, width), asked.reshape(-1, height, width), strict=True)
    ious = pooled_iou(
        {label: class_overlap(found == label, wanted == label) for label in set(wanted.flat) - {unlabelled}}
        for found, wanted in pairs
    )
    if not ious:
        raise UsageError("The map of what was asked for has no labelled pixel; there is nothing to score.")
    return float(np.mean(list(ious.values())))
