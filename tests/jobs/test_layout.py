"""Layouts: shapes land where they were stated, order means nothing, and every mistake gets one sentence."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from itertools import permutations
from pathlib import Path
from typing import Any

import inlay
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inlay.errors import PhotoError, UsageError
from inlay.jobs import layout as layout_module
from inlay.jobs.layout import (
    CANVAS,
    FINE,
    Layout,
    _covered,
    _filled,
    _squares,
    _stroke,
    read_colour_layout,
    read_layout,
)
from PIL import Image
from skimage.draw import polygon

BOX = {"words": "cup", "box": [1, 2, 5, 4]}


def written(folder: Path, regions: list[dict[str, Any]], **others: Any) -> Path:
    path = folder / "layout.json"
    path.write_text(json.dumps({"prompt": "a cup on grass", "regions": regions, **others}))
    return path


def read(folder: Path, regions: list[dict[str, Any]], **others: Any) -> Layout:
    return read_layout(written(folder, regions, **others))


def mask_of(layout: Layout, number: int = 0) -> np.ndarray:
    return layout.regions[number].tensor().numpy()


def test_a_box_covers_its_pixels(tmp_path: Path) -> None:
    layout = read(tmp_path, [BOX], size=[8, 6])
    expected = np.zeros((6, 8), np.float32)
    expected[2:4, 1:5] = 1
    assert layout.prompt == "a cup on grass"
    assert layout.size == (6, 8)
    np.testing.assert_array_equal(mask_of(layout), expected)


def test_relative_shapes_equal_shapes_in_pixels(tmp_path: Path) -> None:
    height, width = CANVAS
    relative = read(
        tmp_path,
        [
            {"words": "cup", "box": [0.25, 0.5, 0.75, 1]},
            {"words": "cat", "polygon": [[0, 0], [0.5, 0], [0, 0.5]]},
            {"words": "dog", "points": [[0.5, 0.5], [0.75, 0.5]], "radius": 0.125},
        ],
    )
    pixels = read(
        tmp_path,
        [
            {"words": "cup", "box": [width / 4, height / 2, width * 0.75, height]},
            {"words": "cat", "polygon": [[0, 0], [width / 2, 0], [0, height / 2]]},
            {"words": "dog", "points": [[width / 2, height / 2], [width * 0.75, height / 2]], "radius": height / 8},
        ],
        size=[width, height],
    )
    assert relative.size is None
    for number in range(3):
        np.testing.assert_array_equal(mask_of(relative, number), mask_of(pixels, number))


def test_relative_shapes_are_drawn_in_the_shape_of_the_picture(tmp_path: Path) -> None:
    disc = {"words": "cup", "points": [[0.5, 0.5]], "radius": 0.25}
    layout = read_layout(written(tmp_path, [disc]), (60, 100))
    assert layout.size == (60, 100)
    assert mask_of(layout).shape == (60, 100)
    assert mask_of(layout).sum() == pytest.approx(np.pi * 15**2, rel=0.01)
    assert read_layout(written(tmp_path, [BOX], size=[8, 6]), (60, 100)).size == (6, 8)


@given(st.floats(0, 20), st.floats(0, 20))
def test_coverage_measures_the_interval(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert _covered(low, high, 20).sum() == pytest.approx(high - low, abs=1e-4)


def test_areas_of_drawn_shapes(tmp_path: Path) -> None:
    layout = read(
        tmp_path,
        [
            {"words": "cup", "polygon": [[10, 10], [90, 10], [90, 50]]},
            {"words": "cat", "points": [[50, 30]], "radius": 20},
            {"words": "dog", "points": [[20, 20], [80, 20], [80, 40]], "radius": 3},
        ],
        size=[100, 60],
    )
    assert mask_of(layout, 0).sum() == pytest.approx(80 * 40 / 2, rel=0.01)
    assert mask_of(layout, 1).sum() == pytest.approx(np.pi * 20**2, rel=0.01)
    corner = 9 + 0.75 * 9 * np.pi  # what the two capsules share: a disc and the square of its inner quarter
    assert mask_of(layout, 2).sum() == pytest.approx(6 * 60 + 6 * 20 + 2 * 9 * np.pi - corner, rel=0.01)
    assert mask_of(layout, 0)[20, 80] == 1
    assert mask_of(layout, 0)[45, 20] == 0


def test_the_thinnest_shapes_survive(tmp_path: Path) -> None:
    layout = read(
        tmp_path,
        [
            {"words": "cup", "box": [3.2, 3.2, 3.4, 3.4]},
            {"words": "cat", "points": [[4, 4]], "radius": 0.01},
            {"words": "dog", "points": [[0, 0]], "radius": 0.01},
        ],
        size=[8, 8],
    )
    for number in range(3):
        assert mask_of(layout, number).max() > 0


def test_a_mask_file_lies_beside_the_layout_and_keeps_its_soft_edges(tmp_path: Path) -> None:
    levels = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    (tmp_path / "masks").mkdir()
    Image.fromarray(levels).save(tmp_path / "masks" / "cup.png")
    layout = read(tmp_path, [{"words": [2], "mask": "masks/cup.png", "weight": 2, "fraction": 0.5, "occurrence": 1}])
    region = layout.regions[0]
    np.testing.assert_allclose(mask_of(layout), levels / 255, atol=1e-7)
    assert layout.size == (6, 8)
    assert (region.words, region.weight, region.fraction, region.occurrence) == ([2], 2, 0.5, 1)


def test_regions_may_overlap(tmp_path: Path) -> None:
    layout = read(tmp_path, [BOX, {"words": "grass", "box": [4, 0, 8, 6]}], size=[8, 6])
    assert (mask_of(layout, 0) * mask_of(layout, 1)).sum() == 2


MISTAKES = [
    ([{**BOX, "box": [1, 2, 9, 4]}], {"size": [8, 6]}, r"'cup' reaches \(9, 4\), outside the picture: it is 8 x 6"),
    ([BOX], {}, r"outside the picture: it is in fractions of it, 0 to 1, since no \"size\" is given"),
    ([{**BOX, "box": [-1, 2, 5, 4]}], {"size": [8, 6]}, "outside the picture"),
    ([{**BOX, "box": [5, 2, 1, 4]}], {"size": [8, 6]}, "box of region 'cup' is empty"),
    (
        [{"words": "cup", "polygon": [[1, 1], [4, 4], [7, 7]]}],
        {"size": [8, 8]},
        "polygon of region 'cup' has no area",
    ),
    (
        [{"words": "cup", "polygon": [[1, 1], [4, 4]]}],
        {"size": [8, 6]},
        r"three points or more, .*, not \[\[1, 1\], \[",
    ),
    ([{"words": "cup", "points": [[9, 1]], "radius": 1}], {"size": [8, 6]}, "outside the picture"),
    ([{"words": "cup", "points": [[1, 1]]}], {"size": [8, 6]}, "region 1: give points and radius together"),
    (
        [{"words": "cup", "points": [[1, 1]], "radius": 0}],
        {"size": [8, 6]},
        ".radius. must be a number above 0, not 0",
    ),
    ([{**BOX, "radius": 3}], {"size": [8, 6]}, "region 1: give points and radius together"),
    ([{"words": "cup"}], {"size": [8, 6]}, "region 1: give exactly one of .* not none"),
    ([{**BOX, "mask": "cup.png"}], {"size": [8, 6]}, "exactly one of .* not mask and box"),
    ([{**BOX, "weight": 0}], {"size": [8, 6]}, "region 1: .weight. must be a number above 0, not 0"),
    ([BOX, {**BOX, "weight": float("nan")}], {"size": [8, 6]}, "region 2: .weight. must be a number above 0, not NaN"),
    ([{**BOX, "box": [float("nan"), 2, 5, 4]}], {"size": [8, 6]}, "region 1: .box. must be four numbers, .* not NaN"),
    ([{**BOX, "wieght": 2}], {"size": [8, 6]}, "region 1: there is no key .wieght.; did you mean .weight.[?]"),
    ([BOX], {"size": [8, 6], "colour": 1}, "there is no key .colour.; known are prompt, size, regions[.]"),
    ([{**BOX, "words": ""}], {"size": [8, 6]}, "region 1: .words. must be a phrase of the prompt, or .*, not .."),
    ([{**BOX, "words": ["cat"]}], {"size": [8, 6]}, r".words. must be a phrase of the prompt, or .*, not \[.cat.\]"),
    ([{**BOX, "weight": "two"}], {"size": [8, 6]}, "region 1: .weight. must be a number above 0, not .two."),
    ([{**BOX, "box": [1, 2, 3]}], {"size": [8, 6]}, r"must be four numbers, \[left, .*\], not \[1, 2, 3\]"),
    ([{"word": "cup", "box": [1, 2, 5, 4]}], {"size": [8, 6]}, "there is no key .word.; did you mean .words.[?]"),
    ([{**BOX, "mask": "cup" * 40}, {"words": 3}], {}, "exactly one of"),
    ([{**BOX, "prompt": ["cup" * 40]}], {}, r".prompt. must be a text, not \[.{56}\.\.\."),
    (["cup"], {}, "region 1: write {.words.: "),  # type: ignore[list-item]
    ([{"box": [1, 2, 5, 4]}], {"size": [8, 6]}, "region 1: .words. is missing; give a phrase of the prompt"),
    ([{**BOX, "fraction": 1.5}], {"size": [8, 6]}, "region 1: .fraction. must be a number from 0 to 1, not 1.5"),
    ([], {"size": [8, 6]}, r".regions. must be a list of one region or more, .*, not \[\]"),
    ([BOX], {"size": [8, 0]}, r".size. must be two whole numbers above 0, \[width, height\], not 0"),
    ([BOX], {"size": [8, 6, 3]}, r"two whole numbers above 0, .*, not \[8, 6, 3\]"),
    ([BOX], {"size": [8, 6], "prompt": 3}, ".prompt. must be a text, not 3"),
]


@pytest.mark.parametrize(("regions", "others", "message"), MISTAKES)
def test_mistakes_get_one_sentence(
    tmp_path: Path, regions: list[dict[str, Any]], others: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(tmp_path, regions, **others)
    assert "\n" not in str(caught.value)
    assert not re.search("[Ii]nput|valid|validation|[Ff]ield", str(caught.value)), "not our words"


@pytest.mark.parametrize("text", ["", "{", '{"prompt": "a cup", "regions": [}', "[]", "\xff\xfe"])
def test_broken_json_gets_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "layout.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"layout\.json") as caught:
        read_layout(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_masks_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_layout(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_layout(tmp_path)
    with pytest.raises(PhotoError, match=r"none\.png does not exist"):
        read(tmp_path, [{"words": "cup", "mask": "none.png"}])
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(PhotoError, match=r"bad\.png"):
        read(tmp_path, [{"words": "cup", "mask": "bad.png"}])
    for name, size in (("small", (4, 4)), ("large", (8, 6))):
        Image.new("L", size, 255).save(tmp_path / f"{name}.png")
    with pytest.raises(UsageError, match=r"small\.png is 4 x 4 pixels and the layout 8 x 6"):
        read(tmp_path, [{"words": "cup", "mask": "small.png"}], size=[8, 6])
    with pytest.raises(UsageError, match=r"large\.png is 8 x 6 pixels and the layout 4 x 4"):
        read(tmp_path, [{"words": "cup", "mask": "small.png"}, {"words": "cat", "mask": "large.png"}])
    Image.new("L", (8, 6), 0).save(tmp_path / "black.png")
    with pytest.raises(UsageError, match="'cup' is empty"):
        read(tmp_path, [{"words": "cup", "mask": "black.png"}])


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    pixels = np.full((6, 8, 3), 255, np.uint8)
    pixels[:3, :4] = (255, 0, 0)
    pixels[3:, 4:] = (0, 128, 0)
    pixels[0, 7] = (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "map.png")
    return tmp_path / "map.png"


COLOURS = {"#ff0000": "red apple", "green": "grass", "#00f": "cup"}


def test_colours_become_regions(coloured: Path) -> None:
    layout = read_colour_layout(coloured, COLOURS, "a red apple and a cup on grass")
    areas = {str(region.words): float(region.tensor().sum()) for region in layout.regions}
    assert areas == {"red apple": 12, "grass": 12, "cup": 1}
    assert layout.size == (6, 8)
    assert layout.warnings == ()


def test_colour_order_does_not_matter(coloured: Path) -> None:
    layouts = [
        read_colour_layout(coloured, dict(order), "a red apple and a cup on grass")
        for order in permutations(COLOURS.items())
    ]
    for layout in layouts:
        assert [region.words for region in layout.regions] == [region.words for region in layouts[0].regions]
        for number in range(3):
            np.testing.assert_array_equal(mask_of(layout, number), mask_of(layouts[0], number))


def test_palettes_and_transparency_in_colour_layouts(coloured: Path, tmp_path: Path) -> None:
    Image.open(coloured).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    layout = read_colour_layout(tmp_path / "palette.png", {"#ff0000": "red apple"}, "a red apple")
    assert mask_of(layout).sum() == 12
    assert "no words" in layout.warnings[0]
    assert "#008000" in layout.warnings[0]
    clear = Image.open(coloured).convert("RGBA")
    clear.putpixel((0, 0), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert mask_of(read_colour_layout(tmp_path / "clear.png", {"red": "red apple"}, "a red apple")).sum() == 11


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"#123456": "cup"}, "#123456 of 'cup' is not in .*#ffffff, #"),
        ({"reddish": "cup"}, "'reddish' is no colour"),
        ({"#ff0000": "cup", "red": "apple"}, "#ff0000 is given twice"),
        ({}, "at least one colour"),
    ],
)
def test_mistakes_in_colours(coloured: Path, words: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_colour_layout(coloured, words, "a cup")


def test_a_missing_colour_picture(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"none\.png does not exist.*; a layout is a layout\.json or a picture"):
        read_colour_layout(tmp_path / "none.png", COLOURS, "a cup")
    with pytest.raises(PhotoError, match=r"is a folder: .*; a layout is a layout\.json"):
        read_colour_layout(tmp_path, COLOURS, "a cup")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PhotoError, match=r"text\.png is not an image .*; a layout is a layout\.json"):
        read_colour_layout(tmp_path / "text.png", COLOURS, "a cup")


def test_colours_without_a_prompt(coloured: Path) -> None:
    with pytest.raises(UsageError, match=r"map\.png says where, not what: give a prompt"):
        read_colour_layout(coloured, COLOURS, " ")


def test_the_example_in_the_manual_is_a_layout_of_every_key(tmp_path: Path) -> None:
    manual = layout_module.__doc__
    assert manual is not None
    text = manual[manual.index("{") : manual.rindex("]}") + 2]
    Image.new("L", (512, 384), 255).save(tmp_path / "cup.png")
    (tmp_path / "layout.json").write_text(text)
    layout = read_layout(tmp_path / "layout.json")
    assert [region.words for region in layout.regions] == ["red apple", "cup", "cup", "grass"]
    stated = json.loads(text)
    assert set(stated) == set(layout_module._File.model_fields)
    assert {key for region in stated["regions"] for key in region} == set(layout_module._Shape.model_fields)


def test_public_names_are_listed_and_found() -> None:
    listed = dir(inlay.guidance)
    assert {"zest", "masked_attention", "Zest"} <= set(listed)
    for name in set(listed) - {"METHODS"}:
        assert getattr(inlay.guidance, name).__name__.rpartition(".")[2] == name
    assert {"Editor", "Photo", "Region", "guidance", "segmentation"} <= set(dir(inlay))


@pytest.mark.parametrize("size", [[20_000, 20_000], [1_000_000_000, 1_000_000_000]])
def test_a_size_beyond_all_photos_takes_no_memory(tmp_path: Path, size: list[int]) -> None:
    regions = [{"words": "cup", "polygon": [[1, 1], [9, 1], [9, 9]]}]
    tracemalloc.start()
    with pytest.raises(UsageError, match=rf"{size[0]} x {size[1]} pixels, more than 100000000; leave out .size."):
        read(tmp_path, regions, size=size)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


corners = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20)), min_size=3, max_size=7)


@given(corners)
def test_a_polygon_is_what_its_samples_say(points: list[tuple[float, float]]) -> None:
    """Against scikit-image on a canvas four times as fine; samples just on an outline may go either way."""
    columns, rows = (np.array(points) * FINE - 0.5).T
    fine = np.zeros((20 * FINE, 30 * FINE))
    fine[polygon(rows, columns, fine.shape)] = 1
    expected = fine.reshape(20, FINE, 30, FINE).mean((1, 3))
    outline = np.array(points)
    x, y = (np.arange(30 * FINE) + 0.5) / FINE, (np.arange(20 * FINE)[:, None] + 0.5) / FINE
    far = _squares(x, y, outline, np.roll(outline, -1, axis=0) - outline).min(axis=0) ** 0.5
    sure = (far > 1e-5).reshape(20, FINE, 30, FINE).all((1, 3))
    np.testing.assert_allclose(_filled(outline, (20, 30))[sure], expected[sure], atol=1e-6)


@given(st.lists(st.tuples(st.floats(0, 90), st.floats(0, 70)), min_size=1, max_size=5), st.floats(0.1, 30))
def test_a_stroke_is_the_distance_to_its_line(points: list[tuple[float, float]], radius: float) -> None:
    """Painted by parts, and pixel by pixel."""
    line = np.array(points)
    centres = np.stack(np.meshgrid(np.arange(90) + 0.5, np.arange(70) + 0.5), axis=-1)
    distance = np.full((70, 90), np.inf)
    for start, end in zip(line, [*line[1:], line[-1]], strict=True):
        along = end - start
        share = np.clip((centres - start) @ along / max(float(along @ along), 1e-12), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(centres - start - share[..., None] * along, axis=-1))
    expected = np.clip(max(radius, 0.5) + 0.5 - distance, 0, 1)
    np.testing.assert_allclose(_stroke(line, radius, (70, 90)), expected, atol=1e-4)


@pytest.mark.parametrize("radius", [3, 40, 600])
def test_a_long_stroke_on_a_large_photo_is_quick(radius: float) -> None:
    points = np.random.default_rng(0).uniform(0, 1, (100, 2)) * (6000, 4000)
    began = time.process_time()
    _stroke(points, radius, (4000, 6000))
    assert time.process_time() - began < 2
