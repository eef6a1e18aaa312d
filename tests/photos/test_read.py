"""One reader for all pictures: what it opens, what it refuses, and that it never hangs or starts a program."""

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from inlay.errors import PhotoError, UsageError
from inlay.jobs.layout import read_colour_layout
from inlay.photos.mask_files import load_alpha, load_labels, load_mask
from inlay.photos.photo import Photo
from inlay.photos.read import read_settings
from PIL import EpsImagePlugin, Image
from PIL.PngImagePlugin import PngInfo

READERS = {
    "photo": Photo.open,
    "mask": load_mask,
    "levels": load_alpha,
    "labels": load_labels,
    "settings": read_settings,
    "layout": lambda path: read_colour_layout(path, {"red": "cup"}, "a cup"),
}
every_reader = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)


@every_reader
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, reader) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    said = {
        tmp_path / "pipe.png": "pipe or a device",
        Path("/dev/zero"): "pipe or a device",
        tmp_path / "link.png": "does not exist",
        tmp_path: "is a folder",
        tmp_path / ("x" * 300 + ".png"): "name too long",
    }
    for path, complaint in said.items():
        with pytest.raises(PhotoError, match=complaint) as caught:
            reader(path)
        assert str(path) in str(caught.value)


def test_a_pipe_of_run_lengths_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mask.json")
    with pytest.raises(PhotoError, match="pipe or a device"):
        load_mask(tmp_path / "mask.json")


@every_reader
def test_a_program_in_a_pictures_clothes_is_not_run(tmp_path: Path, reader, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "in.png", "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("a program was started"))
    with pytest.raises(PhotoError, match="is not an image"):
        reader(tmp_path / "in.png")


@every_reader
def test_bombs_are_refused_from_their_header(tmp_path: Path, reader) -> None:
    out = io.BytesIO()
    Image.new("L", (2, 2)).save(out, "PNG")
    png = bytearray(out.getvalue())
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(bytes(png[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(PhotoError, match="60000 × 60000"):
        reader(tmp_path / "bomb.png")


@every_reader
def test_too_much_text_is_no_damage(tmp_path: Path, reader) -> None:
    texts = PngInfo()
    texts.add_text("Comment", "x" * 3_000_000, zip=True)
    Image.new("L", (8, 8), 255).save(tmp_path / "in.png", pnginfo=texts)
    with pytest.raises(PhotoError, match="more text than a picture should"):
        reader(tmp_path / "in.png")


def test_all_turn_as_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    stored = np.zeros((4, 6), np.uint8)
    stored[0] = 255  # the first row is the last column of what is seen
    Image.fromarray(stored).save(tmp_path / "in.png", exif=exif)
    seen = np.rot90(stored, -1)
    np.testing.assert_array_equal(Photo.open(tmp_path / "in.png").pixels[..., 0], seen)
    np.testing.assert_array_equal(load_mask(tmp_path / "in.png"), seen == 255)
    np.testing.assert_array_equal(load_labels(tmp_path / "in.png"), seen)
    layout = read_colour_layout(tmp_path / "in.png", {"white": "cup"}, "a cup")
    np.testing.assert_array_equal(layout.regions[0].mask, seen == 255)


def test_what_others_convert_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.nef").write_bytes(b"MM\0\x2a")
    (tmp_path / "b.jpg").write_bytes(b"\xff\x0a" + bytes(20))
    (tmp_path / "c.svg").write_text("<svg/>")
    for name, complaint in {"a.nef": "develop it", "b.jpg": "JPEG XL.*djxl", "c.svg": "HEIC.* are read"}.items():
        with pytest.raises(PhotoError, match=complaint):
            Photo.open(tmp_path / name)


def test_heic_is_opened_or_the_extra_named(tmp_path: Path) -> None:
    picture = np.full((32, 48, 3), (200, 40, 90), np.uint8)
    try:
        import pillow_heif
    except ImportError:
        (tmp_path / "in.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
        with pytest.raises(PhotoError, match=r"inlay\[heic\]"):
            Photo.open(tmp_path / "in.heic")
        return
    pillow_heif.from_pillow(Image.fromarray(picture)).save(tmp_path / "in.heic")
    assert np.abs(Photo.open(tmp_path / "in.heic").pixels.astype(int) - picture).max() < 8


def test_avif_is_opened(tmp_path: Path) -> None:
    Image.new("RGB", (32, 48), (200, 40, 90)).save(tmp_path / "in.avif")
    assert np.abs(Photo.open(tmp_path / "in.avif").pixels.astype(int) - (200, 40, 90)).max() < 8


def test_a_label_map_is_no_mask(tmp_path: Path) -> None:
    from inlay.photos.mask_files import save_labels

    labels = np.arange(5).repeat(8)[None].repeat(20, axis=0)
    save_labels(labels, tmp_path / "map.png")
    Image.open(tmp_path / "map.png").convert("RGB").save(tmp_path / "rgb.png")
    for name in ("map.png", "rgb.png"):
        with pytest.raises(UsageError, match="in colour, as a label map"):
            load_mask(tmp_path / name)
    np.testing.assert_array_equal(load_labels(tmp_path / "map.png"), labels)
    greys = Image.fromarray((labels * 60).astype(np.uint8))
    for mode in ("L", "P", "RGB"):
        greys.convert(mode).save(tmp_path / "grey.png")
        with pytest.raises(UsageError, match=r"has 5 greys, as a label map has.*--mask-read opacity"):
            load_mask(tmp_path / "grey.png")
        np.testing.assert_allclose(load_alpha(tmp_path / "grey.png"), labels * 60 / 255, atol=1e-6)
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "dark.png")
    with pytest.raises(UsageError, match="the most is 2%"):
        load_mask(tmp_path / "dark.png")


def test_soft_edges_and_a_jpegs_noise_are_no_label_map(tmp_path: Path) -> None:
    from PIL import ImageDraw, ImageFilter

    disc = Image.new("L", (200, 160))
    ImageDraw.Draw(disc).ellipse((40, 30, 150, 130), 255)
    masks = {"blurred.png": disc.filter(ImageFilter.GaussianBlur(12)), "small.png": disc.resize((67, 53))}
    masks |= {"dim.png": disc.point(lambda level: level * 200 // 255), "noisy.jpg": disc.convert("RGB")}
    for name, mask in masks.items():
        mask.save(tmp_path / name, quality=40)
        np.testing.assert_array_equal(load_mask(tmp_path / name), load_alpha(tmp_path / name) >= 0.5)
