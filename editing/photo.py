"""A photo as people have it: opened from a file, shown as sRGB, given back as it was but for the edited place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from ..errors import InlayError, PhotoError, UsageError
from . import colour
from .metadata import NO_METADATA, Metadata, metadata_of, orientation_of

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from .save import Saved

    Picture = Image | np.ndarray | torch.Tensor

MAX_PIXELS = 178_956_970  # Pillow's own limit: 512 MB of RGB
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA")
_VIA = {"YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
_HEADER = Lock()
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
                return replace(_decoded(file, str(path), frame, max_pixels), path=path)
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
            return _from_pillow(image, *_pillow_samples(image, "the image"))
        if not isinstance(image, np.ndarray):
            image = image.detach().cpu().numpy()
            image = np.moveaxis(image[0] if image.ndim == 4 else image, 0, -1)
        return _photo(*_array_samples(image))

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


def _photo(
    samples: Shaped[np.ndarray, "h w ..."],
    mode: str,
    palette: UInt8[np.ndarray, "n 4"] | None = None,
    icc: bytes | None = None,
    metadata: Metadata = NO_METADATA,
    warnings: tuple[str, ...] = (),
) -> Photo:
    if icc is not None and not colour.usable(icc, mode):
        icc, warnings = (
            None,
            (*warnings, "the photo's colour profile is not one for its colours: they are taken as sRGB"),
        )
    pixels = np.ascontiguousarray(colour.to_srgb(samples, mode, palette, icc))
    if mode == "RGB" and colour.profile_of(icc, "RGB") is None:
        samples = pixels  # one array, not two alike
    return Photo(pixels, samples, mode, palette, icc, metadata, warnings=warnings)


@contextmanager
def _unlimited() -> Iterator[None]:
    """Pillow's own limit is a global; ours is an argument."""
    from PIL import Image

    with _HEADER:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decoded(file: IO[bytes], name: str, frame: int | None, max_pixels: int) -> Photo:
    from PIL import Image

    with _unlimited():
        image = Image.open(file, formats=_FORMATS)
        _refuse_bomb(image, name, max_pixels)
        # A phone's MPO is a JPEG with its depth or gain map behind it: the first picture is the photo.
        frames = getattr(image, "n_frames", 1)
        if frame is None and frames > 1 and image.format != "MPO":
            raise UsageError(f"{name} holds {frames} pictures: choose one with --frame N, 0 to {frames - 1}")
        if frame is not None and not 0 <= frame < frames:
            raise UsageError(f"{name} has no frame {frame}: it holds {frames}, counted from 0")
        if frames > 1:
            image.seek(frame or 0)
            _refuse_bomb(image, name, max_pixels)
    return _from_pillow(image, *_pillow_samples(image, name, file, frame or 0))


def _refuse_bomb(image: "Image", name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise PhotoError(
            f"{name} claims {image.width} × {image.height} pixels, more than the limit of {max_pixels}: "
            "if you trust it, raise the limit (max_pixels)"
        )


def _from_pillow(
    image: "Image", samples: Shaped[np.ndarray, "h w ..."], mode: str, palette: UInt8[np.ndarray, "n 4"] | None
) -> Photo:
    orientation = orientation_of(image)
    metadata, warnings = metadata_of(image, turned=orientation in (5, 6, 7, 8))
    icc = image.info.get("icc_profile") or None
    return _photo(turned(samples, orientation), mode, palette, icc, metadata, warnings)


def turned(samples: Shaped[np.ndarray, "h w ..."], orientation: int) -> Shaped[np.ndarray, "..."]:
    """Stored samples as EXIF `orientation` 1…8 wants them shown; any other number means 1."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return np.ascontiguousarray(samples)


def _pillow_samples(
    image: "Image", name: str, file: IO[bytes] | None = None, frame: int = 0
) -> tuple[Shaped[np.ndarray, "h w ..."], str, UInt8[np.ndarray, "n 4"] | None]:
    sixteen = file is not None and _sixteen_bit(image)
    image.load()
    if sixteen and file is not None:
        see_through = image.mode in ("LA", "RGBA") or "transparency" in image.info
        return *_sixteen_bit_samples(file, frame, see_through), None
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), "I;16", None
    if image.mode in _VIA:
        image = image.convert(_VIA[image.mode])
    if image.mode in ("1", "L", "RGB") and "transparency" in image.info:  # one colour that means transparent
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        raise PhotoError(
            f"{name} has {image.mode} samples, which are not shown as they are: convert it to 8 or 16 bits"
        )
    samples = np.array(image)
    return samples, image.mode, _palette_of(image, samples) if image.mode == "P" else None


def _palette_of(image: "Image", samples: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "n 4"]:
    palette = np.array(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)
    transparency = image.info.get("transparency", b"")
    named = transparency + 1 if isinstance(transparency, int) else len(transparency)
    if (missing := max(int(samples.max()) + 1, named) - len(palette)) > 0:  # entries in use but never given are black
        palette = np.concatenate([palette, np.full((missing, 4), (0, 0, 0, 255), np.uint8)])
    if isinstance(transparency, int):
        palette[transparency, 3] = 0
    else:
        palette[:named, 3] = np.frombuffer(transparency, np.uint8)
    return palette


def _sixteen_bit(image: "Image") -> bool:
    """Whether the file holds 16 bits a colour sample, which Pillow would halve."""
    if image.format == "PNG":
        return str(getattr(image, "tile", [None])[0].args).endswith("16B")
    bits = getattr(image, "tag_v2", {}).get(258, (8,))
    return image.mode in ("RGB", "RGBA", "RGBX") and max(bits) == 16


def _sixteen_bit_samples(file: IO[bytes], frame: int, alpha: bool) -> tuple[Shaped[np.ndarray, "h w ..."], str]:
    import cv2

    file.seek(0)
    stored = np.frombuffer(file.read(), np.uint8)
    read, pictures = cv2.imdecodemulti(stored, cv2.IMREAD_UNCHANGED, range=(frame, frame + 1))
    if not read:
        raise ValueError("its 16-bit samples cannot be decoded")
    samples = pictures[0]
    if samples.ndim == 2:
        return samples, "I;16"
    return samples[..., [2, 1, 0, 3] if alpha else [2, 1, 0]], "RGBA;16" if alpha else "RGB;16"


def _array_samples(array: Shaped[np.ndarray, "h w ..."]) -> tuple[Shaped[np.ndarray, "h w ..."], str]:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise UsageError(f"an image array must be (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), not {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise UsageError("an image of floats must hold values from 0 to 1, and no NaN")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype not in (np.bool_, np.uint8, np.uint16):
        raise UsageError(f"an image array must hold bool, uint8, uint16 or floats in [0, 1], not {array.dtype}")
    if array.dtype == np.bool_ and array.ndim == 3:
        array = array.astype(np.uint8) * 255
    deep = array.dtype == np.uint16
    if array.ndim == 2:
        return np.array(array), "1" if array.dtype == np.bool_ else "I;16" if deep else "L"
    return np.array(array), ("RGB", "RGBA")[array.shape[2] - 3] + (";16" if deep else "")
