"""Pure functions on masks: boolean arrays, height x width, True where the edit goes. None changes its input. Bytes, as
pictures of masks have them, are taken for masks too: from 128 on a pixel belongs.

Distances are Euclidean, in pixels. What lies beyond the photo's edge counts as more of the same: shrinking does not
eat a mask from the photo's border.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ..errors import UsageError
from ..photos.mask_files import fitted


def two_valued(mask: Bool[np.ndarray, "..."] | UInt8[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
    """A mask of bool or bytes as bool. Raises UsageError for anything else."""
    if not isinstance(mask, np.ndarray) or mask.dtype not in (np.bool_, np.uint8):
        kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise UsageError(f"A mask of {kind} is none of two values; give an array of bool, or of bytes (0 and 255).")
    return mask if mask.dtype == np.bool_ else mask >= 128


def grow(mask: Bool[np.ndarray, "H W"], pixels: float) -> Bool[np.ndarray, "H W"]:
    """Every pixel within `pixels` of the mask; a negative number shrinks."""
    mask = two_valued(mask)
    if pixels < 0:
        return shrink(mask, -pixels)
    if not mask.any():
        return mask.copy()
    return mask | (_distance_to(mask) <= pixels)


def shrink(mask: Bool[np.ndarray, "H W"], pixels: float) -> Bool[np.ndarray, "H W"]:
    """The pixels farther than `pixels` from everything outside the mask; a negative number grows."""
    return ~grow(~two_valued(mask), pixels) if pixels >= 0 else grow(mask, -pixels)


def feather(mask: Bool[np.ndarray, "H W"], pixels: float) -> Float[np.ndarray, "H W"]:
    """An alpha in [0, 1]: 1 on the mask, falling smoothly (3t² − 2t³) to 0 at `pixels` outside of it."""
    mask = two_valued(mask)
    if pixels <= 0 or not mask.any():
        return mask.astype(np.float32)
    near = np.clip(1 - _distance_to(mask) / np.float32(pixels), 0, 1)
    return near * near * (3 - 2 * near)


def invert(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The rest of the photo."""
    return ~two_valued(mask)


def union(*masks: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels in any of the masks."""
    return np.logical_or.reduce(_same_size(masks))


def intersect(*masks: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels in all of the masks."""
    return np.logical_and.reduce(_same_size(masks))


def fill_holes(mask: Bool[np.ndarray, "H W"], largest: float | None = None) -> Bool[np.ndarray, "H W"]:
    """Closes background that the mask encloses (all of it, or only holes of at most `largest` pixels)."""
    mask = two_valued(mask)
    labels, areas = _label(~mask, connectivity=4)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    hole = np.ones(len(areas), bool)
    hole[np.append(border, 0)] = False
    if largest is not None:
        hole &= areas <= largest
    return mask | hole[labels]


def drop_specks(mask: Bool[np.ndarray, "H W"], smallest: float = 0.02) -> Bool[np.ndarray, "H W"]:
    """Drops connected parts smaller than `smallest` times the largest part; the largest always stays."""
    labels, areas = _label(mask)
    areas[0] = 0
    return (areas > 0)[labels] & (areas >= smallest * areas.max())[labels]


def components(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "n H W"]:
    """The connected parts (diagonal neighbours touch), largest first."""
    labels, areas = _label(mask)
    order = 1 + np.argsort(-areas[1:], kind="stable")
    return labels[None] == order[:, None, None]


def bounding_box(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (right and bottom exclusive). Raises UsageError for an empty mask."""
    mask = two_valued(mask)
    if not mask.any():
        raise UsageError("The mask is empty; point at something else or draw it larger.")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def inner_point(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int]:
    """The pixel (x, y) of the mask deepest inside it, the photo's border counting as outside."""
    bounding_box(mask)
    y, x = np.unravel_index(int(np.argmax(_depth(mask))), mask.shape)
    return int(x), int(y)


def inner_depth(mask: Bool[np.ndarray, "H W"]) -> float:
    """How deep the deepest pixel lies; 0 for an empty mask."""
    return float(_depth(mask).max())


def resize(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The mask at another (height, width), its outline interpolated."""
    return fitted(two_valued(mask).astype(np.float32), size) >= 0.5


def iou(one: Bool[np.ndarray, "H W"], other: Bool[np.ndarray, "H W"]) -> float:
    """Intersection over union; 1 for two empty masks."""
    one, other = _same_size((one, other))
    together = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / together if together else 1.0


def _distance_to(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Each pixel's distance to the nearest pixel of the mask."""
    import cv2

    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _depth(mask: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Each pixel's distance to the nearest one outside the mask, the photo's border counting as outside."""
    return _distance_to(~np.pad(two_valued(mask), 1))[1:-1, 1:-1]


def _label(mask: Bool[np.ndarray, "H W"], connectivity: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The number of the connected part that each pixel belongs to (0: none), and the parts' areas."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(two_valued(mask).astype(np.uint8), connectivity=connectivity)
    return labels, stats[:, cv2.CC_STAT_AREA].copy()


def _same_size(masks: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """The masks as bool, if there are any and they agree in size. Raises UsageError otherwise."""
    if not masks:
        raise UsageError("Give at least one mask.")
    masks = [two_valued(mask) for mask in masks]
    shapes = sorted({mask.shape for mask in masks})
    if len(shapes) > 1:
        said = " and ".join(f"{shape[1]} x {shape[0]}" for shape in shapes)
        raise UsageError(f"Masks of {said} pixels cannot be combined; bring them to one size first.")
    return masks
