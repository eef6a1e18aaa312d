"""What the hole holds before it is painted: much of what comes is decided by it where less than all is painted anew."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

GREY = 128
"""Of `neutral`: the middle of the scale, which a latent of zeros decodes to, roughly."""
RADIUS = 3
"""Pixels around the hole from which OpenCV's inpainting takes its colours."""


def filled(
    pixels: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"], how: str
) -> UInt8[np.ndarray, "h w 3"]:
    """A window with the pixels that `mask` touches replaced; without any other pixel the window comes back as it is.

    `how`: "keep" the photo (Blended Latent Diffusion); "blur" it; "neutral", a mean grey; "smooth", what is around
    continued inward (Telea 2004, `cv2.inpaint`); "border", each pixel the colour of the nearest one outside.
    """
    import cv2

    hole = np.asarray(mask) > 0
    if how == "keep" or hole.all() or not hole.any():
        return pixels
    if how == "smooth":
        return cv2.inpaint(pixels, hole.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)
    if how == "blur":
        side = max(pixels.shape[:2])
        inside = cv2.GaussianBlur(pixels, (0, 0), side / 16)
    elif how == "border":
        inside = nearest(pixels, hole)
    else:
        inside = np.full_like(pixels, GREY)
    return np.where(hole[..., None], inside, pixels)


def nearest(pixels: UInt8[np.ndarray, "h w 3"], hole: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Each pixel of the hole as the nearest one outside."""
    import cv2

    source = hole.astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(source, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[~hole]] = pixels[~hole]
    return colours[labels]
