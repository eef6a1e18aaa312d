"""The one reader of picture files: photos, masks, label maps, layouts, results."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import IO, TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

from ..errors import InlayError, PhotoError, UsageError
from . import MAX_PIXELS
from .decode import from_pillow
from .metadata import orientation_of, settings_of
from .raster import Raster

if TYPE_CHECKING:
    from PIL.Image import Image

# Known by their content, whatever the name says, and all decoded in this process: EPS, say, would start Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "JPEG2000", "PPM", "TGA")
_READABLE = "PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF, HEIC, JPEG 2000, PPM and TGA are read"
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_RAW = {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
_HEADER = Lock()
STANDARD_INPUT = "-"
"""This name means standard input, which can be read once; a file of that name is `./-`."""
_MOST_PIPED = 2**30
"""Bytes of a photo that comes by standard input: more than any camera writes."""
_CHUNK = 2**20


def read(path: str | PathLike[str], *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> Raster:
    """The picture in a file, turned as its EXIF orientation says.

    `frame`: which picture of an animation or a multi-page file, from 0. `max_pixels`: refuse, from the header alone, a
    file that claims more. Raises `PhotoError` for what cannot be read, `UsageError` for a frame that is missing or
    needed.
    """
    with opened(path, max_pixels) as (image, file):
        _turn_to(image, path, frame, max_pixels)
        return from_pillow(image, _called(path), file, frame or 0)


def size_of(path: str | PathLike[str], *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of the picture that `read` would give, from the header alone. Raises as `read` does, but for
    what only decoding finds, as EXIF behind a PNG's pixels."""
    with opened(path, max_pixels) as (image, _):
        _turn_to(image, path, frame, max_pixels)
        width, height = image.size
        return (height, width) if orientation_of(image, header=True) > 4 else (width, height)


def _turn_to(image: "Image", path: str | PathLike[str], frame: int | None, max_pixels: int) -> None:
    """Choose one of several pictures in a file."""
    name = _called(path)
    with _unlimited():
        # A phone's MPO is a JPEG with its depth or gain map behind it: the first picture is the photo.
        frames = getattr(image, "n_frames", 1)
        if frame is None and frames > 1 and image.format not in ("MPO", "HEIF"):
            raise UsageError(f"{name} holds {frames} pictures: choose one with --frame N, 0 to {frames - 1}")
        if frame is not None and not 0 <= frame < frames:
            raise UsageError(f"{name} has no frame {frame}: it holds {frames}, counted from 0")
        if frame is not None and frames > 1:
            image.seek(frame)
            _refuse_bomb(image, name, max_pixels)


def read_settings(path: str | PathLike[str], *, max_pixels: int = MAX_PIXELS) -> dict[str, Any] | None:
    """The settings that `inlay` stored in a result; None if the picture carries none. Raises as `read` does."""
    with opened(path, max_pixels) as (image, _):
        return settings_of(image)


def require_file(path: Path) -> None:
    """Refuse, with a `PhotoError`, what is no file or empty; a pipe or a device is not touched, for it might hang."""
    if path.is_dir():
        raise PhotoError(f"{path} is a folder: name a file in it")
    if not path.exists():
        raise PhotoError(f"{path} does not exist: check its name")
    if not path.is_file():
        raise PhotoError(f"{path} is a pipe or a device: save the picture in a file first")
    if path.stat().st_size == 0:
        raise PhotoError(f"{path} is empty: it has no bytes")


@contextmanager
def opened(path: str | PathLike[str], max_pixels: int = MAX_PIXELS) -> Iterator[tuple["Image", IO[bytes]]]:
    """A file's picture, its header read, and the file; whatever decoders raise becomes a `PhotoError` in a sentence."""
    from PIL import UnidentifiedImageError

    name, start = _called(path), b""
    try:
        with _file(path) as file, catch_warnings():
            simplefilter("ignore")  # what decoders murmur about a file: either it is read or the error says why not
            start = file.read(12)
            image = _header(file, start)
            _refuse_bomb(image, name, max_pixels)
            yield image, file
    except (InlayError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise PhotoError(f"{name} {_what_it_is(start)}") from None
    except PermissionError:
        raise PhotoError(f"{name} may not be read: check its permissions") from None
    except Exception as error:  # decoders meet broken files with every kind of exception
        if "MAX_TEXT_CHUNK" in str(error) or "text chunks" in str(error):
            raise PhotoError(f"{name} carries more text than a picture should: save it without metadata") from error
        if isinstance(error, OSError) and error.strerror:
            raise PhotoError(f"{name} cannot be read: {error.strerror}") from error
        raise PhotoError(f"{name} is damaged or cut short: {error}") from error


def _called(path: str | PathLike[str]) -> str:
    return "standard input" if path == STANDARD_INPUT else str(path)


@contextmanager
def _file(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """The file of a picture, in which decoders can go to and fro."""
    if path == STANDARD_INPUT:
        with TemporaryFile() as kept:
            _pipe_into(kept)
            yield kept
        return
    path = Path(path)
    require_file(path)
    if path.suffix.lower() in _RAW:  # most are TIFFs whose first picture is a thumbnail
        raise PhotoError(f"{path} is a camera's raw file: develop it to a 16-bit TIFF or a JPEG first")
    with path.open("rb") as file:
        yield file


def _pipe_into(kept: IO[bytes]) -> None:
    """Standard input, to its end."""
    if sys.stdin.isatty():
        raise UsageError("Standard input is a terminal: send a photo into it, as in inlay edit - < photo.jpg")
    while block := sys.stdin.buffer.read(_CHUNK):
        if kept.tell() + len(block) > _MOST_PIPED:
            raise PhotoError(f"standard input brings more than {_MOST_PIPED} bytes: save the picture in a file first")
        kept.write(block)
    if not kept.tell():
        raise PhotoError("standard input is empty: it has no bytes")
    kept.seek(0)


@contextmanager
def _unlimited() -> Iterator[None]:
    """Pillow's own limit of pixels is a global; ours is an argument."""
    from PIL import Image

    with _HEADER:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _header(file: IO[bytes], start: bytes) -> "Image":
    from PIL import Image

    formats = (*_FORMATS, "HEIF") if _is_heic(start) and _heif() else _FORMATS
    with _unlimited():
        return Image.open(file, formats=formats)


def _is_heic(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC


def _heif() -> bool:
    """Whether Pillow can be taught HEIC, and does so."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _what_it_is(start: bytes) -> str:
    """The end of a sentence about a file that no decoder knows, by its first 12 bytes."""
    if _is_heic(start):
        return "is a HEIC picture: pip install 'inlay[heic]' to open it, or convert it to JPEG"
    if start[:2] == b"\xff\x0a" or start[4:8] == b"JXL ":
        return "is a JPEG XL picture: convert it to PNG or JPEG (djxl IN.jxl OUT.png)"
    return f"is not an image that can be read: {_READABLE}"


def _refuse_bomb(image: "Image", name: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise PhotoError(
            f"{name} claims {image.width} × {image.height} pixels, more than the limit of {max_pixels}: "
            "if you trust it, raise the limit (max_pixels)"
        )
