"""The one contact sheet: rows of pictures with captions, and the preview of an edit."""

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, UInt8

from .overlay import overlay

if TYPE_CHECKING:
    from PIL.Image import Image

_GAP = 12  # pixels between pictures
Picture = UInt8[np.ndarray, "h w 3"]
Cell = tuple[Picture | None, str]
"""A picture, or None for an empty place, and its caption."""


def sheet(rows: Sequence[Sequence[Cell]], titles: Sequence[str] = (), legend: str = "", *, cell: int = 384) -> "Image":
    """Rows of pictures on white, each with its caption below it.

    `titles` stand above the columns, `legend` below everything. `cell`: the longer side of each picture, in pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(12 if cell < 256 else 14)
    line = 16 if cell < 256 else 20
    shown = [[None if picture is None else _scaled(picture, cell) for picture, _ in row] for row in rows]
    column = max([cell // 2, *(picture.width for row in shown for picture in row if picture)]) + _GAP
    letters = round(column / font.getlength("n"))
    above = [wrap(title, letters) for title in titles]
    below = [[wrap(caption, letters) for _, caption in row] for row in rows]
    tall = [max((picture.height for picture in row if picture), default=cell) for row in shown]
    deep = [line * max(map(len, captions)) + _GAP for captions in below]
    top = _GAP + line * max(map(len, above), default=0)
    width = max(column * max(map(len, rows)), round(font.getlength(legend)) + _GAP) + _GAP
    page = Image.new("RGB", (width, top + sum(tall) + sum(deep) + (line if legend else 0)), "white")
    draw = ImageDraw.Draw(page)

    def write(lines: Sequence[str], number: int, y: int) -> None:
        draw.multiline_text((_GAP + number * column, y), "\n".join(lines), fill="black", font=font, spacing=2)

    for number, title in enumerate(above):
        write(title, number, 4)
    for row, captions, height, rest in zip(shown, below, tall, deep, strict=True):
        for number, (picture, caption) in enumerate(zip(row, captions, strict=True)):
            if picture:
                page.paste(picture, (_GAP + number * column, top))
            write(caption, number, top + height + 2)
        top += height + rest
    draw.text((_GAP, top), legend, fill="black", font=font)
    return page


def preview(
    photo: Picture,
    mask: Bool[np.ndarray, "h w"],
    candidates: Sequence[Picture] = (),
    *,
    captions: Sequence[str] = (),
    window: tuple[slice, slice] = (slice(None), slice(None)),
    cell: int = 384,
) -> "Image":
    """Photo, photo under its mask in red, and each candidate, in rows of at most four.

    `captions`: one per candidate. `window`: rows and columns to show of all of them, such as those around a small mask.
    """
    pictures = [photo[window], overlay(photo[window], [mask[window]]), *(one[window] for one in candidates)]
    titles = ["photo", "mask", *captions, *[""] * (len(candidates) - len(captions))]
    cells = list(zip(pictures, titles, strict=True))
    return sheet([cells[first : first + 4] for first in range(0, len(cells), 4)], cell=cell)


def _scaled(picture: Picture, cell: int) -> "Image":
    from PIL import Image

    scale = cell / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return Image.fromarray(np.ascontiguousarray(picture)).resize(size)
