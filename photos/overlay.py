"""Masks drawn over their photo, to look at before an edit."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8

_GOLDEN = 0.618034  # of a turn: neighbours in the list get hues far apart


def colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """RGB colours that are easy to tell apart."""
    from colorsys import hsv_to_rgb

    shares = [hsv_to_rgb(k * _GOLDEN % 1, 0.85, 1.0) for k in range(count)]
    return np.round(255 * np.array(shares).reshape(count, 3)).astype(np.uint8)


def overlay(
    pixels: UInt8[np.ndarray, "H W 3"], shown: Sequence[Bool[np.ndarray, "H W"]], opacity: float = 0.5
) -> UInt8[np.ndarray, "H W 3"]:
    """The photo with each mask tinted in its own colour, its outline drawn full; later masks lie on top."""
    import cv2

    tinted = pixels.copy()
    width = max(1.0, max(pixels.shape[:2]) / 600)
    for mask, colour in zip(shown, colours(len(shown)), strict=True):
        tinted[mask] = np.round((1 - opacity) * tinted[mask] + opacity * colour).astype(np.uint8)
        inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        tinted[mask & (inside <= width)] = colour
    return tinted


def overlay_labels(
    pixels: UInt8[np.ndarray, "H W 3"], labels: Int[np.ndarray, "H W"], opacity: float = 0.5
) -> UInt8[np.ndarray, "H W 3"]:
    """The photo with each region of a label map (0: none) tinted in its own colour."""
    table = np.vstack([np.zeros((1, 3), np.uint8), colours(int(labels.max()))])
    tint = np.round((1 - opacity) * pixels + opacity * table[labels]).astype(np.uint8)
    return np.where(labels[..., None] > 0, tint, pixels)
