"""A picture as a file holds it, and the modes that each format can hold."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Shaped, UInt8

from . import colour
from .metadata import NO_METADATA, Metadata

_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "RGB;16", "RGBA;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "RGB;16", "RGBA;16"),
}
_EIGHT_BIT = {"I;16": "L", "RGB;16": "RGB", "RGBA;16": "RGBA"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Raster:
    """A picture in display orientation; modes and samples as in `colour`."""

    samples: Shaped[np.ndarray, "h w ..."]
    mode: str
    palette: UInt8[np.ndarray, "n 4"] | None = None
    icc: bytes | None = None
    metadata: Metadata = NO_METADATA
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.samples.shape[1], self.samples.shape[0]

    @property
    def alpha(self) -> UInt8[np.ndarray, "h w"] | None:
        """Opacity, 0…255; None for an opaque picture."""
        return colour.alpha_of(self.samples, self.mode, self.palette)

    def shown(self) -> UInt8[np.ndarray, "h w 3"]:
        """The picture as 8-bit sRGB, without its alpha."""
        return np.ascontiguousarray(colour.to_srgb(self.samples, self.mode, self.palette, self.icc))

    def expanded(self) -> Self:
        """A greyscale or palette picture as RGB or RGBA of the same depth."""
        if self.palette is not None:
            channels = 3 if self.alpha is None else 4
            samples, mode = self.palette[:, :channels][self.samples], "RGBA"[:channels]
            return replace(self, samples=samples, mode=mode, palette=None)
        samples, mode = self.shown(), "RGB"
        if self.mode == "LA":
            samples, mode = np.dstack([samples, self.samples[..., 1]]), "RGBA"
        if self.mode == "I;16":
            known = colour.profile_of(self.icc, "L") is None
            deep = self.samples[..., None] if known else samples.astype(np.uint16) * 257
            samples, mode = np.broadcast_to(deep, samples.shape), "RGB;16"
        return replace(self, samples=samples, mode=mode, icc=None)

    def fitted(self, format: str) -> Self:
        """The picture in a mode that the format holds, with a warning for each thing it cannot."""
        allowed = _MODES[format]
        picture, alpha, losses = self, self.alpha, list[str]()
        if picture.mode == "CMYK" and "CMYK" not in allowed:
            picture = replace(picture, samples=picture.shown(), mode="RGB", icc=None)
            losses.append(f"{format} has no CMYK: the result is sRGB")
        if picture.samples.dtype == np.uint16 and "I;16" not in allowed:
            picture = replace(picture, samples=colour.eight_bit(picture.samples), mode=_EIGHT_BIT[picture.mode])
            losses.append(f"{format} has 8 bits a sample: the photo's 16 were rounded")
        if picture.mode == "1" and "1" not in allowed:
            picture = replace(picture, samples=colour.eight_bit(picture.samples), mode="L")
        if alpha is not None and "RGBA" not in allowed:
            picture = picture.expanded() if picture.mode == "P" else picture
            flat = colour.opaque(picture.samples[..., :-1], alpha)
            flat = flat[..., 0] if picture.mode == "LA" else flat
            picture = replace(picture, samples=flat, mode=picture.mode[:-1])
            losses.append(
                f"{format} has no transparency: the photo was laid on white; write PNG, WebP or TIFF to keep it"
            )
        if picture.mode not in allowed or (picture.mode == "P" and alpha is not None and format == "TIFF"):
            picture = picture.expanded()
        return replace(picture, warnings=(*picture.warnings, *losses))
