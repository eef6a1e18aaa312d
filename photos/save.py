"""Write a photo: whole or not at all, as much of it kept as the format can hold, and say what could not be."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from ..errors import PhotoError, UsageError
from . import colour
from .encode import encode
from .metadata import exif_with
from .photo import Photo, expanded

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "RGB;16", "RGBA;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "RGB;16", "RGBA;16"),
}
_EIGHT_BIT = {"I;16": "L", "RGB;16": "RGB", "RGBA;16": "RGBA"}
_LONGEST_SIDE = {"JPEG": 65_535, "WEBP": 16_383}


@dataclass(frozen=True)
class Saved:
    """Where a result went, what the format could not keep, and how many pixels it changed that no patch did."""

    path: Path
    warnings: tuple[str, ...]
    changed_outside: int  # 0 in PNG, WebP and TIFF; JPEG quantises every block anew


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    size: tuple[int, int] | None = None,
    formats: Mapping[str, str] = FORMATS,
) -> str:
    """The format that `path` asks for; call it before the long work, `save` calls it again.

    `size`: width and height to come. `formats`: those that may be written, by ending. Raises `UsageError` for a format
    that is not written or cannot be that large, and for a file that exists unless `overwrite`; `PhotoError` for a
    folder that may not be written to.
    """
    path = Path(path)
    format = formats.get(path.suffix.lower())
    if format is None:
        raise UsageError(f"{path} must end in one of {', '.join(formats)}: no other format is written")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists: choose another name or pass --overwrite (overwrite=True)")
    check_folder(path.parent, path)
    if size is not None and max(size) > _LONGEST_SIDE.get(format, max(size)):
        raise UsageError(f"{format} holds at most {_LONGEST_SIDE[format]} pixels a side: write PNG or TIFF")
    return format


def check_folder(folder: Path, wanted: Path) -> None:
    """Refuse, with a `PhotoError` that names `wanted`, a folder that cannot be made or may not be written to."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise PhotoError(f"{wanted} cannot be written: {there} is not a folder that you may write to")


def save(photo: Photo, path: Path, *, overwrite: bool, settings: dict[str, Any] | None, quality: int | None) -> Saved:
    """See `Photo.save`."""
    format = check_output(path, overwrite=overwrite, size=photo.size)
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"quality must be 1 to 100, not {quality}")
    kept = fitted(photo, format)
    if format == "JPEG" and len(exif_with(kept.metadata.exif, settings)) > _LONGEST_EXIF:
        bare = replace(kept.metadata, exif=b"")
        kept, settings = replace(kept, metadata=bare, warnings=(*kept.warnings, _TOO_LONG)), None
    write_file(path, encode(kept, format, settings, quality))
    return Saved(path, kept.warnings, _changed_outside(photo, path) if format == "JPEG" else 0)


_LONGEST_EXIF = 65_533
_TOO_LONG = (
    "the settings and the photo's EXIF do not fit into a JPEG (64 kB): the file has neither; write PNG to keep them"
)


def fitted(photo: Photo, format: str) -> Photo:
    """The photo in a mode that the format holds, with a warning for each thing it cannot."""
    allowed = _MODES[format]
    alpha, losses = photo.alpha, []
    if photo.mode == "CMYK" and "CMYK" not in allowed:
        photo = replace(photo, samples=photo.pixels, mode="RGB", icc=None)
        losses.append(f"{format} has no CMYK: the result is sRGB")
    if photo.samples.dtype == np.uint16 and "I;16" not in allowed:
        photo = replace(photo, samples=colour.eight_bit(photo.samples), mode=_EIGHT_BIT[photo.mode])
        losses.append(f"{format} has 8 bits a sample: the photo's 16 were rounded")
    if photo.mode == "1" and "1" not in allowed:
        photo = replace(photo, samples=colour.eight_bit(photo.samples), mode="L")
    if alpha is not None and "RGBA" not in allowed:
        if photo.mode == "P":
            photo = replace(photo, **expanded(photo))
        flat = colour.opaque(photo.samples[..., :-1], alpha)
        photo = replace(photo, samples=flat[..., 0] if photo.mode == "LA" else flat, mode=photo.mode[:-1])
        losses.append(f"{format} has no transparency: the photo was laid on white; write PNG, WebP or TIFF to keep it")
    if photo.mode not in allowed or (photo.mode == "P" and alpha is not None and format == "TIFF"):
        photo = replace(photo, **expanded(photo))
    return replace(photo, warnings=(*photo.warnings, *losses))


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside its place, then renamed. Folders are made.

    Raises `PhotoError` when the disk refuses; what stood at `path` is then still there.
    """
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name[:100]}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException as error:  # Ctrl-C too leaves no half file
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise PhotoError(f"{path} cannot be written: {error.strerror}") from error
        raise


def _changed_outside(photo: Photo, path: Path) -> int:
    differs = (Photo.open(path).pixels != photo.pixels).any(-1)
    return int(differs.sum() if photo.edited is None else (differs & ~photo.edited).sum())
