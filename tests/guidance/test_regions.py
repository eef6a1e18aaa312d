"""Masks on grids, words in prompts, and what a region refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inlay.errors import ModelError, UsageError
from inlay.guidance.layers import choose
from inlay.guidance.regions import Place, Region, as_set, bind, membership, on_grid
from inlay.tests.guidance.guided import PROMPT, box
from PIL import Image


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_area_averages_keep_the_mean(height: int, width: int, rows: int, columns: int, seed: int) -> None:
    mask = torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert torch.isclose(on_grid(mask, (rows, columns)).mean(), mask.mean())


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 99), st.integers(0, 63), st.integers(1, 64), st.integers(1, 64))
def test_one_pixel_survives_on_every_grid(row: int, column: int, rows: int, columns: int) -> None:
    mask = torch.zeros(1, 100, 64)
    mask[0, row, column] = 1
    cells = as_set(on_grid(mask, (rows, columns)))
    assert cells.any()
    assert torch.equal(membership(mask, (rows, columns)) > 0, cells)
    assert on_grid(mask, (rows, columns))[cells].min() > 0


def test_a_thin_stroke_keeps_the_cells_along_it() -> None:
    mask = torch.zeros(1, 64, 64)
    mask[0, 20:23] = 1
    cells = as_set(on_grid(mask, (8, 8)))[0]
    assert cells.sum() == 8
    assert cells[2].all()


def test_cells_half_covered_belong_and_others_do_not() -> None:
    pooled = torch.tensor([[[1.0, 0.5, 0.49, 0.0]]])
    assert as_set(pooled).tolist() == [[[True, True, False, False]]]


def test_soft_masks_stay_soft() -> None:
    mask = torch.full((1, 8, 8), 0.25)
    mask[0, :, 4:] = 1
    assert membership(mask, (2, 2)).tolist() == [[[0.25, 1.0], [0.25, 1.0]]]


def test_bool_and_numpy_masks_are_regions() -> None:
    mask = box(0, 0, 8, 8).numpy().astype(bool)
    assert torch.equal(Region(mask, "cat").tensor(), Region(torch.from_numpy(mask), "cat").tensor())


def test_pictures_and_bytes_are_cut_at_half_white() -> None:
    levels = np.tile(np.array([0, 127, 128, 255], np.uint8), (3, 1))
    expected = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 3)
    picture = Image.fromarray(levels)
    for mask in (levels, torch.from_numpy(levels), *(picture.convert(mode) for mode in ("L", "RGB", "RGBA", "LA"))):
        assert torch.equal(Region(mask, "cat").tensor(), expected)
    assert torch.equal(Region(picture.convert("1", dither=Image.Dither.NONE), "cat").tensor(), expected)


def test_numbers_of_any_width_and_direction_are_opacities() -> None:
    mask = np.array([[0, 1], [0.25, 0.5]])
    expected = torch.tensor([[0.5, 0.25], [1.0, 0.0]])
    for kind in (">f8", np.float16, np.float32):
        assert torch.equal(Region(mask.astype(kind)[::-1, ::-1], "cat").tensor(), expected)
    assert torch.equal(Region(torch.tensor(mask, dtype=torch.bfloat16).flip(0, 1), "cat").tensor(), expected)
    assert torch.equal(Region(Image.fromarray(mask.astype(np.float32)), "cat").tensor(), expected.flip(0, 1))


@pytest.mark.parametrize(
    ("words", "prompt", "tokens"),
    [
        ("cat", PROMPT, (6,)),
        ("red apple", PROMPT, (2, 3)),
        ("cat", "a cat and a cat", (2, 5)),
        ("zebra", "a zebra", (2, 3, 4, 5, 6)),
        ([3], PROMPT, (3,)),
        ([3, 3, 2], PROMPT, (3, 2)),
    ],
)
def test_words_meet_tokens(models: Any, words: Any, prompt: str, tokens: tuple[int, ...]) -> None:
    (place,) = bind([Region(torch.ones(4, 4), words)], models("sd1").prompts, prompt)
    assert place.tokens == tokens


def test_an_occurrence_can_be_asked_for(models: Any) -> None:
    (place,) = bind([Region(torch.ones(4, 4), "cat", occurrence=1)], models("sd1").prompts, "a cat and a cat")
    assert place.tokens == (5,)


@pytest.mark.parametrize(
    ("words", "prompt", "says"),
    [
        ("cap", PROMPT, "Did you mean 'cat'"),
        ("cat", "a caterpillar", "are not in the prompt"),
        ([0], PROMPT, "tokens 1 to 6"),
        ([7], PROMPT, "tokens 1 to 6"),
    ],
)
def test_missing_words_are_refused(models: Any, words: Any, prompt: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        bind([Region(torch.ones(4, 4), words)], models("sd1").prompts, prompt)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mask": torch.zeros(4, 4)}, "empty"),
        ({"mask": torch.ones(1, 4, 4)}, "is \\(height, width\\)"),
        ({"mask": torch.full((4, 4), 1.5)}, "outside 0 to 1"),
        ({"mask": np.full((4, 4), np.nan)}, "outside 0 to 1"),
        ({"mask": np.zeros((0, 0))}, r"has shape \(0, 0\); a mask is \(height, width\)"),
        ({"mask": np.full((4, 4), 127, np.uint8)}, "is empty; draw where the words belong, in white"),
        ({"mask": np.full((4, 4), 255)}, "outside 0 to 1; scale it, or give uint8"),
        ({"mask": Image.new("I;16", (4, 4), 65535)}, "outside 0 to 1"),
        ({"mask": "cup.png"}, "mask of region 'cat' is a str; give a Pillow picture"),
        ({"mask": None}, "is a NoneType; give"),
        ({"mask": np.array([["a"]])}, "is a ndarray; give a Pillow picture, or numbers"),
        ({"words": 3}, "words are 3; give a phrase"),
        ({"words": ["cat"]}, r"words are \['cat'\]; give a phrase of the prompt, or token indices"),
        ({"weight": 0.0}, "is 0.0; give a number above 0"),
        ({"weight": -1.0}, "above 0"),
        ({"weight": float("nan")}, "above 0"),
        ({"weight": "2"}, "The weight of region 'cat' is '2'; give a number above 0"),
        ({"occurrence": -1}, "occurrence of region 'cat' is -1; give 0 for the first"),
        ({"occurrence": "0"}, "occurrence of region 'cat' is '0'"),
        ({"fraction": 1.5}, "is 1.5; give a number from 0 to 1"),
        ({"fraction": float("nan")}, "from 0 to 1"),
        ({"fraction": "0.5"}, "is '0.5'; give a number from 0 to 1"),
    ],
)
def test_regions_refuse(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Region(**{"mask": torch.ones(4, 4), "words": "cat", **options})


def test_layers_by_depth_and_name(models: Any) -> None:
    model = models("sd1")
    everything = choose(model, "all")
    assert all(layer.cross for layer in everything)
    assert {layer.depth for layer in choose(model, (1, 2))} == {1, 2}
    assert choose(model, "1,2") == choose(model, (2, 1))
    assert choose(model, [everything[0].name]) == everything[:1]
    with pytest.raises(UsageError, match="depths 0, 1, 2"):
        choose(model, (7,))
    with pytest.raises(UsageError, match="There is no cross-attention layer"):
        choose(model, ["up_block.1"])


def test_a_model_without_cross_attention_is_refused(models: Any) -> None:
    from dataclasses import replace

    model = models("sd1")
    blind = replace(model, layers=tuple(layer for layer in model.layers if not layer.cross))
    with pytest.raises(ModelError, match="no cross-attention"):
        choose(blind, "all")


@pytest.mark.parametrize("opacity", [1.0, 0.5, 0.49, 0.01])
def test_a_faint_region_is_as_large_as_a_strong_one(opacity: float) -> None:
    mask = torch.zeros(8, 8)
    mask[:2, :2] = opacity
    assert Place(mask, (2,), Region(mask, "cat")).boost(0.5) == pytest.approx(2)
