"""Laws of extending a photo and of taking things out of it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inlay import Photo
from inlay.editing.crop import Box
from inlay.editing.extend import pixels, strips
from inlay.errors import UsageError


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def test_extending_by_nothing_is_the_photo(editor, photo):
    result = editor.extend(photo, steps=1)
    assert np.array_equal(result.images[0].pixels, photo)
    assert result.settings[0].facts.changed_pixels == 0


@pytest.mark.parametrize(
    ("sides", "feather"), [({"left": "50%", "bottom": 12}, 3), ({"top": 5}, 0), ({"right": "100%", "left": 9}, None)]
)
def test_the_photo_stands_exact_in_the_larger_one(editor, photo, sides, feather):
    result = editor.extend(photo, "a tree", steps=2, feather=feather, **sides)
    left, right = (pixels(str(sides.get(name, 0)), 70) for name in ("left", "right"))
    top, bottom = (pixels(str(sides.get(name, 0)), 50) for name in ("top", "bottom"))
    made = result.images[0].pixels
    assert made.shape == (50 + top + bottom, 70 + left + right, 3)
    band = 12 if feather is None else feather
    inside = made[top + band * bool(top) : top + 50 - band * bool(bottom)]
    inside = inside[:, left + band * bool(left) : left + 70 - band * bool(right)]
    original = photo[band * bool(top) : 50 - band * bool(bottom), band * bool(left) : 70 - band * bool(right)]
    assert np.array_equal(inside, original)
    padded = np.pad(photo, ((top, bottom), (left, right), (0, 0)), mode="edge")
    assert (made != padded).any()


@given(
    st.tuples(*[st.integers(0, 40)] * 4), st.tuples(st.integers(1, 60), st.integers(1, 60)), st.sampled_from([16, 64])
)
def test_strips_cover_what_is_new_exactly_once(margins, photo, native):
    left, top, right, bottom = margins
    width, height = photo
    size = width + left + right, height + top + bottom
    inner = Box(left, top, left + width, top + height)
    covered = sum((strip.astype(int) for strip in strips(size, inner, native)), np.zeros(size[::-1], int))
    expected = np.ones(size[::-1], int)
    expected[inner.slices] = 0
    assert np.array_equal(covered, expected)


def test_a_wide_strip_is_painted_in_windows_that_see_what_was_painted_before(editor):
    photo = np.full((300, 40, 3), 90, np.uint8)
    result = editor.extend(photo, steps=1, left=20, feather=0)
    crops = [Box(*crop) for crop in result.settings[0].facts.crops]
    assert len(crops) > 4
    assert all(one.meets(other) for one, other in itertools.pairwise(crops))


@pytest.mark.parametrize("wrong", ["a lot", "-3", "1.5", "20 %%"])
def test_what_is_no_extent_is_refused(editor, photo, wrong):
    with pytest.raises(UsageError, match="neither"):
        editor.extend(photo, left=wrong)


def test_an_extension_keeps_mode_and_metadata(editor, tmp_path, photo):
    deep = Photo.from_image(photo.astype(np.uint16) * 257)
    made = editor.extend(deep, steps=1, top=8).images[0]
    assert made.mode == "RGB;16"
    assert made.samples.dtype == np.uint16
    made.save(tmp_path / "deep.png")
    assert Photo.open(tmp_path / "deep.png").size == (70, 58)


def test_removal_changes_the_place_alone_and_needs_one(editor, photo):
    mask = np.zeros((50, 70), bool)
    mask[10:30, 20:50] = True
    result = editor.remove(photo, mask, steps=3, feather=0)
    changed = (result.images[0].pixels != photo).any(-1)
    assert changed[mask].any()
    assert not changed[~mask].any()
    assert (result.settings[0].job.action, result.settings[0].job.method[0].name) == ("remove", "removal")
    several = editor.remove(photo, mask, steps=2, num_images=2, feather=0)
    assert all(0 <= score <= 1 for score in several.scores)
    with pytest.raises(UsageError, match="empty"):
        editor.remove(photo, np.zeros_like(mask))
