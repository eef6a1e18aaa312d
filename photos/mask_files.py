"""Masks in files: pictures (white = edit), COCO run lengths as JSON, a picture's alpha channel; and label maps."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from ..errors import PhotoError, UsageError
from . import MAX_PIXELS
from .colour import colour_of, eight_bit
from .overlay import colours
from .photo import Photo
from .raster import Raster
from .read import read, require_file
from .save import check_output, write_file

FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".json": "COCO run lengths"}
"""What a mask is saved as: formats that keep its outline exactly."""

_TINGE = 48
"""Grey levels by which a JPEG's channels may differ in what was drawn grey."""

Rle = dict[str, Any]
"""COCO run lengths: {"size": [height, width], "counts": text}."""

Channel = Literal["grey", "alpha"]
Fit = Literal["exact", "resize"]


def encode_rle(mask: Bool[np.ndarray, "H W"]) -> Rle:
    """The mask as compressed COCO run lengths that JSON can hold."""
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: Rle, *, max_pixels: int = MAX_PIXELS) -> Bool[np.ndarray, "H W"]:
    """The mask of COCO run lengths, compressed or as a list. Raises UsageError for anything else, and for more than
    `max_pixels`."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = [int(run) for run in counts] if isinstance(counts, list) else _parse_runs(counts)
        if min(height, width) < 1:
            raise ValueError(f"no mask has the size {width} x {height}")
        if min(runs, default=0) < 0 or sum(runs) != height * width:  # of Python's integers, which do not overflow
            raise ValueError("the runs do not add up to the size")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f'This is not a mask as COCO run lengths {{"size", "counts"}}: {error}.') from error
    if height * width > max_pixels:
        raise UsageError(
            f"The mask claims {width} × {height} pixels, more than the limit of {max_pixels}: raise the limit "
            "(max_pixels) if you trust it."
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T.copy()


def save_mask(mask: Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"], path: str | Path) -> None:
    """Writes a mask, white = edit, by the name's ending: .json as run lengths, else a greyscale picture (PNG, TIFF).

    A float alpha in [0, 1] keeps its 256 levels in a picture and is cut at 0.5 in JSON. Raises PhotoError where the
    file cannot be written, UsageError for another ending.
    """
    if Path(path).suffix.lower() == ".json":
        save_json(encode_rle(mask >= 0.5), path)
    else:
        _save(np.round(np.clip(mask, 0, 1).astype(np.float32) * 255).astype(np.uint8), path)


def save_labels(labels: Int[np.ndarray, "H W"], path: str | Path) -> None:
    """Writes a label map as a picture (PNG, TIFF): a palette of colours, 0 black, whose numbers are the labels; where a
    label is above 255, 16-bit grey. Raises as `save_mask` does."""
    if labels.max() > 255:
        _save(labels.astype(np.uint16), path)
        return
    table = np.vstack([np.zeros((1, 3), np.uint8), colours(255)])
    opaque = np.full((256, 1), 255, np.uint8)
    _save(labels.astype(np.uint8), path, np.hstack([table, opaque]))


def save_json(content: Any, path: str | Path) -> None:
    """Writes JSON as masks are written: whole or not at all, over what was there. Raises PhotoError."""
    write_file(Path(path), json.dumps(content).encode())


def _save(
    samples: Shaped[np.ndarray, "H W"], path: str | Path, palette: Shaped[np.ndarray, "256 4"] | None = None
) -> None:
    check_output(path, overwrite=True, formats=FORMATS)
    photo = Photo.from_image(samples)
    if palette is not None:
        photo = Photo(pixels=palette[:, :3][samples], samples=samples, mode="P", palette=palette)
    photo.save(path, overwrite=True)


def load_mask(
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    channel: Channel = "grey",
    fit: Fit = "exact",
    max_pixels: int = MAX_PIXELS,
) -> Bool[np.ndarray, "H W"]:
    """Reads a mask: True where `load_alpha` is at least half. Raises as that does, and UsageError for a mask without a
    single pixel and for one of several greys, which may be the numbers of a label map."""
    alpha = load_alpha(path, size, channel=channel, fit=fit, max_pixels=max_pixels)
    require_some(alpha, path, channel)
    if channel == "grey" and (greys := flat_greys(alpha)) > 2:
        raise UsageError(
            f"The mask {path} has {greys} greys, as a label map has: save the one place that you mean in white on "
            "black, or say --mask-read opacity where grey is to change less."
        )
    return alpha >= 0.5


def require_some(alpha: Float[np.ndarray, "H W"], path: str | Path, channel: Channel = "grey") -> None:
    """Refuse, with a UsageError, a mask that is nowhere at least half white."""
    if not (alpha >= 0.5).any():
        bright = "opaque" if channel == "alpha" else "white"
        raise UsageError(
            f"The mask {path} is empty: nothing in it is at least half {bright}, the most is {alpha.max():.0%}."
        )


def flat_greys(alpha: Float[np.ndarray, "H W"]) -> int:
    """How many greys stand side by side in areas: two in a mask, however soft its edges or noisy its JPEG."""
    import cv2

    around = np.ones((3, 3), np.uint8)
    flat = np.unique(alpha[cv2.erode(alpha, around) == cv2.dilate(alpha, around)])
    return 1 + int((np.diff(flat) > 0.03).sum()) if flat.size else 0


def load_alpha(
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    channel: Channel = "grey",
    fit: Fit = "exact",
    max_pixels: int = MAX_PIXELS,
) -> Float[np.ndarray, "H W"]:
    """Reads a mask with its levels in [0, 1]: how white a picture is (channel="alpha": how opaque), or a .json of COCO
    run lengths.

    `size` is the photo's (height, width); a mask of another size is an error, or with fit="resize" brought to it.
    Pictures are turned as their EXIF says, as photos are. Raises PhotoError for a file that cannot be read and for a
    picture of more than `max_pixels`, UsageError for run lengths of more, for a size that does not fit and for a label
    map, which says what is where, not how much.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        levels = _levels_of_json(path, max_pixels)
    else:
        levels = _levels(read(path, max_pixels=max_pixels), path, channel)
    if size is None or levels.shape == tuple(size):
        return levels
    if fit != "resize":
        raise UsageError(
            f"The mask {path} is {levels.shape[1]} x {levels.shape[0]} pixels and the photo {size[1]} x {size[0]}; "
            "give one of the same size, or --mask-fit resize."
        )
    return fitted(levels, size)


def fitted(levels: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """Levels at another (height, width), interpolated."""
    import cv2

    if levels.shape == tuple(size):
        return levels
    return cv2.resize(levels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def load_labels(path: str | Path) -> Int[np.ndarray, "H W"]:
    """Reads a label map: the numbers of a palette picture or of a grey one, 8 or 16 bits. Raises PhotoError for a file
    that cannot be read, UsageError for a picture in colour."""
    raster = read(path)
    if raster.samples.ndim != 2:
        raise UsageError(f"{path} is in colour; a label map has one channel, of category ids.")
    return raster.samples.astype(int)


def _levels_of_json(path: Path, max_pixels: int) -> Float[np.ndarray, "H W"]:
    try:
        require_file(path)
        content = json.loads(path.read_text("utf-8-sig"))
        if isinstance(content, list):
            raise UsageError(f"{path} holds {len(content)} masks; save the one that is meant as a file of its own.")
        return decode_rle(content, max_pixels=max_pixels).astype(np.float32)
    except (OSError, ValueError, RecursionError) as error:
        raise PhotoError(f"The mask {path} cannot be read: {error}.") from error


def _levels(raster: Raster, path: Path, channel: Channel) -> Float[np.ndarray, "H W"]:
    if channel == "alpha":
        if raster.alpha is None:
            raise UsageError(f"{path} has no alpha channel to take the mask from.")
        return raster.alpha / np.float32(255)
    if raster.palette is not None:
        samples: Shaped[np.ndarray, "H W ..."] = raster.palette[:, :3][raster.samples]
    else:
        samples = colour_of(raster.samples, raster.mode) if raster.mode != "CMYK" else raster.shown()
    if samples.ndim == 3:
        if np.ptp(eight_bit(samples), axis=-1).max() > _TINGE:
            raise UsageError(
                f"{path} is in colour, as a label map or a photo is, and says no more or less of a mask; save the one "
                "place that you mean in white on black."
            )
        samples = np.rint(samples @ np.array([0.299, 0.587, 0.114], np.float32))  # ITU-R BT.601, as Pillow's grey
        return np.clip(samples / (65535 if raster.samples.dtype == np.uint16 else 255), 0, 1).astype(np.float32)
    most = {"bool": 1, "uint8": 255, "uint16": 65535}[str(samples.dtype)]
    return samples.astype(np.float32) / most


def _parse_runs(counts: str) -> list[int]:
    """The runs of a compressed text: numbers of 5 bits a character, lowest first, each from the fourth on stored as its
    difference to the one two before (pycocotools' rleFrString, whose decoder leaves memory unset where runs are short).
    """
    runs: list[int] = []
    number = shift = 0
    for character in counts:
        piece = ord(character) - 48
        if not 0 <= piece < 64:
            raise ValueError(f"{character!r} stands for no number")
        number |= (piece & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("a run is longer than any picture")
        if not piece & 32:
            if piece & 16:
                number -= 1 << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return runs
