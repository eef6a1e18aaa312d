"""Write files: whole or not at all, and only where nothing is lost."""

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ..errors import PhotoError, UsageError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
STANDARD_OUTPUT = Path("-")
"""This name means standard output, which takes one PNG."""
LOSSY = ("JPEG", "WEBP")
"""Formats that have a quality."""
_LONGEST_NAME = 255
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}


def check_output(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    size: tuple[int, int] | None = None,
    formats: Mapping[str, str] = FORMATS,
    quality: int | None = None,
) -> str:
    """The format that `path` asks for; call it before the long work, `save` calls it again.

    `size`: width and height to come. `formats`: those that may be written, by ending. `quality` as `Photo.save` takes
    it. Raises `UsageError` for a format that is not written, cannot be that large or has no quality, for a file that
    exists unless `overwrite`, and for a terminal; `PhotoError` for a folder that may not be written to.
    """
    path = Path(path)
    if path == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise UsageError("A terminal shows no pictures: send them to a file or a program, as in -o - > out.png")
        check_quality("PNG", quality)
        return "PNG"
    if too_long := [part for part in path.parts if len(os.fsencode(part)) > _LONGEST_NAME]:
        raise UsageError(
            f"{too_long[0][:40]}… is longer than the {_LONGEST_NAME} bytes of a file name: choose a shorter one"
        )
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
    check_quality(format, quality)
    return format


def check_quality(format: str, quality: int | None) -> None:
    """Refuse, with a `UsageError`, a quality that a format does not have."""
    if quality is None:
        return
    if format not in LOSSY:
        raise UsageError(f"{format} keeps every pixel and has no quality: leave it out, or write JPEG or WebP")
    if not 1 <= quality <= 100:
        raise UsageError(f"quality must be 1 to 100, not {quality}")


def check_folder(folder: Path, wanted: Path) -> None:
    """Refuse, with a `PhotoError` that names `wanted`, a folder that cannot be made or may not be written to."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise PhotoError(f"{wanted} cannot be written: {there} is not a folder that you may write to")


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside its place, then renamed. Folders are made.

    Raises `PhotoError` when the disk refuses; what stood at `path` is then still there.
    """
    if path == STANDARD_OUTPUT:
        _pipe_out(content)
        return
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{uuid4().hex}.part")
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


def _pipe_out(content: bytes) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # who reads has seen enough, as with any other program
        raise
    except OSError as error:
        raise PhotoError(f"standard output cannot be written: {error.strerror}") from error


def leftovers(folder: Path) -> list[Path]:
    """Files in `folder` that `write_file` had begun when its process was killed."""
    return [path for path in folder.glob(".*.part") if re.fullmatch(r"\.[0-9a-f]{32}\.part", path.name)]
