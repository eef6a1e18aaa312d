"""Masks in files: PNG (white = edit), COCO run lengths as JSON, a picture's alpha channel."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from ..errors import PhotoError, UsageError
from ..segmentation import masks
from .overlay import colours

Rle = dict[str, Any]
"""COCO run lengths: {"size": [height, width], "counts": text}."""

Channel = Literal["grey", "alpha"]
Fit = Literal["exact", "resize"]


def encode_rle(mask: Bool[np.ndarray, "H W"]) -> Rle:
    """The mask as compressed COCO run lengths that JSON can hold."""
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: Rle) -> Bool[np.ndarray, "H W"]:
    """The mask of COCO run lengths, compressed or as a list. Raises UsageError for anything else."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = np.asarray(counts if isinstance(counts, list) else _parse_runs(counts), np.int64)
        if (runs < 0).any() or runs.sum() != height * width:
            raise ValueError("the runs do not add up to the size")
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f'This is not a mask as COCO run lengths {{"size", "counts"}}: {error}.') from error
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T.copy()


def save_mask(mask: Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"], path: str | Path) -> None:
    """Writes a mask, white = edit, by the name's ending: .json as run lengths, else a greyscale picture (PNG, TIFF).

    A float alpha in [0, 1] keeps its 256 levels in a picture and is cut at 0.5 in JSON. Raises PhotoError where the
    file cannot be written, UsageError for another ending.
    """
    write_whole(Path(path), lambda aside: _write(mask, aside))


def save_labels(labels: Int[np.ndarray, "H W"], path: str | Path) -> None:
    """Writes a label map as a picture (PNG, TIFF): a palette of colours, 0 black, whose numbers are the labels; where a
    label is above 255, 16-bit grey. Raises as `save_mask` does."""
    from PIL import Image

    if labels.max() > 255:
        picture = Image.fromarray(labels.astype(np.uint16))
    else:
        picture = Image.fromarray(labels.astype(np.uint8))
        picture.putpalette(np.vstack([np.zeros((1, 3), np.uint8), colours(255)]).tobytes())
    write_whole(Path(path), picture.save)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a name beside `path`, then renames; folders are made. Raises PhotoError where the file cannot
    be written, UsageError for an ending that does not keep masks exactly."""
    if path.suffix.lower() not in (".png", ".tif", ".tiff", ".json"):
        raise UsageError(f"A mask is saved as .png, .tif or .json, which keep its outline exactly, not as {path.name}.")
    aside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise PhotoError(f"The mask cannot be written to {path}: {error}.") from error


def load_mask(
    path: str | Path, size: tuple[int, int] | None = None, *, channel: Channel = "grey", fit: Fit = "exact"
) -> Bool[np.ndarray, "H W"]:
    """Reads a mask: True where a picture is at least half white (with channel="alpha": half opaque), or from a .json of
    COCO run lengths.

    `size` is the photo's (height, width); a mask of another size is an error, or with fit="resize" brought to it.
    Pictures are turned as their EXIF says, as photos are. Raises PhotoError for a file that cannot be read, UsageError
    for a size that does not fit and for a mask without a single pixel.
    """
    alpha = load_alpha(path, channel=channel)
    mask = alpha >= 0.5
    if size is not None and mask.shape != tuple(size):
        if fit != "resize":
            raise UsageError(
                f"The mask {path} is {mask.shape[1]} x {mask.shape[0]} pixels and the photo {size[1]} x {size[0]}; "
                "give one of the same size, or --mask-fit resize."
            )
        mask = masks.resize(mask, size)
    if not mask.any():
        raise UsageError(f"The mask {path} is empty: nothing in it is at least half {_BRIGHT[channel]}.")
    return mask


def load_alpha(path: str | Path, *, channel: Channel = "grey") -> Float[np.ndarray, "H W"]:
    """Reads a mask with its levels in [0, 1]. Raises PhotoError for a file that cannot be read."""
    path = Path(path)
    try:
        if path.suffix.lower() == ".json":
            return decode_rle(json.loads(path.read_text("utf-8"))).astype(np.float32)
        return _read_picture(path, channel)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for broken PNG
        raise PhotoError(f"The mask {path} cannot be read: {error}.") from error


_BRIGHT = {"grey": "white", "alpha": "opaque"}


def _read_picture(path: Path, channel: Channel) -> Float[np.ndarray, "H W"]:
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        turned = ImageOps.exif_transpose(picture)
        if channel == "alpha":
            if not turned.has_transparency_data:
                raise UsageError(f"{path} has no alpha channel to take the mask from.")
            return np.asarray(turned.convert("RGBA"), np.float32)[..., 3] / 255
        if turned.mode.startswith("I;16"):
            return np.asarray(turned, np.float32) / 65535
        if turned.mode in ("I", "F"):
            raise UsageError(f"The mask {path} has {turned.mode} pixels; save it with 8 or 16 bits a pixel.")
        return np.asarray(turned.convert("L"), np.float32) / 255


def _write(mask: Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"], path: Path) -> None:
    from PIL import Image

    if path.suffix.lower() == ".json":
        path.write_text(json.dumps(encode_rle(mask >= 0.5)), "utf-8")
        return
    levels = np.round(np.clip(mask, 0, 1).astype(np.float32) * 255).astype(np.uint8)
    Image.fromarray(levels).save(path)


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
        if not piece & 32:
            if piece & 16:
                number -= 1 << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    return runs
