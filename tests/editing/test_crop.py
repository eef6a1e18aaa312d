"""Windows for any photo and mask: they hold the mask, fit the model, and come back to the very pixels they left."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inlay.editing.crop import Box, Crop, crops_for
from inlay.errors import UsageError

often = settings(max_examples=40, deadline=None, derandomize=True)


def masked(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    for box in boxes:
        mask[Box(*box).slices] = True
    return mask


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Masks of one to five rectangles or of specks in photos from 1 × 1 to 1 × 900 and 300 × 300."""
    height, width = draw(
        st.sampled_from([(1, 900), (900, 1), (1, 1), (2, 500)]) | st.tuples(*[st.integers(1, 300)] * 2)
    )
    mask = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(1, 5))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
        if draw(st.booleans()):
            right, bottom = min(right, left + 5), min(bottom, top + 5)
        mask[top:bottom, left:right] = True
    if draw(st.booleans()):
        mask |= np.random.default_rng(draw(st.integers(0, 9))).random(mask.shape) < 0.01
    return mask


models = st.sampled_from([(512, 64), (512, 8), (96, 32), (128, 16), (64, 64), (256, 8)])


@often
@given(mask=masks(), model=models, context=st.sampled_from([0.0, 0.25, 1.0]), split=st.booleans())
def test_windows_hold_every_masked_pixel_once_and_fit_the_model(
    mask: np.ndarray, model: tuple[int, int], context: float, split: bool
) -> None:
    native, factor = model
    crops = crops_for(mask, native, factor, context=context, split=split)
    assert split or len(crops) == 1
    seen = np.zeros(mask.shape, int)
    for crop in crops:
        seen[crop.inside.slices] += 1
        width, height = crop.size
        assert width % factor == height % factor == 0
        assert min(width, height) >= factor
        assert 0.4 * native**2 <= width * height <= 2 * native**2 or factor > native / 4
        assert 1 / 2.7 < width / height < 2.7 or factor > native / 4
        assert abs(crop.box.width * height / width - crop.box.height) <= max(1, height / width)  # no stretching
        assert crop.take(mask).any()
    assert (seen[mask] == 1).all()


@often
@given(mask=masks(), model=models)
def test_a_mask_never_vanishes_and_keeps_its_weight(mask: np.ndarray, model: tuple[int, int]) -> None:
    for crop in crops_for(mask, *model):
        cover = crop.cut_mask(mask)
        assert cover.shape == crop.size[::-1]
        assert cover.min() >= 0
        assert 0 < cover.max() <= 1
        area = crop.take(mask).sum() * (crop.size[0] / crop.box.width) * (crop.size[1] / crop.box.height)
        if crop.scale < 1:
            assert cover.sum() == pytest.approx(area, rel=1e-3)


@often
@given(mask=masks(), model=models)
def test_the_way_in_and_out_keeps_place_and_colour(mask: np.ndarray, model: tuple[int, int]) -> None:
    height, width = mask.shape
    ramp = np.linspace(20, 230, width)[None] * 0.5 + np.linspace(20, 230, height)[:, None] * 0.5
    photo = np.repeat(np.rint(ramp)[..., None], 3, -1).astype(np.uint8)
    for crop in crops_for(mask, *model):
        window = crop.cut(photo)
        assert window.shape == (crop.size[1], crop.size[0], 3)
        back = crop.restore(window)
        assert back.shape == crop.take(photo).shape
        step = max(np.abs(np.diff(ramp, axis=axis)).max(initial=0) for axis in (0, 1))
        assert np.abs(back.astype(int) - crop.take(photo)).max() <= 3 + 2 * step / min(crop.scale, 1)


def test_a_small_mask_is_enlarged_within_measure() -> None:
    (crop,) = crops_for(masked(4000, 6000, (3000, 2000, 3001, 2001)), 512, 64)
    assert crop.box == (2937, 1937, 3065, 2065) or crop.box.width == 128
    assert crop.scale == 4
    assert crop.cut_mask(masked(4000, 6000, (3000, 2000, 3001, 2001))).sum() == 16


def test_the_margin_leaves_room_for_the_band() -> None:
    (crop,) = crops_for(masked(1000, 1000, (480, 480, 520, 520)), 128, 32, context=0, margin=90)
    assert crop.box.left <= 480 - 90
    assert crop.box.right >= 520 + 90


def test_a_full_mask_sees_the_whole_photo() -> None:
    (crop,) = crops_for(np.ones((400, 600), bool), 512, 64)
    assert crop.inside == (0, 0, 600, 400)
    assert crop.size[0] > crop.size[1]


def test_distant_parts_are_edited_apart_when_that_keeps_detail() -> None:
    apart = masked(2000, 3000, (100, 100, 300, 300), (2600, 1600, 2800, 1800))
    first, second = crops_for(apart, 512, 64)
    assert not first.inside.meets(second.inside)
    assert len(crops_for(apart, 512, 64, split=False)) == 1
    near = masked(2000, 3000, (100, 100, 300, 300), (350, 100, 550, 300))
    assert len(crops_for(near, 512, 64)) == 1
    small = masked(200, 300, (10, 10, 30, 30), (260, 160, 280, 180))
    assert len(crops_for(small, 512, 64)) == 1, "one window at full detail is better than two"


def test_twenty_faces_are_twenty_windows() -> None:
    boxes = [(100 + 700 * x, 100 + 700 * y, 200 + 700 * x, 200 + 700 * y) for x in range(5) for y in range(4)]
    assert len(crops_for(masked(3000, 3600, *boxes), 512, 64)) == 20


def test_a_narrow_photo_is_padded_with_its_border() -> None:
    (crop,) = crops_for(masked(1, 500, (7, 0, 8, 1)), 512, 64)
    assert crop.box.top < 0
    assert crop.inside == (crop.box.left, 0, crop.box.right, 1)
    photo = np.arange(500).astype(np.uint8)[None, :, None].repeat(3, 2)
    window = crop.cut(photo)
    assert np.ptp(window, axis=0).max() <= 1


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        crops_for(np.zeros((5, 5), bool), 512, 64)


def test_memory_follows_the_window() -> None:
    mask = masked(8192, 8192, (4000, 4000, 4100, 4100))
    photo = np.zeros((8192, 8192, 3), np.uint8)
    tracemalloc.start()
    (crop,) = crops_for(mask, 512, 64)
    window, cover = crop.cut(photo), crop.cut_mask(mask)
    crop.restore(window)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert cover.max() == 1
    assert peak < 80e6, "one pass over the mask's bytes, nothing of the photo's"


def test_a_window_is_a_value() -> None:
    crop = Crop(Box(-2, 0, 6, 8), (64, 64), (6, 8))
    assert crop == Crop(Box(-2, 0, 6, 8), (64, 64), (6, 8))
    assert crop.inside == (0, 0, 6, 8)
    assert crop.scale == 8
