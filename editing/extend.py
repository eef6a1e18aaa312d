"""A larger canvas around a photo, and the strips of it that are painted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..errors import UsageError
from ..photos import MAX_PIXELS
from ..photos.metadata import sized
from ..photos.photo import Photo
from .crop import Box
from .job import ExtendJob


def extended(photo: Photo, job: ExtendJob) -> tuple[Photo, Box]:
    """The photo on its larger canvas, its outermost pixels continued, and where on it the photo stands.

    Raises:
        UsageError: more pixels than any photo that would be opened.
    """
    width, height = photo.size
    left, top, size = pixels(job.left, width), pixels(job.top, height), extended_size(photo.size, job)
    if size[0] * size[1] > MAX_PIXELS:
        raise UsageError(f"The extended photo would be {size[0]} x {size[1]}, more than {MAX_PIXELS} pixels; add less.")
    inner = Box(left, top, left + width, top + height)
    margins = ((top, size[1] - inner.bottom), (left, size[0] - inner.right))
    photo = photo if photo.palette is None or photo.alpha is None else photo.expanded()

    def padded(array: np.ndarray) -> np.ndarray:
        return np.pad(array, (*margins, *((0, 0),) * (array.ndim - 2)), mode="edge")

    shown = padded(photo.pixels)
    samples = shown if photo.samples is photo.pixels else padded(photo.samples)
    if photo.alpha is not None:  # what is painted is there to be seen
        opacity = np.full(samples.shape[:2], np.iinfo(samples.dtype).max, samples.dtype)
        opacity[inner.slices] = photo.samples[..., -1]
        samples[..., -1] = opacity
    metadata = sized(photo.metadata, size)
    return replace(photo, pixels=shown, samples=samples, metadata=metadata), inner


def extended_size(size: tuple[int, int], job: ExtendJob) -> tuple[int, int]:
    """(width, height) of the canvas around a photo of `size`."""
    width, height = size
    across = pixels(job.left, width) + width + pixels(job.right, width)
    return across, pixels(job.top, height) + height + pixels(job.bottom, height)


def pixels(extent: str, side: int) -> int:
    """An extent of a job in pixels of a photo's side."""
    return round(float(extent[:-1]) / 100 * side) if extent.endswith("%") else int(extent)


def strips(size: tuple[int, int], inner: Box, native: int) -> list[Box]:
    """The places to paint on a canvas of `size` (width, height) around the photo at `inner`, one after the other.

    The strips at the left and right are as high as the photo, those above and below as wide as the canvas. A strip is
    cut along its length into pieces of half the model's side or, where it is thicker, of its thickness: the window
    around a piece then sees the photo at its own scale, and what was painted before it. Pieces at the photo come first,
    corners last.
    """
    width, height = size
    sides = (
        Box(0, inner.top, inner.left, inner.bottom),
        Box(inner.right, inner.top, width, inner.bottom),
        Box(0, 0, width, inner.top),
        Box(0, inner.bottom, width, height),
    )
    pieces = list[Box]()
    for side in sides:
        thickness, length = sorted((side.width, side.height)) if min(side.width, side.height) else (0, 0)
        upright = side.height >= side.width
        count = max(1, round(length / max(thickness, native // 2))) if thickness else 0
        edges = np.linspace(side.top if upright else side.left, side.bottom if upright else side.right, count + 1)
        for start, stop in pairwise(edges.round().astype(int).tolist()):
            cut = {"top": start, "bottom": stop} if upright else {"left": start, "right": stop}
            pieces.append(side._replace(**cut))
    return sorted(pieces, key=lambda piece: max(inner.left - piece.right, piece.left - inner.right, 0))
