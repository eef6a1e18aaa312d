"""The preview sheet: the photo, its mask and the candidates side by side."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, UInt8

from ..editing.crop import Box

if TYPE_CHECKING:
    from PIL.Image import Image

_RED = np.array([230, 40, 40], np.float32)
_GAP, _LINE = 12, 22  # pixels between pictures; height of a caption


def sheet(
    photo: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    candidates: Sequence[UInt8[np.ndarray, "h w 3"]] = (),
    *,
    captions: Sequence[str] = (),
    box: Box | None = None,
    cell: int = 384,
) -> "Image":
    """Photo, photo under its mask in red, and each candidate, in rows of at most four on white.

    `captions`: one per candidate. `box`: show this part of all of them, such as `Crop.inside` of a small mask.
    `cell`: the longer side of each picture, in pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    window = slice(None) if box is None else box.slices
    pictures = [photo[window], _overlaid(photo[window], mask[window]), *(candidate[window] for candidate in candidates)]
    titles = ["photo", "mask", *captions]
    height, width = pictures[0].shape[:2]
    scale = cell / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    columns = min(len(pictures), 4)
    step = max(size[0], cell // 2) + _GAP, size[1] + _LINE + _GAP
    page = Image.new("RGB", (columns * step[0] + _GAP, ceil(len(pictures) / columns) * step[1] + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for number, picture in enumerate(pictures):
        left, top = _GAP + number % columns * step[0], _GAP + number // columns * step[1]
        page.paste(Image.fromarray(np.ascontiguousarray(picture)).resize(size), (left, top))
        if number < len(titles):
            draw.text((left, top + size[1] + 3), titles[number], fill="black", font=font)
    return page


def _overlaid(photo: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    weight = 0.55 * mask[..., None].astype(np.float32)
    return np.rint(photo * (1 - weight) + _RED * weight).astype(np.uint8)
