"""Samples and metadata out of Pillow images and arrays."""

from typing import IO, TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from ..errors import PhotoError, UsageError
from .metadata import metadata_of, orientation_of
from .raster import Raster

if TYPE_CHECKING:
    from PIL.Image import Image

_VIA = {"YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
_ROWS = 128
_BITS, _PHOTOMETRIC, _PLANAR, _EXTRA_SAMPLES = 258, 262, 284, 338
"""TIFF's tags: 0 is white if photometric is 0; colours lie plane by plane if planar is 2; extra samples of (1,) are an
alpha that the colours have been multiplied by."""


def from_pillow(image: "Image", name: str, file: IO[bytes] | None = None, frame: int = 0) -> Raster:
    """A Pillow image's picture; with the `file` behind it, 16-bit colour too."""
    samples, mode, palette = _pillow_samples(image, name, file, frame)
    orientation = orientation_of(image)
    metadata, warnings = metadata_of(image, turned=orientation in (5, 6, 7, 8))
    if image.mode == "CMYK" and _tiff_bits(image) == 16:
        warnings += ("the photo's 16 bits a sample were rounded to 8",)
    icc = image.info.get("icc_profile") or None
    return Raster(
        samples=turned(samples, orientation), mode=mode, palette=palette, icc=icc, metadata=metadata, warnings=warnings
    )


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
    image: "Image", name: str, file: IO[bytes] | None, frame: int
) -> tuple[Shaped[np.ndarray, "h w ..."], str, UInt8[np.ndarray, "n 4"] | None]:
    sixteen, tags = file is not None and _sixteen_bit(image), getattr(image, "tag_v2", {})
    image.load()
    if sixteen and file is not None:
        if tags.get(_PLANAR) == 2:
            raise PhotoError(f"{name} keeps its 16-bit colours plane by plane, which is not read: save it interleaved")
        see_through = image.mode in ("LA", "RGBA") or "transparency" in image.info
        samples, mode = _sixteen_bit_samples(file, frame, see_through)
        return _unassociated(samples) if tags.get(_EXTRA_SAMPLES) == (1,) else samples, mode, None
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        grey = np.asarray(image).astype(np.uint16)
        return ~grey if tags.get(_PHOTOMETRIC) == 0 else grey, "I;16", None
    if image.mode in _VIA:
        image = image.convert(_VIA[image.mode])
    if image.mode in ("1", "L", "RGB") and "transparency" in image.info:  # one colour that means transparent
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        raise PhotoError(
            f"{name} has {image.mode} samples, which are not shown as they are: convert it to 8 or 16 bits"
        )
    samples = _samples(image)
    return samples, image.mode, _palette_of(image, samples) if image.mode == "P" else None


def _samples(image: "Image") -> Shaped[np.ndarray, "h w ..."]:
    """A Pillow image's samples, some rows at a time: Pillow copies them twice on the way, and new memory costs time."""
    width, height = image.size
    first = np.asarray(image.crop((0, 0, width, min(_ROWS, height))))
    samples = np.empty((height, *first.shape[1:]), first.dtype)
    samples[:_ROWS] = first
    for top in range(_ROWS, height, _ROWS):
        samples[top : top + _ROWS] = np.asarray(image.crop((0, top, width, min(top + _ROWS, height))))
    return samples


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
    return image.mode in ("RGB", "RGBA", "RGBX") and _tiff_bits(image) == 16


def _tiff_bits(image: "Image") -> int:
    """Bits a sample of a TIFF; 8 for any other file."""
    return int(max(getattr(image, "tag_v2", {}).get(_BITS, (8,))))


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


def _unassociated(samples: UInt16[np.ndarray, "h w 4"]) -> UInt16[np.ndarray, "h w 4"]:
    """Samples whose colours have been multiplied by their alpha, without that."""
    colours, alpha = samples[..., :3].astype(np.uint32), samples[..., 3:]
    divided = np.minimum(colours * 65_535 // np.maximum(alpha, 1), 65_535).astype(np.uint16)
    return np.concatenate([divided, alpha], -1)


def from_array(array: Shaped[np.ndarray, "h w ..."]) -> Raster:
    """An array's picture, see `Photo.from_image`."""
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
        return Raster(samples=np.array(array), mode="1" if array.dtype == np.bool_ else "I;16" if deep else "L")
    return Raster(samples=np.array(array), mode=("RGB", "RGBA")[array.shape[2] - 3] + (";16" if deep else ""))
