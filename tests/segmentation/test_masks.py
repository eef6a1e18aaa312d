"""Laws of the pure mask functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from inlay.errors import UsageError
from inlay.segmentation import masks

any_mask = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
radius = st.sampled_from([0, 1, 1.5, 3])


def disk(size: int = 41, reach: float = 12) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return x**2 + y**2 <= reach**2


@settings(deadline=None)
@given(any_mask, radius)
def test_shrinking_is_growing_the_rest(mask, pixels):
    before = mask.copy()
    assert (masks.shrink(mask, pixels) == ~masks.grow(~mask, pixels)).all()
    assert (mask <= masks.grow(mask, pixels)).all()
    assert (masks.shrink(mask, pixels) <= mask).all()
    assert (mask == before).all()


@settings(deadline=None)
@given(any_mask, radius)
def test_feather_is_one_on_the_mask_and_nothing_beyond_its_reach(mask, pixels):
    alpha = masks.feather(mask, pixels)
    assert alpha.dtype == np.float32
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    assert (alpha[mask] == 1).all()
    assert (alpha[~masks.grow(mask, pixels)] == 0).all()


@settings(deadline=None)
@given(any_mask)
def test_components_part_the_mask_largest_first(mask):
    parts = masks.components(mask)
    assert (parts.sum(axis=0) == mask).all()
    areas = parts.sum(axis=(1, 2))
    assert (np.diff(areas) <= 0).all()


@settings(deadline=None)
@given(any_mask)
def test_filling_and_dropping_settle(mask):
    filled, dropped = masks.fill_holes(mask), masks.drop_specks(mask)
    assert (mask <= filled).all()
    assert (masks.fill_holes(filled) == filled).all()
    assert (dropped <= mask).all()
    assert (masks.drop_specks(dropped) == dropped).all()
    assert dropped.any() == mask.any()


def test_growing_by_a_distance_draws_a_disk():
    dot = np.zeros((41, 41), bool)
    dot[20, 20] = True
    assert (masks.grow(dot, 12) == disk()).all()


def test_a_ring_is_filled_and_a_bay_is_not():
    ring = disk() & ~disk(reach=6)
    assert (masks.fill_holes(ring) == disk()).all()
    bay = ring.copy()
    bay[20, 20:] = False
    assert (masks.fill_holes(bay) == bay).all()
    assert (masks.fill_holes(ring, largest=10) == ring).all()


def test_specks_go_and_the_largest_part_stays():
    specked = disk()
    specked[0, 0] = True
    assert (masks.drop_specks(specked) == disk()).all()


def test_a_mask_at_the_border_is_not_eaten_from_outside():
    half = np.zeros((20, 20), bool)
    half[:10] = True
    assert (masks.shrink(half, 3) == np.pad(np.ones((7, 20), bool), ((0, 13), (0, 0)))).all()


def test_the_inner_point_is_the_middle():
    assert masks.inner_point(disk()) == (20, 20)
    assert masks.inner_point(np.ones((9, 21), bool))[1] == 4
    assert masks.inner_depth(np.zeros((3, 3), bool)) == 0


def test_sets():
    one, other = disk(), np.roll(disk(), 8, axis=1)
    assert (masks.union(one, other) == (one | other)).all()
    assert (masks.intersect(one, other) == masks.invert(masks.union(~one, ~other))).all()
    assert masks.iou(one, one) == 1
    assert masks.iou(one, ~one) == 0
    with pytest.raises(UsageError, match="41 x 41"):
        masks.union(one, one[:5])


def test_an_empty_mask_has_no_place():
    for place in (masks.bounding_box, masks.inner_point):
        with pytest.raises(UsageError, match="empty"):
            place(np.zeros((4, 4), bool))


@settings(deadline=None)
@given(any_mask, radius)
def test_bytes_are_masks_too(mask, pixels):
    grey = np.where(mask, np.uint8(130), np.uint8(127))
    for change in (masks.grow, masks.shrink, masks.feather):
        assert (change(grey, pixels) == change(mask, pixels)).all()
    for change in (masks.invert, masks.fill_holes, masks.drop_specks, masks.components):
        assert (change(grey) == change(mask)).all()
    assert masks.inner_depth(grey) == masks.inner_depth(mask)
    assert (masks.resize(grey, (5, 7)) == masks.resize(mask, (5, 7))).all()
    assert masks.iou(grey, mask) == 1


@pytest.mark.parametrize("mask", [np.ones((3, 3), np.float32), [[True]], np.ones((3, 3), np.int64)])
def test_what_may_have_more_than_two_values_is_no_mask(mask):
    for change in (masks.invert, masks.fill_holes, masks.bounding_box, masks.union):
        with pytest.raises(UsageError, match="is none of two values"):
            change(mask)
