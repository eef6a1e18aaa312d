"""Between a photo's own samples and the 8-bit sRGB that the edit works in.

A photo's `mode` is one of Pillow's "1", "L", "LA", "P", "RGB", "RGBA", "CMYK", or "I;16", "RGB;16", "RGBA;16" for
16 bits a sample. Samples are (h, w) or (h, w, c) arrays: bool for "1", uint8, or uint16.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped, UInt8

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

GREY = ("1", "L", "LA", "I;16")


@dataclass(frozen=True)
class Profile:
    """A colour profile's ways to sRGB and back; None where it already is sRGB."""

    to_srgb: "ImageCmsTransform"
    from_srgb: "ImageCmsTransform"


def to_srgb(
    samples: Shaped[np.ndarray, "h w ..."], mode: str, palette: UInt8[np.ndarray, "n 4"] | None, icc: bytes | None
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as 8-bit sRGB, alpha left aside."""
    if palette is not None:
        return to_srgb(palette[None, :, :3], "RGB", None, icc)[0][samples]
    colour = colour_of(eight_bit(samples), mode)
    profile = profile_of(icc, _space(mode))
    if profile is None:
        if mode == "CMYK":
            return _converted(colour, "CMYK", "RGB")
        return np.repeat(colour[..., None], 3, -1) if colour.ndim == 2 else colour
    return _transformed(profile.to_srgb, colour, _space(mode))


def from_srgb(
    colours: UInt8[np.ndarray, "n 3"],
    mode: str,
    palette: UInt8[np.ndarray, "n 4"] | None,
    icc: bytes | None,
    replaced: Shaped[np.ndarray, "n ..."],
) -> Shaped[np.ndarray, "n ..."] | None:
    """`colours` as samples of `mode`, with the alpha of the samples they replace; None when the mode cannot hold them.

    Greyscale holds greys alone, 1-bit black and white, a palette its own colours.
    """
    if palette is not None:
        return _indices(colours, palette, icc, palette[replaced, 3])
    if mode in GREY and not (colours == colours[:, :1]).all():
        return None
    profile = profile_of(icc, _space(mode))
    if mode == "1":
        return colours[:, 0] > 0 if np.isin(colours, (0, 255)).all() else None
    if profile is not None:
        own = _transformed(profile.from_srgb, colours[None], "RGB")[0]
    elif mode == "CMYK":
        own = _converted(colours[None], "RGB", "CMYK")[0]
    else:
        own = colours[:, 0] if mode in GREY else colours
    if replaced.dtype == np.uint16:
        own = own.astype(np.uint16) * 257
    if mode in ("LA", "RGBA", "RGBA;16"):
        return np.concatenate([own.reshape(len(own), -1), replaced[:, -1:]], -1)
    return own


def eight_bit(samples: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Bits and 16-bit samples on the 0…255 scale, to the nearest; 8-bit ones as they are."""
    if samples.dtype == np.uint16:
        return ((samples - (samples >> 8) + 128) >> 8).astype(np.uint8)
    return samples.astype(np.uint8) * 255 if samples.dtype == bool else samples


def colour_of(samples: Shaped[np.ndarray, "h w ..."], mode: str) -> Shaped[np.ndarray, "h w ..."]:
    """The samples without alpha."""
    if mode == "LA":
        return samples[..., 0]
    return samples[..., :3] if mode.startswith("RGB") else samples


def alpha_of(
    samples: Shaped[np.ndarray, "h w ..."], mode: str, palette: UInt8[np.ndarray, "n 4"] | None
) -> UInt8[np.ndarray, "h w"] | None:
    """Opacity on the 0…255 scale; None for an opaque mode or palette."""
    if palette is not None:
        return palette[samples, 3] if (palette[:, 3] < 255).any() else None
    return eight_bit(samples[..., -1]) if mode in ("LA", "RGBA", "RGBA;16") else None


@lru_cache(maxsize=8)
def profile_of(icc: bytes | None, space: str) -> Profile | None:
    """The profile's transforms, or None for no profile and for sRGB itself.

    Relative colorimetric with black point compensation, as editors do. The profile must be `usable`.
    """
    if icc is None:
        return None
    from io import BytesIO

    from PIL import Image, ImageCms

    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    own, srgb = ImageCms.getOpenProfile(BytesIO(icc)), ImageCms.createProfile("sRGB")
    there = ImageCms.buildTransform(own, srgb, space, "RGB", intent, flags)
    back = ImageCms.buildTransform(srgb, own, "RGB", space, intent, flags)
    if space == "CMYK":
        return Profile(there, back)
    # Most profiles in the wild are sRGB under another name; a rounding error is no reason to touch every pixel.
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    probe = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    if space == "L":
        probe = np.repeat(levels[None, :, None], 3, -1)
    sent = Image.fromarray(probe if space == "RGB" else probe[..., 0])
    seen = np.asarray(ImageCms.applyTransform(sent, there)).astype(int)
    return None if np.abs(seen - probe).max() <= 1 else Profile(there, back)


def usable(icc: bytes, mode: str) -> bool:
    """Whether the profile can be read and is one for the mode's colours."""
    from PIL import ImageCms

    try:
        profile_of(icc, _space(mode))
    except (ImageCms.PyCMSError, OSError):
        return False
    return True


def _space(mode: str) -> str:
    return "L" if mode in GREY else "CMYK" if mode == "CMYK" else "RGB"


def _transformed(
    transform: "ImageCmsTransform", samples: UInt8[np.ndarray, "h w ..."], space: str
) -> UInt8[np.ndarray, "h w ..."]:
    from PIL import Image, ImageCms

    image = Image.fromarray(np.ascontiguousarray(samples), **({"mode": "CMYK"} if space == "CMYK" else {}))
    return np.asarray(ImageCms.applyTransform(image, transform))


def _converted(samples: UInt8[np.ndarray, "h w c"], mode: str, other: str) -> UInt8[np.ndarray, "h w d"]:
    from PIL import Image

    return np.asarray(Image.frombytes(mode, samples.shape[1::-1], samples.tobytes()).convert(other))


def _indices(
    colours: UInt8[np.ndarray, "n 3"],
    palette: UInt8[np.ndarray, "p 4"],
    icc: bytes | None,
    alpha: UInt8[np.ndarray, "n"],
) -> UInt8[np.ndarray, "n"] | None:
    shown = np.concatenate([to_srgb(palette[None, :, :3], "RGB", None, icc)[0], palette[:, 3:]], -1)
    wanted = np.concatenate([colours, alpha[:, None]], -1)
    index = {colour.tobytes(): number for number, colour in reversed(list(enumerate(shown)))}
    unique, inverse = np.unique(wanted, axis=0, return_inverse=True)
    numbers = [index.get(colour.tobytes(), -1) for colour in unique]
    return np.array(numbers, np.uint8)[inverse.reshape(-1)] if -1 not in numbers else None


def opaque(pixels: UInt8[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture on white paper, for formats without alpha."""
    weight = alpha[..., None].astype(np.uint16)
    return ((pixels * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)
