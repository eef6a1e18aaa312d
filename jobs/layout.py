"""Layouts: a prompt and the places of its words, from a layout.json or a colour-coded picture.

    {"prompt": "a red apple, a cup and a cup on grass", "size": [512, 384],
     "regions": [{"words": "red apple", "box": [30, 200, 180, 350], "prompt": "a shiny red apple"},
                 {"words": "cup", "occurrence": 0, "polygon": [[200, 200], [300, 200], [250, 350]], "weight": 2},
                 {"words": "cup", "occurrence": 1, "mask": "cup.png", "fraction": 0.5},
                 {"words": "grass", "points": [[0, 380], [511, 380]], "radius": 8}]}

Those are all keys there are. Without `size`, coordinates are fractions of the picture, 0 to 1 (a radius: of its shorter
side); with `size`, [width, height], they are its pixels. x runs before y throughout the file.

A region has `words`, a phrase of the prompt or token indices [2, 3], and one shape: `box` [left, top, right, bottom],
`polygon`, `mask`, a picture file beside this one that is white where the words belong, or `points`, a stroke of
`radius` through them. It may have `weight` beside the other regions (1), `fraction` of the steps in which it is guided
(the method's), `occurrence` of words that stand in the prompt more than once, from 0 (all), and a `prompt` of its own
for MultiDiffusion (the words).
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from ..errors import PhotoError, UsageError
from ..guidance.regions import Region
from ..photos.mask_files import load_alpha
from ..photos.read import read

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

CANVAS = (512, 512)
"""(height, width) on which relative shapes are drawn where nobody knows the picture's size."""

FINE = 4
"""Samples per pixel and side by which a polygon's coverage of a pixel is measured."""

LEAF = 96
"""Pixels a side of the parts of a picture in which a stroke is painted pixel by pixel."""

MOST = 100_000_000
"""Pixels of a layout: more than photos have, and refused before memory is taken."""

Mask = Float[np.ndarray, "H W"]


@dataclass(frozen=True)
class Layout:
    """What stands where: regions may overlap, and each of them is then guided in what they share.

    `read_layout` reads it from a layout.json, whose keys `help(inlay.jobs.layout)` shows: fractions of the picture
    without a size, pixels with one. `read_colour_layout` reads it from a picture.
    """

    prompt: str
    regions: tuple[Region, ...]
    size: tuple[int, int] | None = None
    """(height, width) of the picture in pixels; None: the model's own, which is taken to be square."""
    warnings: tuple[str, ...] = ()


class _Stated(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_Point = tuple[FiniteFloat, FiniteFloat]
_Side = Annotated[int, Field(gt=0)]


class _Shape(_Stated):
    """One region as the file states it; the descriptions say what a key must be, in messages."""

    words: Annotated[str, Field(min_length=1)] | Annotated[list[int], Field(min_length=1)] = Field(
        description="a phrase of the prompt, or a list of token indices"
    )
    mask: str | None = Field(None, description="the name of a picture file, white where the words belong")
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        None, description="four numbers, [left, top, right, bottom]"
    )
    polygon: Annotated[list[_Point], Field(min_length=3)] | None = Field(
        None, description="three points or more, [[x, y], [x, y], [x, y]]"
    )
    points: Annotated[list[_Point], Field(min_length=1)] | None = Field(
        None, description="one point or more, [[x, y], [x, y]]"
    )
    radius: Annotated[FiniteFloat, Field(gt=0)] | None = Field(None, description="a number above 0")
    prompt: str | None = Field(None, description="a text")
    weight: FiniteFloat = Field(1.0, gt=0, description="a number above 0")
    fraction: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = Field(None, description="a number from 0 to 1")
    occurrence: Annotated[int, Field(ge=0)] | None = Field(None, description="a whole number, 0 for the first")

    @model_validator(mode="after")
    def _one_shape(self) -> _Shape:
        given = [name for name in ("mask", "box", "polygon", "points") if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of mask, box, polygon and points, not {said}")
        if (self.points is None) != (self.radius is None):
            raise ValueError("give points and radius together, or neither")
        return self

    @property
    def corners(self) -> list[_Point]:
        """Every coordinate pair that must lie in the picture."""
        return (self.polygon or self.points or []) if self.box is None else [self.box[:2], self.box[2:]]

    def draw(self, canvas: tuple[int, int], scale: tuple[float, float]) -> Mask:
        """The mask on `canvas` (height, width); `scale` (x, y) takes the file's coordinates to its pixels.

        A pixel's value is the share of it that is covered; a scribble is a stroke through its points in order.
        """
        corners = np.array(self.corners) * scale
        if self.box is not None:
            (x0, y0), (x1, y1) = corners
            return _covered(y0, y1, canvas[0])[:, None] * _covered(x0, x1, canvas[1])
        if self.polygon is not None:
            filled = _filled(corners, canvas)
            if not filled.any():
                raise UsageError(
                    f"The polygon of region {self.words!r} has no area; give three points or more that are not on one "
                    "line."
                )
            return filled
        assert self.radius is not None
        return _stroke(corners, self.radius * min(scale), canvas)


class _File(_Stated):
    prompt: str = Field(description="a text")
    size: tuple[_Side, _Side] | None = Field(None, description="two whole numbers above 0, [width, height]")
    regions: list[_Shape] = Field(
        min_length=1, description='a list of one region or more, [{"words": "cat", "box": [left, top, right, bottom]}]'
    )


def read_layout(path: str | PathLike[str], size: tuple[int, int] | None = None) -> Layout:
    """A layout.json, its keys as `help(inlay.jobs.layout)` shows; mask files are named relative to it.

    `size` is the picture's (height, width) where neither the file nor a mask in it has one.

    Raises:
        UsageError: the file is missing or no layout: broken JSON, an unknown key, a region that is empty or outside
            the picture, a mask of another size, a weight that is not above 0.
        PhotoError: a mask file cannot be read.
    """
    path = Path(path)
    try:
        stated = _File.model_validate_json(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"The layout {path} cannot be read ({error.strerror}); name a layout.json.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The layout {path} is not text in UTF-8; save it as JSON.") from error
    except ValidationError as error:
        raise UsageError(f"The layout {path} has a mistake: {_sentence(error.errors())}") from error
    if stated.size and math.prod(stated.size) > MOST:
        raise UsageError(
            f'The layout {path} is {stated.size[0]} x {stated.size[1]} pixels, more than {MOST}; leave out "size" and '
            "give fractions, 0 to 1."
        )
    masks = _read_masks(path.parent, stated)
    known = stated.size[::-1] if stated.size else next((mask.shape for mask in masks.values()), size)
    canvas = known or CANVAS
    scale = (1.0, 1.0) if stated.size else (float(canvas[1]), float(canvas[0]))
    for shape in stated.regions:
        _check_inside(shape, stated.size)
    regions = tuple(
        Region(
            masks[shape.mask] if shape.mask is not None else shape.draw(canvas, scale),
            shape.words,
            shape.prompt,
            shape.weight,
            shape.fraction,
            shape.occurrence,
        )
        for shape in stated.regions
    )
    return Layout(stated.prompt, regions, known)


def read_colour_layout(path: str | PathLike[str], words: Mapping[str, str], prompt: str) -> Layout:
    """A colour-coded picture (PNG): each colour of `words` ("#ff0000", "red") is the region of its phrase.

    All other colours, and transparent pixels, are background. Colours are matched exactly, so the picture must have
    been drawn without smoothing and saved without loss. The order of `words` does not matter.

    Raises:
        UsageError: no colour stated, one that is no colour, stated twice, or not in the picture; an empty prompt.
        PhotoError: the picture cannot be read.
    """
    try:
        picture = read(path)
    except PhotoError as error:
        raise PhotoError(f"{error}; a layout is a layout.json or a picture") from error
    if not prompt.strip():
        raise UsageError(f"The picture {path} says where, not what: give a prompt that has its words (--prompt TEXT).")
    colours = picture.shown().astype(np.int64) @ (1 << 16, 1 << 8, 1)
    if picture.alpha is not None:
        colours[picture.alpha < 128] = -1
    present, counts = np.unique(colours[colours >= 0], return_counts=True)
    phrases = _by_colour(words)
    missing = [colour for colour in phrases if colour not in present]
    if missing:
        most = present[np.argsort(-counts, kind="stable")][:8]
        raise UsageError(
            f"The colour {_hex(missing[0])} of {phrases[missing[0]]!r} is not in {path}, whose most frequent colours "
            f"are {', '.join(map(_hex, most)) or 'none'}."
        )
    regions = tuple(
        Region((colours == colour).astype(np.float32), phrase) for colour, phrase in sorted(phrases.items())
    )
    spare = [colour for colour, count in zip(present, counts, strict=True) if count >= 0.01 * colours.size]
    spare = [colour for colour in spare if colour not in phrases]
    warnings: tuple[str, ...] = ()
    if len(spare) > 1:
        warnings = (f"The colours {', '.join(map(_hex, spare))} have no words: they are all taken as background.",)
    return Layout(prompt, regions, (colours.shape[0], colours.shape[1]), warnings)


def _by_colour(words: Mapping[str, str]) -> dict[int, str]:
    """Phrases by 24-bit colour."""
    from PIL import ImageColor

    phrases: dict[int, str] = {}
    for name, phrase in words.items():
        try:
            red, green, blue = ImageColor.getrgb(name)[:3]
        except ValueError as error:
            raise UsageError(f"{name!r} is no colour; write it like #ff0000.") from error
        colour = red << 16 | green << 8 | blue
        if colour in phrases:
            raise UsageError(f"The colour {_hex(colour)} is given twice, for {phrases[colour]!r} and {phrase!r}.")
        phrases[colour] = phrase
    if not phrases:
        raise UsageError("A colour-coded layout needs words for at least one colour, like #ff0000 = red apple.")
    return phrases


def _hex(colour: int) -> str:
    return f"#{colour:06x}"


def _covered(low: float, high: float, length: int) -> Float[np.ndarray, " length"]:
    """How much of each cell [i, i + 1) the interval covers."""
    cells = np.arange(length, dtype=np.float32)
    return np.clip(np.minimum(high, cells + 1) - np.maximum(low, cells), 0, 1)


def _filled(corners: Float[np.ndarray, "n 2"], canvas: tuple[int, int]) -> Mask:
    """The polygon by the even-odd rule: the share of FINE x FINE samples of each pixel that it holds.

    Its edges cross each line of samples at some places, in pairs from left to right; from the first of a pair on, a
    line is inside, from the second on no more. Summing these changes along the rows needs no finer canvas.
    """
    height, width = canvas
    lines = (np.arange(height * FINE) + 0.5) / FINE
    rows, places = [], []
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        met = slice(*np.searchsorted(lines, sorted((y0, y1))))
        rows.append(np.arange(len(lines))[met])
        places.append(x0 + (lines[met] - y0) * (x1 - x0) / (y1 - y0))
    line, place = np.concatenate(rows), np.concatenate(places)
    order = np.lexsort((place, line))
    change = np.where(np.arange(len(order)) % 2, -1, 1) / FINE  # a closed outline crosses every line an even time
    samples = np.ceil((place[order] * FINE - 0.5).round(6)).clip(0, width * FINE)  # those to the left of the place
    column, rest = np.divmod(samples.astype(np.int64), FINE)
    first = line[order] // FINE * (width + 2) + column
    where, weight = (
        np.concatenate([first, first + 1]),
        np.concatenate([change * (1 - rest / FINE), change * rest / FINE]),
    )
    sums = np.bincount(where, weight, height * (width + 2)).reshape(height, width + 2)
    return np.cumsum(sums, axis=1, out=sums)[:, :width].astype(np.float32)


def _stroke(points: Float[np.ndarray, "n 2"], radius: float, canvas: tuple[int, int]) -> Mask:
    """A round brush along the points, at least one pixel wide; one point is a disc."""
    mask = np.zeros(canvas, np.float32)
    _brush(mask, points, np.diff(points, axis=0, append=points[-1:]), max(radius, 0.5))
    return mask


def _brush(mask: Mask, starts: Float[np.ndarray, "n 2"], ways: Float[np.ndarray, "n 2"], radius: float) -> None:
    """Paint a part of the picture, segments seen from its top left: at once where it is far from the stroke or deep in
    it, pixel by pixel where it is small, else by its quarters, each with the segments alone that reach it."""
    height, width = mask.shape
    half = math.hypot(height, width) / 2
    away = np.sqrt(_squares(np.array(width / 2), np.array(height / 2), starts, ways)).ravel()
    near = away < radius + 0.5 + half
    if not near.any():
        return
    starts, ways = starts[near], ways[near]
    if away.min() <= radius - 0.5 - half:
        mask[:] = 1
    elif max(height, width) <= LEAF:
        x, y = np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32)[:, None] + 0.5
        distance = np.sqrt(_squares(x, y, starts.astype(np.float32), ways.astype(np.float32)).min(axis=0))
        mask[:] = np.clip(radius + 0.5 - distance, 0, 1)
    else:
        for rows in (slice(0, height // 2), slice(height // 2, height)):
            for columns in (slice(0, width // 2), slice(width // 2, width)):
                _brush(mask[rows, columns], starts - (columns.start, rows.start), ways, radius)


def _squares(
    x: Float[np.ndarray, "..."],
    y: Float[np.ndarray, "..."],
    starts: Float[np.ndarray, "n 2"],
    ways: Float[np.ndarray, "n 2"],
) -> Float[np.ndarray, "n h w"]:
    """Squared distances of places to segments, each a start and the way to its end; x and y are broadcast."""
    right, down = ways.T[..., None, None]
    length = np.maximum(right**2 + down**2, 1e-12)
    x, y = x - starts[:, :1, None], y - starts[:, 1:, None]
    share = (x * (right / length) + y * (down / length)).clip(0, 1)
    return (x - share * right) ** 2 + (y - share * down) ** 2


def _check_inside(shape: _Shape, size: tuple[int, int] | None) -> None:
    width, height = size or (1, 1)
    for x, y in shape.corners:
        if not (0 <= x <= width and 0 <= y <= height):
            where = f"{width} x {height} pixels" if size else 'in fractions of it, 0 to 1, since no "size" is given'
            raise UsageError(f"The region {shape.words!r} reaches ({x:g}, {y:g}), outside the picture: it is {where}.")
    if shape.box is not None and not (shape.box[0] < shape.box[2] and shape.box[1] < shape.box[3]):
        raise UsageError(f"The box of region {shape.words!r} is empty; give left < right and top < bottom.")


def _read_masks(folder: Path, stated: _File) -> dict[str, Mask]:
    """The mask files by name, all of one size: the layout's, if it states one."""
    masks = {shape.mask: load_alpha(folder / shape.mask) for shape in stated.regions if shape.mask is not None}
    for name, mask in masks.items():
        height, width = stated.size[::-1] if stated.size else next(iter(masks.values())).shape
        if mask.shape != (height, width):
            raise UsageError(
                f"The mask {folder / name} is {mask.shape[1]} x {mask.shape[0]} pixels and the layout "
                f"{width} x {height}; give one of the same size."
            )
    return masks


def _sentence(errors: list[ErrorDetails]) -> str:
    """The end of a sentence about a file that is no layout; a wrong key tells more than the one missed for it."""
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    if error["type"] == "json_invalid":
        return f"it is not JSON ({error['ctx']['error']})."
    where, names, fields = "", error["loc"], _File.model_fields
    if names[:1] == ("regions",) and len(names) > 1:
        where, names, fields = f"region {int(names[1]) + 1}: ", names[2:], _Shape.model_fields
    if error["type"] == "value_error":
        return f"{where}{error['msg'].removeprefix('Value error, ')}."
    if not names:
        return where + 'write {"words": ..., "box": ...}.' if where else 'write {"prompt": ..., "regions": [...]}.'
    key = str(names[0])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, fields, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(fields)}."
        return f'{where}there is no key "{key}"; {hint}'
    if error["type"] == "missing" and len(names) == 1:
        return f'{where}"{key}" is missing; give {fields[key].description}.'
    given = json.dumps(error["input"], ensure_ascii=False)
    given = given if len(given) <= 60 else f"{given[:57]}..."
    return f'{where}"{key}" must be {fields[key].description}, not {given}.'
