"""From a `Selection` to the mask, or masks, of a photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from ..editing.job import POINTING, Selection
from ..errors import UsageError
from ..photos.mask_files import load_alpha, load_mask
from ..photos.photo import Photo
from ..segmentation import Masks, masks, pick, segment
from ..segmentation.pointing import Pick, prompts_for

Mask = Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"]


@dataclass(frozen=True)
class Selected:
    """The places that a selection means, one per box, file, or thing found, at the photo's size.

    `candidates` are what the segmenter offered for each place, best first; none where masks came from files.
    """

    parts: tuple[Mask, ...]
    candidates: tuple[Masks, ...] = ()

    @property
    def mask(self) -> Mask:
        """All places together."""
        return np.maximum.reduce(self.parts)

    @property
    def backend(self) -> str | None:
        return self.candidates[0].backend if self.candidates else None


def select(photo: Photo, selection: Selection, *, offline: bool = False) -> Selected:
    """The places that `selection` means on `photo`, refined as it says.

    Raises:
        UsageError: nothing is pointed at, two ways of pointing are mixed, a prompt leaves the photo, a mask of another
            size, or nothing is left of a mask.
        PhotoError: a mask file cannot be read.
        ModelError: the segmenter's weights are not at hand.
    """
    given = {name for name in POINTING if getattr(selection, name)}
    if not given:
        raise UsageError("Nothing is pointed at; give --point, --box, --select or --mask (or, to edit, --layout).")
    if len(given & {"text", "files"}) and len(given) > 1:
        raise UsageError("Choose one way to point: --point and --box together, or --select, or --mask.")
    if selection.files:
        return Selected(tuple(refined(read(file, photo, selection), selection) for file in selection.files))
    found = offered(photo, selection, offline)
    chosen = tuple(pick(one, picked(selection.pick)) for one in found)
    if not all(mask.any() for mask in chosen):
        raise UsageError(
            f"{found[0].backend} finds nothing there; point at the middle of the thing, or draw a closer box."
        )
    return Selected(tuple(refined(mask, selection) for mask in chosen), found)


def offered(photo: Photo, selection: Selection, offline: bool) -> tuple[Masks, ...]:
    """The segmenter's candidates for each thing that is pointed at."""
    options: Any = {"backend": selection.backend, "offline": offline}
    if selection.text:
        return (segment(photo, text=selection.text, **options),)
    height, width = photo.pixels.shape[:2]
    things = prompts_for((height, width), selection.points, selection.labels or None, selection.boxes)
    return tuple(
        segment(
            photo,
            points=thing.points.tolist(),
            labels=thing.labels.tolist(),
            boxes=() if thing.box is None else [thing.box.tolist()],
            **options,
        )
        for thing in things
    )


def picked(name: str) -> Pick:
    """What `pick` takes, from text."""
    return int(name) if name.isdecimal() else name  # type: ignore[return-value]  # `pick` refuses other names


def read(file: str, photo: Photo, selection: Selection) -> Mask:
    """A mask file at the photo's size."""
    height, width = photo.pixels.shape[:2]
    channel: Literal["alpha", "grey"] = "alpha" if selection.read == "alpha" else "grey"
    if selection.read != "opacity":
        return load_mask(file, (height, width), channel=channel, fit=selection.fit)
    load_mask(file, (height, width), fit=selection.fit)  # refuses another size and an empty mask
    return fitted(load_alpha(file), (height, width))


def fitted(levels: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """Levels in [0, 1] at another (height, width)."""
    import cv2

    if levels.shape == size:
        return levels
    return cv2.resize(levels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def refined(mask: Mask, selection: Selection) -> Mask:
    """Holes filled, grown, inverted, feathered: whatever the selection asks for.

    Raises:
        UsageError: nothing is left.
    """
    if mask.dtype != bool and (selection.fill_holes or selection.grow or selection.feather):
        mask = mask >= 0.5
    if selection.fill_holes:
        mask = masks.fill_holes(mask)
    if selection.grow:
        mask = masks.grow(mask, selection.grow)
    if selection.invert:
        mask = masks.invert(mask) if mask.dtype == bool else 1 - mask
    if not mask.any():
        raise UsageError("Nothing is left of the mask; shrink it less, or point at something else.")
    return masks.feather(mask, selection.feather) if selection.feather else mask
