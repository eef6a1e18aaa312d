"""From a photo and what a person points at to masks: the room's front door."""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from ..errors import UsageError
from .backends import load
from .masks import two_valued
from .protocol import Masks, Prompts, Segmenter, check_box, check_pixels, check_points

Pick = Literal["all", "largest", "best"] | int


def segment(
    photo: Any,
    *,
    points: Sequence[Sequence[float]] = (),
    labels: Sequence[int] | None = None,
    boxes: Sequence[Sequence[float]] = (),
    mask: Bool[np.ndarray, "H W"] | None = None,
    text: str | None = None,
    backend: str | Path | Segmenter = "auto",
    detector: str = "auto",
    offline: bool = False,
    device: str = "auto",
) -> Masks:
    """Masks of the thing that is pointed at, or described, best first.

    `photo` is a `Photo` or an array (H W 3 uint8, display orientation). `points` are (x, y) in its pixels, `labels` 1
    for this and 0 for not this, `boxes` (x0, y0, x1, y1), `mask` an earlier mask to start from. One box and the points
    together describe one thing. Several boxes are several things: each is segmented with the points inside it and all
    negative points, and the masks are joined. `text` finds every instance of what it says instead, by
    `detector` (see `text.find`). `backend` is "auto", "grabcut", a known model's name, a path to weights, a hub id, or
    a loaded segmenter; see `backends.load`, for `device`, too. A segmenter keeps the photos that it lately encoded, so
    that a second click is fast.

    Raises UsageError for prompts that cannot mean anything on this photo, ModelError for weights that cannot be had.
    """
    pixels = check_pixels(photo)
    if text is not None:
        if len(points) or len(boxes) or mask is not None:
            raise UsageError("Give either a text or points and boxes, not both.")
        from .text import find

        return find(pixels, text, detector=detector, backend=backend, offline=offline, device=device)
    prompts = prompts_for(pixels.shape[:2], points, labels, boxes, mask)
    encoded = load(backend, offline, device).encode(pixels)
    return reduce(_join, (encoded.predict(prompt) for prompt in prompts))


def prompts_for(
    size: tuple[int, ...],
    points: Sequence[Sequence[float]],
    labels: Sequence[int] | None,
    boxes: Sequence[Sequence[float]],
    mask: Bool[np.ndarray, "H W"] | None = None,
) -> list[Prompts]:
    """The prompts of each thing that is pointed at. Raises UsageError where they say nothing or leave the photo."""
    height, width = size[:2]
    xy, marks = check_points(points, labels, (height, width))
    corners = [check_box(box, (height, width)) for box in boxes]
    mask = None if mask is None else two_valued(mask)
    if mask is not None and mask.shape != (height, width):
        raise UsageError(
            f"The mask is {mask.shape[1]} x {mask.shape[0]} pixels and the photo {width} x {height}; they must agree."
        )
    if not corners and mask is None and not (marks == 1).any():
        wanted = "a point on the thing: all points say what it is not" if len(marks) else "a point, a box or a text"
        raise UsageError(f"Nothing is pointed at; give {wanted}.")
    if not corners:
        return [Prompts(xy, marks, None, mask)]
    inside = np.array([((xy >= box[:2]) & (xy < box[2:])).all(axis=1) for box in corners]).reshape(len(corners), -1)
    if not (inside.any(axis=0) | (marks == 0)).all():
        raise UsageError("With boxes each point that says 'this' must lie in one of them.")
    if len(corners) == 1:
        return [Prompts(xy, marks, corners[0], mask)]
    if mask is not None:
        raise UsageError("An earlier mask goes with one thing; give one box, or none.")
    return [
        Prompts(xy[own | (marks == 0)], marks[own | (marks == 0)], box)
        for box, own in zip(corners, inside, strict=True)
    ]


def pick(found: Masks, which: Pick = "best") -> Bool[np.ndarray, "H W"]:
    """One mask of several: the "best", the "largest", "all" of them joined, or the N-th counted from 1, best first."""
    if which == "all":
        return np.logical_or.reduce(found.masks)
    if which == "best":
        return found.best
    if which == "largest":
        return found.masks[int(np.argmax(found.masks.sum(axis=(1, 2))))]
    if not isinstance(which, int) or not 1 <= which <= len(found.masks):
        raise UsageError(
            f"There are {len(found.masks)} masks; pick all, largest, best, or a number from 1, not {which}."
        )
    return found.masks[which - 1]


def _join(one: Masks, other: Masks) -> Masks:
    """Two things as one: the k-th candidates joined, scored as the worse of the two."""
    count = min(len(one.masks), len(other.masks))
    return Masks(
        one.masks[:count] | other.masks[:count], np.minimum(one.scores[:count], other.scores[:count]), one.backend
    )
