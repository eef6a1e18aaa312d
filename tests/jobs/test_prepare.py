"""What is refused before a model is loaded."""

import numpy as np
import pytest
from inlay.editing.job import EditJob, RemoveJob, Setup, checked
from inlay.errors import PhotoError, UsageError
from inlay.jobs.perform import prepare
from inlay.jobs.select import select
from inlay.photos.photo import Photo
from PIL import Image


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"words": ["zebra"], "method": "segmenter"}, "no class for the words 'zebra'"),
        ({"words": ["zebra"], "method": "segmenter+zest"}, "no class for the words 'zebra'"),
    ],
)
def test_what_no_model_is_needed_for_is_refused_first(settings, said, tmp_path, monkeypatch):
    monkeypatch.setattr("inlay.editing.editor.Editor.from_pretrained", None)
    pixels = np.zeros((40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    Image.fromarray(np.uint8(255 * (pixels[..., 0] == 0))).save(tmp_path / "mask.png")
    files = {"photo": str(tmp_path / "photo.png"), "mask": [str(tmp_path / "mask.png")]}
    job = checked(EditJob, prompt="a zebra and a cat", **files, **settings)
    with pytest.raises(UsageError, match=said):
        prepare(job)
    known = {**settings, "words": ["cat"]}
    assert prepare(checked(EditJob, prompt="a zebra and a cat", **files, **known)).places.mask is not None


@pytest.fixture
def pointed(tmp_path):
    """A photo, and masks of its left and right thirds that touch, and one of opacities."""
    pixels = np.zeros((30, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    for name, columns, level in (
        ("left", slice(0, 20), 255),
        ("next", slice(20, 40), 255),
        ("grey", slice(0, 20), 160),
    ):
        mask = np.zeros((30, 60), np.uint8)
        mask[:, columns] = level
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    photo = Photo.open(tmp_path / "photo.png")

    def places(kind, *names, **settings):
        files = [str(tmp_path / f"{name}.png") for name in names]
        return select(photo, checked(kind, prompt="grass", mask=files, **settings))

    return places


def test_the_rest_of_several_places_is_what_lies_in_none(pointed):
    assert (pointed(EditJob, "left", "next", mask_invert=True).mask == (np.arange(60) >= 40)).all()
    with pytest.raises(UsageError, match="leave out --mask-invert"):
        pointed(EditJob, "left", "next", mask_invert=True, words=("grass", "grass"))


def test_places_that_touch_shrink_as_one(pointed):
    assert (pointed(EditJob, "left", "next", mask_grow=-5).mask == (np.arange(60) < 35)).all()
    apart = pointed(EditJob, "left", "next", mask_grow=-5, words=("grass", "grass"))
    assert [int(part[0].sum()) for part in apart.parts] == [15, 10]


def test_opacities_stay_as_they_are(pointed):
    for kind in (EditJob, RemoveJob):
        soft = pointed(kind, "grey", mask_read="opacity").mask
        assert soft.max() == pytest.approx(160 / 255)
        with pytest.raises(UsageError, match="stays as it is drawn"):
            pointed(kind, "grey", mask_read="opacity", mask_grow=2)
    assert pointed(RemoveJob, "grey").mask.dtype == bool


@pytest.mark.parametrize("read", ["threshold", "opacity"])
def test_the_limit_of_pixels_holds_for_masks(tmp_path, read):
    Image.new("L", (60, 40), 255).save(tmp_path / "mask.png")
    photo = Photo.from_image(np.zeros((20, 30, 3), np.uint8))
    job = EditJob(prompt="grass", mask=(str(tmp_path / "mask.png"),), mask_read=read, mask_fit="resize")
    assert select(photo, job, Setup(max_pixels=2400)).mask.all()
    with pytest.raises(PhotoError, match="the limit of 2399"):
        select(photo, job, Setup(max_pixels=2399))
