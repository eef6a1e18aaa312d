"""What an edit did to the rest of the photo."""

from dataclasses import dataclass
from math import inf, log10

import numpy as np
from jaxtyping import Bool, UInt8
from skimage.metrics import structural_similarity

from ..errors import UsageError

ROUNDED = 10 * log10(255**2 * 12)
"""The PSNR in dB of what is lost by rounding to whole grey levels, 58.9: an exact copy counts so in a mean."""


def psnr(one: UInt8[np.ndarray, "... 3"], other: UInt8[np.ndarray, "... 3"]) -> float:
    """In dB, between the levels of two pictures; infinite where they are equal."""
    error = float(np.mean((one.astype(float) - other) ** 2))
    return 10 * log10(255**2 / error) if error else inf


@dataclass(frozen=True)
class BackgroundFidelity:
    """Outside the mask only: `psnr` in dB (inf if nothing changed), `ssim` in [-1, 1], `changed` a share of pixels."""

    psnr: float
    ssim: float
    changed: float


def background_fidelity(
    photo: UInt8[np.ndarray, "h w 3"], edited: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> BackgroundFidelity:
    """Compare the pixels outside `mask` (True where the edit was meant to be) of a photo and its edit.

    Raises UsageError if the sizes differ or the mask leaves no background.
    """
    if not photo.shape[:2] == edited.shape[:2] == mask.shape:
        raise UsageError(f"Photo, edit and mask differ in size: {photo.shape}, {edited.shape}, {mask.shape}.")
    outside = ~np.asarray(mask, bool)
    if not outside.any():
        raise UsageError("The mask covers the whole photo; there is no background to compare.")
    return BackgroundFidelity(
        psnr=psnr(photo[outside], edited[outside]),
        ssim=_ssim(photo, keep_background(photo, edited, mask), outside),
        changed=float((photo != edited).any(axis=-1)[outside].mean()),
    )


def keep_background(
    photo: UInt8[np.ndarray, "h w 3"], edited: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The edit's background with the photo inside the mask, for metrics that look at neighbourhoods."""
    return np.where(mask[..., None], photo, edited)


def _ssim(photo: np.ndarray, background: np.ndarray, outside: np.ndarray) -> float:
    """The mean outside the mask; what is too small for a window of three pixels goes on beyond its sides."""
    height, width = outside.shape
    beyond = (0, max(0, 3 - height)), (0, max(0, 3 - width)), (0, 0)
    photo, background = np.pad(photo, beyond, "edge"), np.pad(background, beyond, "edge")
    window = min(7, *((side - 1) // 2 * 2 + 1 for side in photo.shape[:2]))
    similarity = structural_similarity(photo, background, channel_axis=-1, win_size=window, full=True)[1]
    return float(similarity.mean(axis=-1)[:height, :width][outside].mean())
