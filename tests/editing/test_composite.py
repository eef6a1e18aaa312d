"""The patch lands in its place, and no pixel beyond mask and band moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inlay.editing.composite import composite, matched, opacity_of
from inlay.editing.crop import Box
from inlay.errors import UsageError
from inlay.photos.sheet import preview
from PIL import Image

often = settings(max_examples=30, deadline=None, derandomize=True)


def scene(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth coloured picture."""
    coarse = np.random.default_rng(seed).integers(30, 226, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[Box(*box).slices] = True
    return mask


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """A bool or soft mask of any size, rectangle or specks, empty and full ones included."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    left, top = draw(st.integers(0, width)), draw(st.integers(0, height))
    right, bottom = draw(st.integers(left, width)), draw(st.integers(top, height))
    rectangular = rectangle(height, width, (left, top, right, bottom))
    specks = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    mask = draw(st.sampled_from([rectangular, specks]))
    return mask * rng.random(mask.shape, np.float32) if draw(st.booleans()) else mask


@often
@given(
    mask=masks(),
    feather=st.sampled_from([0.0, 0.5, 1.0, 4.0, 100.0]),
    method=st.sampled_from(["feather", "poisson"]),
    match=st.booleans(),
)
def test_beyond_mask_and_band_every_pixel_is_the_photos(
    mask: np.ndarray, feather: float, method: str, match: bool
) -> None:
    photo, patch = scene(*mask.shape, 0), scene(*mask.shape, 1)
    made = composite(photo, patch, mask, feather=feather, method=method, match_colour=match)
    inside = np.argwhere(mask >= 0.5)
    allowed = mask > 0
    if len(inside):
        rows, columns = np.indices(mask.shape)
        distance = np.min([np.hypot(rows - y, columns - x) for y, x in inside], axis=0)
        allowed |= distance <= feather
    np.testing.assert_array_equal(made.pixels[~allowed], photo[~allowed])
    np.testing.assert_array_equal(made.changed, (made.pixels != photo).any(-1))
    assert made.count == made.changed.sum()
    assert not (made.changed & ~made.region).any()
    assert not (made.region & ~allowed).any()


@often
@given(mask=masks(), feather=st.sampled_from([0.0, 3.0]))
def test_inside_a_hard_mask_stands_the_patch(mask: np.ndarray, feather: float) -> None:
    mask = mask > 0
    photo, patch = scene(*mask.shape, 0), scene(*mask.shape, 1)
    made = composite(photo, patch, mask, feather=feather)
    np.testing.assert_array_equal(made.pixels[mask], patch[mask])


def test_the_band_falls_from_patch_to_photo() -> None:
    mask = rectangle(1, 20, (0, 0, 8, 1))
    opacity = opacity_of(mask, 6)[0]
    assert (opacity[:8] == 1).all()
    assert (np.diff(opacity[7:15]) < 0).all()
    assert (opacity[14:] == 0).all()
    assert (opacity[8:14] > 0).all()
    middle = composite(np.zeros((1, 20, 3), np.uint8), np.full((1, 20, 3), 200, np.uint8), mask, feather=6).pixels[0]
    np.testing.assert_array_equal(middle[:, 0], np.rint(200 * opacity))


def test_a_soft_mask_is_opacity() -> None:
    mask = np.array([[0, 0.25, 0.5, 1]], np.float32)
    made = composite(np.zeros((1, 4, 3), np.uint8), np.full((1, 4, 3), 200, np.uint8), mask)
    assert made.pixels[0, :, 0].tolist() == [0, 50, 100, 200]


PLACES = {
    "middle": (20, 15, 60, 45),
    "at the left edge": (0, 15, 40, 45),
    "in a corner": (50, 30, 80, 60),
    "one pixel": (40, 30, 41, 31),
    "all but a row": (0, 0, 80, 59),
}


@pytest.mark.parametrize("place", PLACES)
def test_poisson_takes_a_tone_shift_out(place: str) -> None:
    photo, mask = scene(60, 80, 0) // 2 + 60, rectangle(60, 80, PLACES[place])
    shifted = photo + np.uint8(40)
    made = composite(photo, shifted, mask, method="poisson").pixels.astype(int)
    if place in ("middle", "one pixel"):
        assert np.abs(made - photo).max() <= 3
    seam = mask & ~rectangle(60, 80, tuple(np.add(PLACES[place], (2, 2, -2, -2)).tolist()))
    assert np.abs(made - photo)[seam].mean() < 0.6 * 40


def test_poisson_keeps_the_patchs_detail_in_its_place() -> None:
    photo, mask = np.full((60, 80, 3), 120, np.uint8), rectangle(60, 80, (20, 15, 60, 45))
    patch = np.full((60, 80, 3), 160, np.uint8)
    patch[28:32, 38:42] = 60
    made = composite(photo, patch, mask, method="poisson").pixels[..., 0].astype(int)
    dark = np.argwhere(made < 90)
    assert dark.min(0).tolist() == [28, 38]
    assert dark.max(0).tolist() == [31, 41]
    assert abs(made[16:20, 21:59].mean() - 120) < 4


def test_poisson_under_a_full_mask_is_the_patch() -> None:
    photo, patch = scene(30, 40, 0), scene(30, 40, 1)
    np.testing.assert_array_equal(composite(photo, patch, np.ones((30, 40), bool), method="poisson").pixels, patch)


def test_colours_are_matched_to_the_ring() -> None:
    photo, mask = scene(60, 80, 0) // 2 + 60, rectangle(60, 80, (30, 20, 50, 40))
    object_in_photo = photo.copy()
    object_in_photo[mask] = (200, 40, 40)
    tinted = (object_in_photo + np.array([20, -15, 10])).astype(np.uint8)
    assert np.abs(matched(tinted, photo, mask).astype(int) - object_in_photo).max() <= 1
    blurred = tinted.copy()
    blurred[~mask] = tinted[~mask].mean(0)
    kept = matched(blurred, photo, mask)[mask].astype(int)
    assert np.ptp(kept, axis=0).max() <= np.ptp(tinted[mask].astype(int), axis=0).max(), "no contrast is added"
    full = np.ones((60, 80), bool)
    np.testing.assert_array_equal(matched(tinted, photo, full), tinted)


def test_wrong_arguments_are_named() -> None:
    photo, mask = scene(6, 8, 0), np.ones((6, 8), bool)
    with pytest.raises(UsageError, match="photo is 8 x 6 pixels, the patch 6 x 8 and the mask 8 x 6"):
        composite(photo, scene(8, 6, 0), mask)
    with pytest.raises(UsageError, match="feather"):
        composite(photo, photo, mask, feather=-1)
    with pytest.raises(UsageError, match="feather"):
        composite(photo, photo, mask, feather=float("nan"))
    with pytest.raises(UsageError, match="'seam'"):
        composite(photo, photo, mask, method="seam")


@pytest.mark.parametrize("size", [(60, 80), (1, 300), (300, 1)])
def test_the_sheet_shows_photo_mask_and_candidates(size: tuple[int, int]) -> None:
    photo, mask = np.full((*size, 3), 40, np.uint8), np.zeros(size, bool)
    mask[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = True
    page = np.asarray(preview(photo, mask, [np.full((*size, 3), 10 * k, np.uint8) for k in range(9, 14)], cell=100))
    for shade in (40, 90, 100, 110, 120, 130):
        assert (page == shade).all(-1).any()
    reddish = (page[..., 0].astype(int) - page[..., 1] > 80).sum()
    assert reddish > 0
    zoomed = np.asarray(preview(photo, mask, window=Box(0, 0, (size[1] + 1) // 2, (size[0] + 1) // 2).slices, cell=100))
    assert (zoomed[..., 0].astype(int) - zoomed[..., 1] > 80).mean() > 0.9 * (reddish > 0) * reddish / page[..., 0].size
