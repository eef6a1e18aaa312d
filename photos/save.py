"""Write files: whole or not at all, and only where nothing is lost."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ..errors import PhotoError, UsageError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
_LONGEST_NAME = 255
_LONGEST_SIDE = {"JPEG": 65_535, "WEBP": 16_383}


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
    return format


def check_folder(folder: Path, wanted: Path) -> None:
    """Refuse, with a `PhotoError` that names `wanted`, a folder that cannot be made or may not be written to."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise PhotoError(f"{wanted} cannot be written: {there} is not a folder that you may write to")


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside its place, then renamed. Folders are made.

    Raises `PhotoError` when the disk refuses; what stood at `path` is then still there.
    """
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


def leftovers(folder: Path) -> list[Path]:
    """Files in `folder` that `write_file` had begun when its process was killed."""
    return [path for path in folder.glob(".*.part") if re.fullmatch(r"\.[0-9a-f]{32}\.part", path.name)]
