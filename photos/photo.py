"""A photo as people have it: opened from a file, shown as sRGB, given back as it was but for the edited place."""

from dataclasses import dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, UInt8

from ..errors import UsageError
from . import MAX_PIXELS, colour
from .decode import from_array, from_pillow
from .encode import encode
from .metadata import exif_with
from .raster import Raster
from .read import read
from .save import check_output, write_file

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    Picture = Image | np.ndarray | torch.Tensor

_VISIBLE = 8  # of 255: a colour that moves further is worth a warning
_NARROWER = " with the photo's profile cannot hold all of the edit's colours: the nearest were taken"
_LONGEST_EXIF = 65_533
_LONGEST_XMP, _LONGEST_COMMENT = 65_504, 65_533
_TOO_LONG = (
    "the settings and the photo's EXIF do not fit into a JPEG (64 kB): the file has neither; write PNG to keep them"
)


@dataclass(frozen=True)
class Saved:
    """Where a result went, what the format could not keep, and how many pixels it changed that no patch did."""

    path: Path
    warnings: tuple[str, ...]
    changed_outside: int  # 0 in PNG, TIFF and lossless WebP; JPEG quantises every block anew


@dataclass(frozen=True, eq=False, kw_only=True)
class Photo(Raster):
    """A photo in display orientation.

    `pixels` is what the edit sees: 8-bit sRGB. `samples` are the file's own (see `colour` for modes); `with_patch`
    changes both at the edited pixels alone, and `save` writes `samples` with profile, palette and metadata.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    edited: Bool[np.ndarray, "h w"] | None = None  # every pixel that a patch was allowed to change
    path: Path | None = None

    @classmethod
    def open(cls, path: str | PathLike[str], *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> "Photo":
        """Read PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF, JPEG 2000, PPM, TGA, or HEIC with the extra `inlay[heic]`.

        "-" is standard input. The photo is turned as its EXIF orientation says. `frame`: which picture of an animation
        or a multi-page file, from 0. `max_pixels`: refuse, from the header alone, a file that claims more. Raises
        `PhotoError` for what cannot be read, `UsageError` for a frame that is missing or needed.
        """
        return replace(_photo(read(path, frame=frame, max_pixels=max_pixels)), path=Path(path))

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
        if not hasattr(image, "detach"):
            kind = type(image).__name__
            raise UsageError(f"a photo is a Pillow image, an array or a tensor, not a {kind}; open files by Photo.open")
        if image.ndim not in (3, 4) or (image.ndim == 4 and len(image) > 1):
            raise UsageError(f"an image tensor must be (c, h, w) or (1, c, h, w), not {tuple(image.shape)}")
        plane = image.detach().cpu()
        array = (plane.float() if plane.is_floating_point() else plane).numpy()
        return _photo(from_array(np.moveaxis(array[0] if array.ndim == 4 else array, 0, -1)))

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
    ) -> Saved:
        """Write PNG, JPEG, WebP or TIFF, whole or not at all, with metadata and `settings` (JSON) inside.

        Folders are made; "-" is standard output, as a PNG. `quality`, 1…100: of a JPEG, default the source's own
        quantisation, or 95 without chroma subsampling; of a WebP, which is lossless without. Raises `UsageError` for a
        file that exists (unless `overwrite`) or a format that is not written, `PhotoError` when the disk or the format
        refuses.
        """
        path = Path(path)
        format = check_output(path, overwrite=overwrite, size=self.size, quality=quality)
        kept = self.fitted(format)
        if format == "JPEG" and len(exif_with(kept.metadata.exif, settings)) > _LONGEST_EXIF:
            bare = replace(kept.metadata, exif=b"")
            kept, settings = replace(kept, metadata=bare, warnings=(*kept.warnings, _TOO_LONG)), None
        if format == "JPEG":
            kept = _with_short_texts(kept)
        write_file(path, encode(kept, format, settings, quality))
        lossless = format != "JPEG" and quality is None
        changed, warnings = 0 if lossless else self._changed_outside(path), kept.warnings
        if changed and self.edited is not None:
            lost = (
                f"{format} is lossy: {changed} pixels outside the edit changed with it; write PNG or TIFF to keep them"
            )
            warnings = (*warnings, lost)
        return Saved(path, warnings, changed)

    def _changed_outside(self, path: Path) -> int:
        differs = (read(path, max_pixels=self.size[0] * self.size[1]).shown() != self.pixels).any(-1)
        return int(differs.sum() if self.edited is None else (differs & ~self.edited).sum())

    def _in_colour(self) -> "Photo":
        names = {"1": "black and white", "P": "limited to its palette"}
        warning = f"the photo is {names.get(self.mode, 'greyscale')} and the edit has other colours: the result is RGB"
        if self.mode != "P" and colour.profile_of(self.icc, "L") is not None:
            warning += " in sRGB, without the photo's greyscale profile"
        return replace(self.expanded(), warnings=(*self.warnings, warning))


def _with_short_texts(photo: Photo) -> Photo:
    """The photo without XMP or comment that does not fit into a JPEG's segment, and a warning for each."""
    metadata, lost = photo.metadata, []
    if len(metadata.xmp) > _LONGEST_XMP:
        metadata, lost = replace(metadata, xmp=b""), ["XMP"]
    if len(metadata.comment) > _LONGEST_COMMENT:
        metadata, lost = replace(metadata, comment=b""), [*lost, "comment"]
    why = "does not fit into a JPEG (64 kB): the file lacks it; write PNG to keep it"
    said = (f"the photo's {name} {why}" for name in lost)
    return replace(photo, metadata=metadata, warnings=(*photo.warnings, *said))


def _photo(raster: Raster) -> Photo:
    icc, warnings = raster.icc, raster.warnings
    if icc is not None and not colour.usable(icc, raster.mode):
        icc = None
        warnings += ("the photo's colour profile is not one for its colours: they are taken as sRGB",)
    raster = replace(raster, icc=icc, warnings=warnings)
    pixels, held = raster.shown(), {field.name: getattr(raster, field.name) for field in fields(Raster)}
    if raster.mode == "RGB" and colour.profile_of(icc, "RGB") is None:
        held["samples"] = pixels  # one array, not two alike
    return Photo(pixels=pixels, **held)
