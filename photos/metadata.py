"""What a photo file says beside its pixels, and the settings that `inlay` stores in its results."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

_XMP_NUMBERS = re.compile(
    rb"""((?:tiff|exif):(Orientation|ImageWidth|ImageLength|PixelXDimension|PixelYDimension)\s*(?:=\s*["']|>)\s*)\d+"""
)  # as attributes or as elements
KEY = "inlay"  # the PNG text chunk, and the one key of the EXIF user comment
_ORIENTATION, _XMP = 274, 700
_USER_COMMENT, _WIDTH, _HEIGHT, _INTEROP = 0x9286, 0xA002, 0xA003, 0xA005
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
IPTC = 0x0404  # among the resources of Photoshop's block in a JPEG
_ASCII = b"ASCII\0\0\0"
# Tags that say how a file stores its pixels (TIFF 6.0, sections 3-8, 11-22), what Photo keeps elsewhere (274
# orientation, 700 XMP, 34675 ICC), and 34377, Photoshop's block with its thumbnail of the unedited photo.
_STORAGE = {*range(254, 267), 273, 274, *range(277, 282), 284, *range(288, 294), 301, 317, 318, 319, *range(320, 348)}
_STORAGE |= {*range(512, 522), 529, 530, 531, 532, 700, 34377, 34675}
# PNG texts that hold our settings, XMP and, as ImageMagick writes it, EXIF.
_KEPT_ELSEWHERE = (KEY, "XML:com.adobe.xmp", "Raw profile type exif")


@dataclass(frozen=True, eq=False)
class JpegCoding:
    """How a JPEG source was quantised, so that the result can be quantised alike."""

    tables: tuple[Int[np.ndarray, "8 8"], ...]
    subsampling: int  # Pillow's 0 4:4:4, 1 4:2:2, 2 4:2:0; any other becomes 0, which keeps more
    progressive: bool


@dataclass(frozen=True, eq=False)
class Metadata:
    """EXIF without orientation and thumbnail, PNG texts, XMP, comment, resolution, PNG gamma, JPEG coding, IPTC."""

    exif: bytes = b""
    texts: tuple[tuple[str, str], ...] = ()
    xmp: bytes = b""
    comment: bytes = b""
    dpi: tuple[float, float] | None = None
    gamma: float | None = None
    jpeg: JpegCoding | None = None
    iptc: bytes = b""


NO_METADATA = Metadata()


class _Text(str):
    """EXIF text that keeps its bytes: Pillow reads them as Latin-1, and would write "?" for each beyond ASCII."""

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        return super().encode("latin-1")


def metadata_of(image: "Image", turned: bool) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata of a loaded image, and a warning if it could not be read.

    `turned`: the photo is shown with width and height exchanged.
    """
    info = image.info
    xmp, comment, dpi = info.get("xmp", b""), info.get("comment", b""), info.get("dpi")
    texts = {key: value for key, value in getattr(image, "text", {}).items() if key not in _KEPT_ELSEWHERE}
    exif, shown = _exif_of(image, turned), image.size[::-1] if turned else image.size
    metadata = Metadata(
        exif=exif or b"",
        texts=tuple((key, str(value)) for key, value in texts.items()),
        xmp=upright(xmp.encode() if isinstance(xmp, str) else bytes(xmp), shown),
        comment=comment.encode() if isinstance(comment, str) else bytes(comment),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        gamma=info.get("gamma") if image.format == "PNG" else None,
        jpeg=_jpeg_of(image, turned),
        iptc=iptc if isinstance(iptc := info.get("photoshop", {}).get(IPTC, b""), bytes) else b"",
    )
    return metadata, () if exif is not None else ("the photo's EXIF cannot be read and is not kept",)


def orientation_of(image: "Image", header: bool = False) -> int:
    """EXIF orientation, 1 where there is none to apply; Pillow turns TIFFs itself as they load.

    `header`: nothing is decoded, so EXIF that a PNG has behind its pixels is not seen.
    """
    from PIL import Image

    read = Image.Image.getexif if header else type(image).getexif  # a PNG's own decodes it whole
    try:
        return 1 if image.format == "TIFF" else read(image).get(_ORIENTATION, 1)
    except Exception:  # see `_exif_of`
        return 1


def exif_with(exif: bytes, settings: dict[str, Any] | None, xmp: bytes = b"") -> bytes:
    """The photo's EXIF with the settings as user comment, and with XMP where a TIFF keeps it."""
    if settings is None and not xmp:
        return exif
    both = exif_from(exif)
    if settings is not None:
        both.get_ifd(EXIF_IFD)[_USER_COMMENT] = _ASCII + json.dumps({KEY: settings}).encode()
    if xmp:
        both[_XMP] = xmp
    return both.tobytes()


def sized(metadata: Metadata, size: tuple[int, int]) -> Metadata:
    """Metadata of a picture that is now of `size` (width, height): EXIF and XMP say so where they say a size."""
    metadata, exif = replace(metadata, xmp=upright(metadata.xmp, size)), exif_from(metadata.exif)
    camera = exif.get_ifd(EXIF_IFD)
    if _WIDTH not in camera:
        return metadata
    camera[_WIDTH], camera[_HEIGHT] = size
    return replace(metadata, exif=exif.tobytes())


def upright(xmp: bytes, size: tuple[int, int]) -> bytes:
    """XMP of a picture that is stored as it is shown, at `size` (width, height), where it says so at all."""
    width, height = size
    numbers = {b"ImageWidth": width, b"PixelXDimension": width, b"ImageLength": height, b"PixelYDimension": height}
    numbers[b"Orientation"] = 1
    return _XMP_NUMBERS.sub(lambda found: found[1] + b"%d" % numbers[found[2]], xmp)


def exif_from(exif: bytes) -> "Exif":
    """EXIF bytes, parsed; what is written of it again keeps its text's bytes."""
    from PIL.Image import Exif

    parsed = Exif()
    parsed.load(exif)
    for tags in (parsed, *(parsed.get_ifd(tag) for tag in (EXIF_IFD, GPS_IFD) if tag in parsed)):
        tags.update(_kept(tags))
    return parsed


def _kept(tags: Mapping[int, Any], leave: Collection[int] = ()) -> dict[int, Any]:
    """The tags but those to `leave`, with text whose bytes stay as they are."""
    return {tag: _Text(value) if isinstance(value, str) else value for tag, value in tags.items() if tag not in leave}


def settings_of(image: "Image") -> dict[str, Any] | None:
    """The settings that `inlay` stored in an opened picture file; None if it carries none."""
    stored = image.info.get(KEY) or getattr(image, "text", {}).get(KEY)  # chunks behind the samples: reads those too
    if isinstance(stored, str):
        return _parsed(stored)
    comment = _user_comment(image.getexif())
    return None if comment is None else comment[KEY]


def _parsed(stored: str) -> dict[str, Any] | None:
    try:
        settings = json.loads(stored)
    except (ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def _user_comment(exif: "Exif") -> dict[str, Any] | None:
    comment = exif.get_ifd(EXIF_IFD).get(_USER_COMMENT, b"")
    if not isinstance(comment, bytes) or not comment.startswith(_ASCII):
        return None
    wrapped = _parsed(comment[len(_ASCII) :].decode("ascii", "replace"))
    return wrapped if wrapped is not None and isinstance(wrapped.get(KEY), dict) else None


def _exif_of(image: "Image", turned: bool) -> bytes | None:
    from PIL.Image import Exif

    try:
        found, kept = image.getexif(), Exif()
        kept.update(_kept(found, leave={*_STORAGE, EXIF_IFD, GPS_IFD}))
        for ifd in (EXIF_IFD, GPS_IFD):
            if entries := found.get_ifd(ifd):
                kept.get_ifd(ifd).update(_kept(entries, leave={_INTEROP}))
        if _user_comment(found) is not None:
            del kept.get_ifd(EXIF_IFD)[_USER_COMMENT]
        camera = kept.get_ifd(EXIF_IFD)
        if _WIDTH in camera and _HEIGHT in camera:
            camera[_WIDTH], camera[_HEIGHT] = image.size[::-1] if turned else image.size
        return kept.tobytes() if len(kept) or camera or kept.get_ifd(GPS_IFD) else b""
    except Exception:  # cameras write EXIF that breaks the parser in any way; the photo is good without it
        return None


def _jpeg_of(image: "Image", turned: bool) -> JpegCoding | None:
    from PIL import JpegImagePlugin

    if image.format not in ("JPEG", "MPO"):
        return None
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    tables = [np.array(table).reshape(8, 8) for _, table in sorted(image.quantization.items())]
    subsampling = JpegImagePlugin.get_sampling(image)
    if turned:  # a turned photo's frequencies are turned too; 4:2:2 would be 4:4:0, which Pillow does not write
        tables = [table.T for table in tables]
        subsampling = 2 if subsampling == 2 else 0
    return JpegCoding(tuple(tables), max(subsampling, 0), bool(image.info.get("progressive")))
