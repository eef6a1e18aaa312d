"""The window around a mask that the model works in: any photo size, any mask, the model's own size.

Memory follows the window: no array of the photo's size is made but the pooled mask that finds distant parts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from ..errors import UsageError

_CELLS = 64  # parts of a mask are told apart on a grid of this many cells along the longer side
_ENLARGE, _ASPECT = 4.0, 2.0


class Box(NamedTuple):
    """Half-open pixel bounds: columns left…right − 1, rows top…bottom − 1."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an (h, w, …) array of the photo."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def union(self, other: "Box") -> "Box":
        """The smallest box around both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def meets(self, other: "Box") -> bool:
        """Whether the two share a pixel."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


@dataclass(frozen=True)
class Crop:
    """A window of the photo and the size at which the model sees it.

    `box` has the aspect of `size` (to a pixel) and may stick out of a photo that is too small or too narrow; what
    sticks out is filled with the photo's border pixels on the way in and dropped on the way out.
    """

    box: Box
    size: tuple[int, int]  # width, height in the model's pixels
    photo: tuple[int, int]  # width, height of the photo

    @property
    def inside(self) -> Box:
        """The part of `box` that lies in the photo: where `restore` belongs."""
        width, height = self.photo
        left, top, right, bottom = self.box
        return Box(max(left, 0), max(top, 0), min(right, width), min(bottom, height))

    @property
    def scale(self) -> float:
        """Model pixels per photo pixel; below 1 the edit loses detail."""
        return self.size[0] / self.box.width

    def take(self, array: Shaped[np.ndarray, "H W ..."]) -> Shaped[np.ndarray, "h w ..."]:
        """The photo-sized `array` inside the window, at the photo's scale (a view)."""
        return array[self.inside.slices]

    def cut(self, pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The window at the model's size: averaged where it shrinks, cubic where it grows."""
        import cv2

        return _resized(self._padded(pixels, cv2.BORDER_REPLICATE), self.size)

    def cut_mask(self, mask: Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"]) -> Float[np.ndarray, "h w"]:
        """How much of each model pixel the mask covers, 0…1: averaged, so that one masked pixel never vanishes."""
        return self.covered(self.take(mask))

    def covered(self, mask: Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"]) -> Float[np.ndarray, "h w"]:
        """The same of a mask that was taken already."""
        import cv2

        window = self._padded(mask.astype(np.float32), cv2.BORDER_CONSTANT, taken=True)
        if self.scale < 1:
            return cv2.resize(window, self.size, interpolation=cv2.INTER_AREA).clip(
                0, 1
            )  # it overshoots by a bit or two
        return cv2.resize(window, self.size, interpolation=cv2.INTER_NEAREST_EXACT)

    def restore(self, pixels: Shaped[np.ndarray, "h w ..."]) -> Shaped[np.ndarray, "H W ..."]:
        """The model's picture of the window at the photo's scale, cut to `inside`."""
        box, inside = self.box, self.inside
        full = _resized(pixels, (box.width, box.height))
        return full[inside.top - box.top : inside.bottom - box.top, inside.left - box.left : inside.right - box.left]

    def _padded(
        self, array: Shaped[np.ndarray, "H W ..."], border: int, taken: bool = False
    ) -> Shaped[np.ndarray, "h w ..."]:
        import cv2

        box, inside = self.box, self.inside
        window = np.ascontiguousarray(array if taken else self.take(array))
        around = inside.top - box.top, box.bottom - inside.bottom, inside.left - box.left, box.right - inside.right
        return cv2.copyMakeBorder(window, *around, border) if any(around) else window


def crops_for(
    mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"],
    native: int,
    factor: int,
    *,
    context: float = 0.5,
    margin: float = 0,
    split: bool = True,
) -> list[Crop]:
    """The windows in which to edit `mask`: one, or several when its parts lie so far apart that one would cost detail.

    `native`: the side, in pixels, of the square the model was trained on; a window has about native² model pixels.
    `factor`: both sides of a window's size are multiples of it. `context`: what is seen beyond the mask on each side,
    in parts of its longer side; `margin`: in pixels, at least, so that a feather band fits in. A small mask's window
    is magnified `_ENLARGE` times at most, unless the photo itself is smaller. No window is longer than `_ASPECT` times
    its width; a thinner photo is padded.

    Every masked pixel lies in exactly one window. Raises `UsageError` for an empty mask.
    """
    if not mask.any():
        raise UsageError("the mask is empty: paint the place to edit white")
    height, width = mask.shape

    def crop(box: Box) -> Crop:
        return crop_around(box, (width, height), native, factor, context=context, margin=margin)

    whole = crop(bounds(mask))
    if not split or whole.scale >= 1:
        return [whole]
    groups: list[Box] = []
    for part in _parts(mask):
        while (near := next((group for group in groups if not _better_apart(crop, group, part)), None)) is not None:
            groups.remove(near)
            part = part.union(near)
        groups.append(part)
    return [crop(group) for group in groups]


def bounds(mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"]) -> Box:
    """The smallest box around every masked pixel; the mask must have one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def crop_around(
    mask: Box,
    photo: tuple[int, int],
    native: int,
    factor: int,
    *,
    context: float,
    margin: float,
) -> Crop:
    """The one window in which to edit a mask that fills this box; see `crops_for`. `photo` is (width, height)."""
    longer = max(mask.width, mask.height)
    side = max(ceil(longer * (1 + 2 * context)), ceil(longer + 2 * margin), ceil(native / _ENLARGE))
    width, height = min(side, photo[0]), min(side, photo[1])
    ratio = min(max(width / height, 1 / _ASPECT), _ASPECT)
    size = _snapped(native * sqrt(ratio), factor), _snapped(native / sqrt(ratio), factor)
    width, height = max(width, ceil(height * size[0] / size[1])), max(height, ceil(width * size[1] / size[0]))
    left = _placed((mask.left + mask.right) // 2, width, photo[0])
    top = _placed((mask.top + mask.bottom) // 2, height, photo[1])
    return Crop(Box(left, top, left + width, top + height), size, photo)


def _snapped(length: float, factor: int) -> int:
    return max(round(length / factor), 1) * factor


def _placed(centre: int, length: int, limit: int) -> int:
    """Where a window of `length` begins: around `centre`, inside the photo; in its middle if it is longer."""
    return (limit - length) // 2 if length > limit else min(max(centre - length // 2, 0), limit - length)


def _better_apart(crop: Callable[[Box], Crop], one: Box, other: Box) -> bool:
    """Whether two windows beat one: neither sees the other's mask, and one would cost both a third of their detail."""
    first, second, joint = crop(one), crop(other), crop(one.union(other))
    if first.inside.meets(other) or second.inside.meets(one):
        return False
    return joint.scale < 2 / 3 * min(first.scale, second.scale, 1)


def _parts(mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"]) -> list[Box]:
    """Boxes around the connected parts of the mask, told apart on a coarse grid: touching cells are one part."""
    import cv2

    cell = max(ceil(max(mask.shape) / _CELLS), 1)
    left, top, right, bottom = bounds(mask)
    left, top = left // cell * cell, top // cell * cell
    seen = mask[top:bottom, left:right] > 0
    rows, columns = np.arange(0, seen.shape[0], cell), np.arange(0, seen.shape[1], cell)
    cells = np.logical_or.reduceat(np.logical_or.reduceat(seen, rows, axis=0), columns, axis=1)
    _, _, stats, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8), connectivity=8)
    boxes = []
    for column, row, width, height, _ in stats[1:].tolist():
        x, y = column * cell, row * cell
        tight = bounds(seen[y : y + height * cell, x : x + width * cell])
        boxes.append(Box(left + x + tight.left, top + y + tight.top, left + x + tight.right, top + y + tight.bottom))
    return boxes


def _resized(pixels: Shaped[np.ndarray, "h w ..."], size: tuple[int, int]) -> Shaped[np.ndarray, "H W ..."]:
    import cv2

    smaller = size[0] < pixels.shape[1]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
