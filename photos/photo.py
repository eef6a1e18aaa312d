"""A photo as people have it: opened from a file, shown as sRGB, given back as it was but for the edited place."""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from ..errors import InlayError, PhotoError
from . import MAX_PIXELS, colour
from .decode import Decoded, decode, from_array, from_pillow
from .metadata import NO_METADATA, Metadata

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from .save import Saved

    Picture = Image | np.ndarray | torch.Tensor

_VISIBLE = 8  # of 255: a colour that moves further is worth a warning
_NARROWER = " with the photo's profile cannot hold all of the edit's colours: the nearest were taken"


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo in display orientation.

    `pixels` is what the edit sees: 8-bit sRGB. `samples` are the file's own (see `colour` for modes); `with_patch`
    changes both at the edited pixels alone, and `save` writes `samples` with profile, palette and metadata.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    samples: Shaped[np.ndarray, "h w ..."]
    mode: str
    palette: UInt8[np.ndarray, "n 4"] | None = None
    icc: bytes | None = None
    metadata: Metadata = NO_METADATA
    edited: Bool[np.ndarray, "h w"] | None = None  # every pixel that a patch was allowed to change
    warnings: tuple[str, ...] = ()
    path: Path | None = None

    @classmethod
    def open(cls, path: str | PathLike[str], *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> "Photo":
        """Read PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF, JPEG 2000, PPM or TGA, turned as its EXIF orientation says.

        `frame`: which picture of an animation or a multi-page file, from 0. `max_pixels`: refuse, from the header
        alone, a file that claims more. Raises `PhotoError` for what cannot be read, `UsageError` for a frame that is
        missing or needed.
        """
        path = Path(path)
        from PIL import UnidentifiedImageError

        try:
            if not path.is_file():
                wrong = "is a folder, not a photo" if path.is_dir() else "does not exist, or is no file"
                raise PhotoError(f"{path} {wrong}")
            if path.stat().st_size == 0:
                raise PhotoError(f"{path} is empty: it has no bytes")
            with path.open("rb") as file, catch_warnings():
                simplefilter("ignore")  # what decoders murmur about a file: either it is read or the error says why not
                return replace(_photo(decode(file, str(path), frame, max_pixels)), path=path)
        except (InlayError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise PhotoError(f"{path} is not an image that can be read") from None
        except PermissionError:
            raise PhotoError(f"{path} may not be read: check its permissions") from None
        except Exception as error:  # decoders meet broken files with every kind of exception
            raise PhotoError(f"{path} is damaged or cut short: {error}") from error

    @classmethod
    def from_image(cls, image: "Picture") -> "Photo":
        """A Pillow image; an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4); or a tensor (c, h, w) or (1, c, h, w).

        Arrays and tensors hold bool, uint8, uint16, or floats in [0, 1]. Raises `UsageError` for anything else.
        """
        from PIL import Image

        if isinstance(image, Image.Image):
            return _photo(from_pillow(image, "the image"))
        if isinstance(image, np.ndarray):
            return _photo(from_array(image))
        array = image.detach().cpu().numpy()
        return _photo(from_array(np.moveaxis(array[0] if array.ndim == 4 else array, 0, -1)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def alpha(self) -> UInt8[np.ndarray, "h w"] | None:
        """Opacity, 0…255; None for an opaque photo."""
        return colour.alpha_of(self.samples, self.mode, self.palette)

    @property
    def image(self) -> "Image":
        """The photo as a Pillow image: 8-bit sRGB, with its alpha if it has one."""
        from PIL import Image

        alpha = self.alpha
        return Image.fromarray(self.pixels if alpha is None else np.dstack([self.pixels, alpha]))

    def with_patch(
        self, patch: UInt8[np.ndarray, "h w 3"], changed: Bool[np.ndarray, "h w"], at: tuple[int, int] = (0, 0)
    ) -> "Photo":
        """This photo with `patch`, whose top left pixel stands at column, row `at`, where `changed` says so.

        Everything else keeps its exact samples, mode and bit depth; alpha is kept everywhere. A mode that cannot hold
        the new colours (greyscale, a palette) gives way to RGB, which holds the old ones exactly; `warnings` says so.
        """
        left, top = at
        window = slice(top, top + patch.shape[0]), slice(left, left + patch.shape[1])
        edited = np.zeros(self.pixels.shape[:2], bool) if self.edited is None else self.edited.copy()
        edited[window] |= changed
        changed = changed & (patch != self.pixels[window]).any(-1)
        if not changed.any():
            return replace(self, edited=edited)
        photo, colours = self, patch[changed]
        own = colour.from_srgb(colours, self.mode, self.palette, self.icc, self.samples[window][changed])
        if own is None:
            photo = self._in_colour()
            own = colour.from_srgb(colours, photo.mode, None, photo.icc, photo.samples[window][changed])
            assert own is not None
        # What the samples now show: the patch itself, or what is left of it in a narrower colour space.
        shown = colour.to_srgb(own[None], photo.mode, photo.palette, photo.icc)[0]
        if (np.abs(shown.astype(int) - colours) > _VISIBLE).any():
            photo = replace(photo, warnings=(*photo.warnings, f"{photo.mode}{_NARROWER}"))
        pixels = photo.pixels.copy()
        pixels[window][changed] = shown
        samples = pixels
        if photo.samples is not photo.pixels:
            samples = photo.samples.copy()
            samples[window][changed] = own
        return replace(photo, pixels=pixels, samples=samples, edited=edited)

    def save(
        self,
        path: str | PathLike[str],
        *,
        overwrite: bool = False,
        settings: dict[str, Any] | None = None,
        quality: int | None = None,
    ) -> "Saved":
        """Write PNG, JPEG, WebP (lossless) or TIFF, whole or not at all, with metadata and `settings` (JSON) inside.

        Folders are made. `quality`: of a JPEG, 1…100; default the source's own quantisation, or 95 without chroma
        subsampling. Raises `UsageError` for a file that exists (unless `overwrite`) or a format that is not written,
        `PhotoError` when the disk or the format refuses.
        """
        from .save import save

        return save(self, Path(path), overwrite=overwrite, settings=settings, quality=quality)

    def _in_colour(self) -> "Photo":
        names = {"1": "black and white", "P": "limited to its palette"}
        warning = f"the photo is {names.get(self.mode, 'greyscale')} and the edit has other colours: the result is RGB"
        if self.mode != "P" and colour.profile_of(self.icc, "L") is not None:
            warning += " in sRGB, without the photo's greyscale profile"
        return replace(self, **expanded(self), warnings=(*self.warnings, warning))


def expanded(photo: Photo) -> dict[str, Any]:
    """A greyscale or palette photo's samples, mode, palette and icc as RGB or RGBA of the same depth."""
    if photo.palette is not None:
        channels = 3 if photo.alpha is None else 4
        samples, mode = photo.palette[:, :channels][photo.samples], "RGBA"[:channels]
        return {"samples": samples, "mode": mode, "palette": None, "icc": photo.icc}
    samples, mode = photo.pixels, "RGB"
    if photo.mode == "LA":
        samples, mode = np.dstack([photo.pixels, photo.samples[..., 1]]), "RGBA"
    if photo.mode == "I;16":
        known = colour.profile_of(photo.icc, "L") is None
        deep = photo.samples[..., None] if known else photo.pixels.astype(np.uint16) * 257
        samples, mode = np.broadcast_to(deep, photo.pixels.shape), "RGB;16"
    return {"samples": samples, "mode": mode, "palette": None, "icc": None}


def _photo(decoded: Decoded) -> Photo:
    samples, mode, palette, icc, metadata, warnings = decoded
    if icc is not None and not colour.usable(icc, mode):
        icc, warnings = (
            None,
            (*warnings, "the photo's colour profile is not one for its colours: they are taken as sRGB"),
        )
    pixels = np.ascontiguousarray(colour.to_srgb(samples, mode, palette, icc))
    if mode == "RGB" and colour.profile_of(icc, "RGB") is None:
        samples = pixels  # one array, not two alike
    return Photo(pixels, samples, mode, palette, icc, metadata, warnings=warnings)
