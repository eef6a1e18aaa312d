"""Put the edited place back into the photo and leave every other pixel alone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ..errors import UsageError

RING = 16  # pixels around the mask whose colours the patch is matched to

# cv2.seamlessClone erodes its mask by 3 pixels and fails on masks that touch its frame: room for both.
_MARGIN = 8


@dataclass(frozen=True)
class Composite:
    """The photo with the patch in it: `region`, mask and band, is where it may differ; `changed`, where it does."""

    pixels: UInt8[np.ndarray, "h w 3"]
    changed: Bool[np.ndarray, "h w"]
    region: Bool[np.ndarray, "h w"]

    @property
    def count(self) -> int:
        """How many pixels changed."""
        return int(self.changed.sum())


def composite(
    photo_pixels: UInt8[np.ndarray, "h w 3"],
    patch_pixels: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"],
    *,
    feather: float = 0.0,
    method: Literal["feather", "poisson"] = "feather",
    match_colour: bool = False,
    match_grain: bool = False,
) -> Composite:
    """Blend `patch_pixels` into `photo_pixels` where `mask` says so.

    `mask`: True, or opacity in [0, 1]. `feather`: width in pixels of the band outside the mask over which the patch
    fades out; every pixel beyond it is the photo's, byte for byte. "poisson" keeps the patch's gradients and the
    photo's colours at the border of mask and band (Pérez et al. 2003, `cv2.seamlessClone`). `match_colour` first
    brings the patch to the tone of the photo, see `matched`; `match_grain` gives it the photo's noise, see `grained`.

    Raises `UsageError` when the sizes differ, the band is negative or the method is unknown.
    """
    if not photo_pixels.shape == patch_pixels.shape == (*mask.shape, 3):
        photo, patch, place = (f"{one.shape[1]} x {one.shape[0]}" for one in (photo_pixels, patch_pixels, mask))
        raise UsageError(f"The photo is {photo} pixels, the patch {patch} and the mask {place}; give them one size.")
    if not feather >= 0:
        raise UsageError(f"feather must be 0 or more pixels, not {feather}")
    if method not in ("feather", "poisson"):
        raise UsageError(f"no such blending method: {method!r}; choose feather or poisson")
    if match_colour:
        patch_pixels = matched(patch_pixels, photo_pixels, mask)
    if match_grain:
        patch_pixels = grained(patch_pixels, photo_pixels, mask)
    opacity = opacity_of(mask, feather)
    region = opacity > 0
    if method == "poisson":
        blended = _cloned(photo_pixels, patch_pixels, region)
    else:
        weight = opacity[..., None]
        blended = np.rint(photo_pixels * (1 - weight) + patch_pixels * weight).astype(np.uint8)
    changed = region & (blended != photo_pixels).any(-1)
    return Composite(np.where(changed[..., None], blended, photo_pixels), changed, region)


def opacity_of(mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"], feather: float) -> Float[np.ndarray, "h w"]:
    """How much of the patch each pixel takes: 1 in the mask, falling to 0 over `feather` pixels outside it."""
    import cv2

    opacity = np.clip(mask, 0, 1).astype(np.float32)
    inside = opacity >= 0.5
    if feather == 0 or not inside.any():
        return opacity
    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.where(distance <= feather, 1 - distance / np.float32(feather + 1), 0)
    return np.maximum(
        opacity, ramp * ramp * (3 - 2 * ramp)
    )  # smoothstep: no visible line where the band begins or ends


def matched(
    patch_pixels: UInt8[np.ndarray, "h w 3"],
    photo_pixels: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The patch with the photo's mean, per channel, measured in a ring around the mask.

    Patch and photo show the same things in the ring, so what differs there is the tone shift of the autoencoder. Its
    contrast is left alone: what is blurred in the ring has less, and what is painted would get too much. Without a
    ring, as under a full mask, the patch comes back as is.
    """
    ring = ring_around(mask)
    if not ring.any():
        return patch_pixels
    shift = photo_pixels[ring].mean(0) - patch_pixels[ring].mean(0)
    return np.rint(patch_pixels + shift).clip(0, 255).astype(np.uint8)


def grained(
    patch_pixels: UInt8[np.ndarray, "h w 3"],
    photo_pixels: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The patch with as much noise as the photo has in a ring around the mask, where it has less.

    The noise is white, alike in all channels as most of a camera's is, and the same each time.
    """
    ring, inside = ring_around(mask), np.asarray(mask) >= 0.5
    if not ring.any() or not inside.any():
        return patch_pixels
    missing = noise_of(photo_pixels, ring) ** 2 - noise_of(patch_pixels, inside) ** 2
    if missing <= 0:
        return patch_pixels
    noise = np.random.default_rng(0).standard_normal((*inside.shape, 1)) * np.sqrt(missing)
    return np.rint(patch_pixels + noise).clip(0, 255).astype(np.uint8)


def noise_of(pixels: UInt8[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"]) -> float:
    """The standard deviation of the luminance's noise, in grey levels (Immerkaer 1996: the response to a kernel that
    is blind to edges and slopes; here the median of it, which texture moves less than the mean)."""
    import cv2

    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32), -1, kernel)
    # of white noise with deviation 1 the response has 6, and the median of a normal variable's size is .6745 of that
    return float(np.median(np.abs(response[where]))) / (6 * 0.6745)


def ring_around(mask: Bool[np.ndarray, "h w"] | Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels outside the mask that lie within `RING` of it."""
    import cv2

    outside = (np.asarray(mask) < 0.5).astype(np.uint8)
    if outside.all():
        return np.zeros(outside.shape, bool)
    return (outside > 0) & (cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= RING)


def _cloned(
    photo_pixels: UInt8[np.ndarray, "h w 3"], patch_pixels: UInt8[np.ndarray, "h w 3"], region: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    import cv2

    if not region.any() or region.all():  # nothing to fit, or nothing to fit to
        return patch_pixels
    # Beyond the frame stands the patch where the mask reaches the frame: there is no photo there to fit to.
    ground = np.where(region[..., None], patch_pixels, photo_pixels)
    margin = (_MARGIN,) * 4
    ground = cv2.copyMakeBorder(ground, *margin, cv2.BORDER_REPLICATE)
    ground[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = photo_pixels
    patch = cv2.copyMakeBorder(patch_pixels, *margin, cv2.BORDER_REPLICATE)
    grown = cv2.dilate(np.pad(region, _MARGIN).astype(np.uint8) * 255, np.ones((7, 7), np.uint8))
    left, top, width, height = cv2.boundingRect(grown)
    centre = (left + width // 2, top + height // 2)
    cloned = cv2.seamlessClone(patch, ground, grown, centre, cv2.NORMAL_CLONE)
    return cloned[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
