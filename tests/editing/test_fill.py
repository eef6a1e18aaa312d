"""Prefills, grain and soft masks: laws on arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inlay.diffusion.schedule import Schedule
from inlay.editing.blend import Blend, change_map, latent_mask
from inlay.editing.composite import composite, noise_of
from inlay.editing.fill import filled
from inlay.guidance.regions import on_grid

HOW = ["keep", "blur", "neutral", "smooth", "border"]


@pytest.mark.parametrize("how", HOW)
@given(data=st.data())
def test_a_fill_changes_the_hole_alone(how, data):
    height, width = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    hole = random.random((height, width)) < data.draw(st.floats(0, 1))
    made = filled(photo, hole, how)
    assert made.shape == photo.shape
    assert made.dtype == np.uint8
    assert (made[~hole] == photo[~hole]).all()


def test_fills_are_what_they_are_called():
    photo = np.full((32, 32, 3), 200, np.uint8)
    photo[:, :16] = 40
    hole = np.zeros((32, 32), bool)
    hole[8:24, 20:32] = True
    photo[hole] = 7
    assert (filled(photo, hole, "keep") == photo).all()
    assert (filled(photo, hole, "neutral")[hole] == 128).all()
    assert (filled(photo, hole, "border")[hole] == 200).all()
    assert np.abs(filled(photo, hole, "smooth")[hole].astype(int) - 200).max() <= 8
    assert 7 < filled(photo, hole, "blur")[16, 20, 0] < 200


def test_grain_is_the_photos():
    random = np.random.default_rng(0)
    photo = np.clip(120 + random.normal(0, 6, (96, 96, 1)).repeat(3, 2), 0, 255).astype(np.uint8)
    patch, mask = np.full_like(photo, 120), np.zeros((96, 96), bool)
    mask[30:70, 30:70] = True
    assert noise_of(photo, ~mask) == pytest.approx(6, rel=0.1)
    grained = composite(photo, patch, mask, match_grain=True).pixels
    assert noise_of(grained, mask) == pytest.approx(6, rel=0.15)
    smooth = np.full_like(photo, 120)
    assert (composite(smooth, patch, mask, match_grain=True).pixels == smooth).all()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 6), st.integers(0, 99))
def test_a_hard_mask_changes_its_cells_wholly(height, width, factor, seed):
    mask = (torch.rand(height * factor, width * factor, generator=torch.Generator().manual_seed(seed)) < 0.2).float()
    change = change_map(mask, mask, (height, width))
    assert torch.equal(change, latent_mask(on_grid(mask[None], (height, width))[0]).float())


def test_soft_cells_join_later_and_none_is_lost(models):
    schedule = Schedule("ddim", models("sd1").scheduler_config, 10, 2)
    levels = torch.tensor([[0.0, 0.1, 0.5, 1.0]])
    blank = torch.zeros(1, 4, 1, 4)
    blend = Blend(blank, levels, blank, schedule)
    masks = torch.stack([blend.mask_at(step)[0] for step in schedule.steps])
    assert masks.int().sum(0).tolist() == [0, 1, 5, 8]
    assert bool((masks[1:] | ~masks[:-1]).all())
    hard = Blend(blank, (levels > 0).float(), blank, schedule)
    assert all(torch.equal(hard.mask_at(step), levels > 0) for step in schedule.steps)
