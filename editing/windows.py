"""The windows of a photo that an edit paints, and how what was painted comes back into the photo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ..diffusion.model import Model
from ..errors import UsageError
from ..guidance.regions import Region
from ..photos.photo import Photo
from .composite import composite
from .crop import Box, Crop, crop_around, crops_for
from .fill import filled
from .job import ExtendJob, Painting
from .sampling import Canvas

Mask = Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"]


@dataclass(frozen=True, eq=False)
class Window:
    """One window of a photo: where it lies, the place that is painted in it, and the regions that it sees.

    `place` is at the photo's scale, and nothing beyond the window: a wide strip has many of them. `cover` and `change`
    are at the model's: how much of each pixel the place covers, and how much of it is to change.
    """

    crop: Crop
    place: Mask
    cover: Float[np.ndarray, "h w"]
    change: Float[np.ndarray, "h w"]
    regions: tuple[Region, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in the model's pixels."""
        return self.crop.size[1], self.crop.size[0]


def windows_of(place: Mask, regions: Sequence[Region], job: Painting, model: Model) -> tuple[Window, ...]:
    """The windows in which a place is painted; each sees the parts of `regions` that lie in it."""
    native, margin = native_side(model), job.feather or 0
    masks = [region.tensor().numpy() for region in regions]
    made = []
    for crop in crops_for(place, native, model.grid, context=job.context, margin=margin, split=job.split):
        seen = [(region, crop.cut_mask(mask)) for region, mask in zip(regions, masks, strict=True)]
        own = tuple(replace(region, mask=part) for region, part in seen if part.any())
        change = crop.cut_mask(place)
        cover = change if place.dtype == bool else crop.cut_mask(place > 0)
        made.append(Window(crop, crop.take(place).copy(), cover, change, own))
    return tuple(made)


def windows_along(
    pieces: Iterable[Box], left: Bool[np.ndarray, "H W"], job: ExtendJob, model: Model
) -> tuple[Window, ...]:
    """The windows in which the pieces of `left`, what is not painted yet, are painted one after the other. Where the
    job has a method, each sees what is left as a region without words.

    The cost of each is its window's, so that a long strip costs what its windows do.
    """
    left, size, made = left.copy(), (left.shape[1], left.shape[0]), list[Window]()
    native, margin = native_side(model), job.feather or 0
    for piece in pieces:
        crop = crop_around(piece, size, native, model.grid, context=job.context, margin=margin)
        regions = (Region(crop.cut_mask(left), ()),) if job.method else ()
        place = crop.take(left).copy()
        left[piece.slices] = False
        place &= ~crop.take(left)  # the piece alone
        cover = crop.covered(place)
        made.append(Window(crop, place, cover, cover, regions))
    return tuple(made)


def native_side(model: Model) -> int:
    """The side in pixels of a square of the model's native area."""
    return round((model.native_size[0] * model.native_size[1]) ** 0.5)


def canvas_of(photo: Photo, window: Window, fill: str) -> Canvas:
    """The photo in a window, at the model's size, with `fill` where the place is."""
    shown = filled(window.crop.cut(photo.pixels), window.cover, fill)
    pixels = signed(shown)
    return Canvas(pixels, torch.from_numpy(window.cover), torch.from_numpy(window.change))


def edited_place(mask: Any, regions: Sequence[Region], size: tuple[int, int]) -> Mask:
    """The mask as bool, or as opacity where it is a float.

    Raises:
        UsageError: no mask, an empty one, values outside [0, 1], or another size than the photo's (width, height).
    """
    if mask is None:
        if not regions:
            raise UsageError("There is no mask; point at a place, or give a mask.")
        mask = np.max([region.tensor().numpy() for region in regions], axis=0)
    if isinstance(mask, Tensor):
        mask = mask.detach().cpu()
        mask = mask.float() if mask.is_floating_point() else mask
    array = np.asarray(mask)
    if array.ndim != 2:
        raise UsageError(f"The mask has shape {array.shape}; a mask is (height, width).")
    if array.shape != (size[1], size[0]):
        raise UsageError(
            f"The mask is {array.shape[1]}x{array.shape[0]} and the photo {size[0]}x{size[1]}; make them one size or "
            "let the mask be resized (--mask-fit resize)."
        )
    if array.dtype == np.uint8:
        array = array >= 128
    if array.dtype != bool:
        array = array.astype(np.float32)
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UsageError("The mask has values outside 0 to 1.")
    if not array.any():
        raise UsageError("The mask is empty; white means edit.")
    return array


def pasted(photo: Photo, patch: UInt8[np.ndarray, "h w 3"], window: Window, job: Painting, factor: int) -> Photo:
    """`photo` with a window's edit composited in; `factor` is the model's pixels per latent."""
    crop = window.crop
    cells = 2 if isinstance(job, ExtendJob) else 0.5
    feather = max(1.0, round(cells * factor / crop.scale)) if job.feather is None else job.feather
    made = composite(
        crop.take(photo.pixels),
        crop.restore(patch),
        window.place > 0,
        feather=feather,
        method=job.composite,
        match_colour=job.match_colour,
        match_grain=job.match_grain,
    )
    return photo.with_patch(made.pixels, made.region, at=(crop.inside.left, crop.inside.top))


def signed(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "1 3 H W"]:
    """Pixels as the model takes them, in [-1, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def eight_bit(pixels: Float[Tensor, "b 3 H W"]) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Pixels in [-1, 1] as bytes."""
    scaled = (pixels.float() / 2 + 0.5).clamp(0, 1).mul(255).round().byte()
    return [picture.permute(1, 2, 0).cpu().numpy() for picture in scaled]
