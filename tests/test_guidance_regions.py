"""Masks on grids, words in prompts, and what a region refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from guided import PROMPT, box
from hypothesis import given, settings
from hypothesis import strategies as st
from inlay.errors import ModelError, UsageError
from inlay.guidance.layers import choose
from inlay.guidance.regions import Region, as_set, bind, membership, on_grid


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
        ([], PROMPT, "tokens 1 to 6"),
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
        ({"weight": 0.0}, "not above 0"),
        ({"weight": -1.0}, "not above 0"),
        ({"weight": float("nan")}, "not above 0"),
        ({"fraction": 1.5}, "outside 0 to 1"),
        ({"fraction": float("nan")}, "outside 0 to 1"),
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
