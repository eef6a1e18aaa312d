"""Masks in files."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from inlay.errors import PhotoError, UsageError
from inlay.photos.mask_files import decode_rle, encode_rle, load_alpha, load_mask, save_mask
from PIL import Image


@pytest.fixture
def mask():
    shape = np.zeros((30, 50), bool)
    shape[5:20, 10:31] = True
    return shape


@settings(deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
def test_run_lengths_come_back(shape):
    assert (decode_rle(json.loads(json.dumps(encode_rle(shape)))) == shape).all()


def test_uncompressed_run_lengths_are_read_down_the_columns():
    assert (decode_rle({"size": [2, 3], "counts": [1, 2, 3]}) == [[0, 1, 0], [1, 0, 0]]).all()


@pytest.mark.parametrize(
    "rle",
    [
        {},
        [],
        {"size": [2, 3], "counts": [1]},
        {"size": [60, 50], "counts": "8240:"},  # shorter than the size
        {"size": [1, 1], "counts": "€"},
        {"size": [4, 4], "counts": [2**62] * 3 + [2**62 + 16]},  # more than 64 bits hold
        {"size": [4, 4], "counts": [2**80, 16 - 2**80]},
        {"size": [4, 4], "counts": "o" * 100_000 + "0"},
        {"size": [-4, -4], "counts": [16]},
        {"size": [100_000, 100_000], "counts": [10_000_000_000]},
        {"size": [float("inf"), 4], "counts": [16]},
        {"size": [4, 4], "counts": [float("nan")]},
        {"size": [4, 4], "counts": [[16]]},
    ],
)
def test_broken_run_lengths_are_refused(rle):
    with pytest.raises(UsageError, match=r"COCO run lengths|limit of"):
        decode_rle(rle)


def test_run_lengths_behind_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "mask.json").write_text(json.dumps({"size": [2, 3], "counts": [1, 2, 3]}), "utf-8-sig")
    assert load_mask(tmp_path / "mask.json").sum() == 2


@pytest.mark.parametrize("ending", ["png", "json"])
def test_the_limit_of_pixels_is_an_argument(mask, tmp_path, ending):
    path = tmp_path / f"mask.{ending}"
    save_mask(mask, path)
    assert (load_mask(path, max_pixels=mask.size) == mask).all()
    for load in (load_mask, load_alpha):
        with pytest.raises((PhotoError, UsageError), match="50 × 30 pixels, more than the limit of 1499"):
            load(path, max_pixels=mask.size - 1)


@pytest.mark.parametrize("ending", ["png", "tif", "json"])
def test_files_come_back(mask, tmp_path, ending):
    path = tmp_path / "deep" / f"mask.{ending}"
    save_mask(mask, path)
    assert (load_mask(path, (30, 50)) == mask).all()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_white_is_edit(mask, tmp_path):
    save_mask(mask, tmp_path / "mask.png")
    assert (np.asarray(Image.open(tmp_path / "mask.png")) == np.where(mask, 255, 0)).all()


def test_a_feathered_mask_keeps_its_levels(mask, tmp_path):
    save_mask(mask * np.float32(0.4), tmp_path / "soft.png")
    assert load_alpha(tmp_path / "soft.png").max() == pytest.approx(0.4, abs=1 / 255)


def test_alpha_is_the_mask_only_when_asked(mask, tmp_path):
    picture = np.dstack([np.full((*mask.shape, 3), 255, np.uint8), np.where(mask, 255, 0).astype(np.uint8)])
    Image.fromarray(picture).save(tmp_path / "cut.png")
    assert (load_mask(tmp_path / "cut.png", channel="alpha") == mask).all()
    assert load_mask(tmp_path / "cut.png").all()


def test_sixteen_bits_and_one_bit(mask, tmp_path):
    Image.fromarray(mask.astype(np.uint16) * 65535).save(tmp_path / "deep.png")
    Image.fromarray(mask).save(tmp_path / "flat.png")
    assert (load_mask(tmp_path / "deep.png") == mask).all()
    assert (load_mask(tmp_path / "flat.png") == mask).all()


def test_a_mask_turns_as_its_photo_does(mask, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left of what is seen
    Image.fromarray(np.rot90(mask).astype(np.uint8) * 255).save(tmp_path / "turned.png", exif=exif)
    assert (load_mask(tmp_path / "turned.png") == mask).all()


def test_other_sizes_need_leave(mask, tmp_path):
    save_mask(mask, tmp_path / "mask.png")
    with pytest.raises(UsageError, match=r"50 x 30 pixels and the photo 100 x 60.*--mask-fit resize"):
        load_mask(tmp_path / "mask.png", (60, 100))
    assert load_mask(tmp_path / "mask.png", (60, 100), fit="resize").mean() == pytest.approx(mask.mean(), abs=0.01)


def test_bad_files_are_told(mask, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "broken.json").write_text("{")
    said = {
        "text.png": "not an image",
        "zero.png": "is empty",
        "broken.json": "cannot be read",
        "missing.png": "does not exist",
        ".": "is a folder",
    }
    for name, complaint in said.items():
        with pytest.raises(PhotoError, match=complaint):
            load_mask(tmp_path / name)
    save_mask(mask, tmp_path / "mask.png")
    with pytest.raises(UsageError, match="no alpha channel"):
        load_mask(tmp_path / "mask.png", channel="alpha")
    save_mask(mask & False, tmp_path / "empty.png")
    with pytest.raises(UsageError, match="empty"):
        load_mask(tmp_path / "empty.png")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"size": [Infinity, 1], "counts": [1]}', '{"size": NaN}', "5"])
def test_deep_and_endless_json_gets_one_sentence(tmp_path, text):
    (tmp_path / "mask.json").write_text(text)
    with pytest.raises((PhotoError, UsageError), match=r"mask"):
        load_mask(tmp_path / "mask.json")


def test_masks_are_written_through_links_as_photos_are(mask, tmp_path):
    for name in ("mask.png", "mask.json"):
        save_mask(~mask, tmp_path / f"real-{name}")
        (tmp_path / name).symlink_to(tmp_path / f"real-{name}")
        save_mask(mask, tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (load_mask(tmp_path / f"real-{name}") == mask).all()


def test_masks_written_at_once_are_whole(mask, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: save_mask(mask, tmp_path / "mask.png"), range(40)))
    assert (load_mask(tmp_path / "mask.png") == mask).all()
    assert [file.name for file in tmp_path.iterdir()] == ["mask.png"]


def test_masks_are_not_written_where_they_would_fray_or_cannot_be(mask, tmp_path):
    with pytest.raises(UsageError, match=r"mask\.jpg"):
        save_mask(mask, tmp_path / "mask.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(PhotoError, match="cannot be written"):
        save_mask(mask, tmp_path / "file" / "mask.png")
