"""Results reach the disk whole or not at all, with metadata and settings, and say what a format could not keep."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inlay.errors import PhotoError, UsageError
from inlay.photos.metadata import Metadata
from inlay.photos.photo import Photo
from inlay.photos.read import read_settings
from inlay.photos.save import check_output
from PIL import ExifTags, Image, JpegImagePlugin
from PIL.PngImagePlugin import PngInfo

CHANGED = np.zeros((64, 96), bool)
CHANGED[16:40, 24:56] = True


def scene(seed: int = 0) -> np.ndarray:
    """A smooth coloured picture of 96 × 64 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC))


def edited(photo: Photo) -> Photo:
    return photo.with_patch(scene(1), CHANGED)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("deep", [False, True])
def test_settings_come_back(tmp_path: Path, suffix: str, deep: bool) -> None:
    stored = {"prompt": "ein rötlicher Fuchs 🦊", "seed": 7, "crop": [1, 2, 3, 4], "none": None}
    pixels = scene().astype(np.uint16) * 257 if deep else scene()
    Photo.from_image(pixels).save(tmp_path / f"a{suffix}", settings=stored)
    assert read_settings(tmp_path / f"a{suffix}") == stored
    Photo.from_image(pixels).save(tmp_path / f"b{suffix}")
    assert read_settings(tmp_path / f"b{suffix}") is None


def test_png_settings_are_a_text_chunk(tmp_path: Path) -> None:
    Photo.from_image(scene()).save(tmp_path / "a.png", settings={"seed": 3})
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.text["inlay"]) == {"seed": 3}


def test_old_settings_do_not_outlive_a_new_edit(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg"):
        Photo.from_image(scene()).save(tmp_path / f"a{suffix}", settings={"seed": 3})
        edited(Photo.open(tmp_path / f"a{suffix}")).save(tmp_path / f"b{suffix}")
        assert read_settings(tmp_path / f"b{suffix}") is None


def test_foreign_comments_are_no_settings(tmp_path: Path) -> None:
    for number, comment in enumerate(
        [b"ASCII\0\0\0hello", b'ASCII\0\0\0{"a": 1}', b"UNICODE\0x", b"", b"ASCII\0\0\0[" * 9]
    ):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = comment
        Image.fromarray(scene()).save(tmp_path / f"{number}.jpg", exif=exif)
        assert read_settings(tmp_path / f"{number}.jpg") is None
    (tmp_path / "text.png").write_text("no")
    with pytest.raises(PhotoError, match="not an image"):
        read_settings(tmp_path / "text.png")
    with pytest.raises(PhotoError, match="missing"):
        read_settings(tmp_path / "missing.png")


def camera_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[271], exif[306], exif[274] = "Maker", "2024:01:02 03:04:05", 6
    exif.get_ifd(0x8769).update({0x829A: 0.004, 0x8827: 200, 0xA002: 64, 0xA003: 96, 0x9286: b"ASCII\0\0\0my cat"})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 15.0)})
    return exif


@pytest.mark.parametrize("source", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif"])
def test_metadata_goes_along(tmp_path: Path, source: str, target: str) -> None:
    stored = Image.fromarray(scene()).transpose(Image.Transpose.ROTATE_90)  # orientation 6 turns it back
    stored.save(tmp_path / f"in{source}", exif=camera_exif().tobytes(), dpi=(240, 240))
    photo = Photo.open(tmp_path / f"in{source}")
    assert photo.size == (96, 64)
    edited(photo).save(tmp_path / f"out{target}", settings={"seed": 1})
    with Image.open(tmp_path / f"out{target}") as image:
        exif = image.getexif()
        assert exif[271] == "Maker"
        assert exif[306] == "2024:01:02 03:04:05"
        assert exif.get(274, 1) == 1
        camera = exif.get_ifd(0x8769)
        assert (float(camera[0x829A]), camera[0x8827]) == (0.004, 200)
        assert (camera[0xA002], camera[0xA003]) == (96, 64)
        assert exif.get_ifd(0x8825)[1] == "N"
        if source != ".webp" and target != ".webp":
            assert [round(float(dpi)) for dpi in image.info["dpi"]] == [240, 240]
    assert read_settings(tmp_path / f"out{target}") == {"seed": 1}


@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("deep", [False, True])
def test_text_beyond_ascii_keeps_its_bytes(tmp_path: Path, target: str, deep: bool) -> None:
    owner, lens = "© 2024 José".encode(), "Objektiv für Jörg".encode()
    exif = Image.Exif()
    exif[0x8298] = "C" * len(owner)  # Pillow writes no such text itself: put it in the place of one as long
    exif.get_ifd(0x8769)[0xA434] = "L" * len(lens)
    stored = exif.tobytes().replace(b"C" * len(owner), owner).replace(b"L" * len(lens), lens)
    Image.fromarray(scene()).save(tmp_path / "in.jpg", exif=stored)
    photo = Photo.open(tmp_path / "in.jpg")
    if deep:
        photo = replace(Photo.from_image(scene().astype(np.uint16) * 257), metadata=photo.metadata)
    photo.save(tmp_path / f"out{target}", settings={"seed": 1})
    with Image.open(tmp_path / f"out{target}") as image:
        assert image.getexif()[0x8298].encode("latin-1") == owner
        assert image.getexif().get_ifd(0x8769)[0xA434].encode("latin-1") == lens


def test_exif_in_a_png_text_is_kept_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    body = exif.tobytes()
    texts = PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(body):8}\n{body.hex()}\n")  # as ImageMagick writes it
    Image.fromarray(scene()).save(tmp_path / "in.png", pnginfo=texts)
    photo = Photo.open(tmp_path / "in.png")
    assert photo.size == (64, 96)
    photo.save(tmp_path / "out.png")
    assert Photo.open(tmp_path / "out.png").size == (64, 96)
    with Image.open(tmp_path / "out.png") as image:
        assert image.getexif()[271] == "Maker"
        assert "Raw profile type exif" not in image.info


def test_metadata_of_sixteen_bit_tiff(tmp_path: Path) -> None:
    exif = camera_exif()
    Image.fromarray(scene()).save(tmp_path / "in.jpg", exif=exif, dpi=(240, 240), xmp=b"<x:xmpmeta/>")
    metadata = Photo.open(tmp_path / "in.jpg").metadata
    deep = Photo.from_image(scene().astype(np.uint16) * 257)
    replace(deep, metadata=metadata).save(tmp_path / "a.tif", settings={"seed": 1})
    with Image.open(tmp_path / "a.tif") as image:
        assert image.getexif()[271] == "Maker"
        assert image.getexif().get_ifd(0x8769)[0x8827] == 200
        assert image.getexif().get_ifd(0x8825)[1] == "N"
        assert image.info["xmp"] == b"<x:xmpmeta/>"
        assert image.info["dpi"] == (240, 240)
    assert read_settings(tmp_path / "a.tif") == {"seed": 1}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_xmp_goes_along(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(scene()).save(tmp_path / "in.jpg", xmp=b"<x:xmpmeta/>", comment=b"by hand")
    edited(Photo.open(tmp_path / "in.jpg")).save(tmp_path / f"out{suffix}")
    with Image.open(tmp_path / f"out{suffix}") as image:
        xmp = image.info["xmp"]
        assert (xmp.encode() if isinstance(xmp, str) else xmp) == b"<x:xmpmeta/>"
        if suffix == ".jpg":
            assert image.info["comment"] == b"by hand"


def test_png_texts_and_gamma_go_along(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("Title", "Küste")
    texts.add(b"gAMA", (45455).to_bytes(4, "big"))
    Image.fromarray(scene()).save(tmp_path / "in.png", pnginfo=texts)
    edited(Photo.open(tmp_path / "in.png")).save(tmp_path / "out.png", settings={})
    with Image.open(tmp_path / "out.png") as image:
        assert image.text["Title"] == "Küste"
        assert image.info["gamma"] == pytest.approx(0.45455)


def test_no_thumbnail_of_the_unedited_photo_remains(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(scene()).resize((16, 16)).save(thumbnail, "JPEG")
    exif = camera_exif()
    del exif[274]
    head = exif.tobytes()
    directory = int.from_bytes(head[10:14], "little" if head[6:8] == b"II" else "big")
    order = "little" if head[6:8] == b"II" else "big"
    count = int.from_bytes(head[6 + directory : 8 + directory], order)
    link, start = 8 + directory + 12 * count, len(head) - 6
    entries = [(259, 3, 1, 6), (513, 4, 1, start + 2 + 36 + 4), (514, 4, 1, len(thumbnail.getvalue()))]
    second = len(entries).to_bytes(2, order)
    for tag, kind, number, value in entries:
        field = value.to_bytes(2, order) + b"\0\0" if kind == 3 else value.to_bytes(4, order)
        second += tag.to_bytes(2, order) + kind.to_bytes(2, order) + number.to_bytes(4, order) + field
    whole = head[:link] + start.to_bytes(4, order) + head[link + 4 :] + second + bytes(4) + thumbnail.getvalue()
    Image.fromarray(scene()).save(tmp_path / "in.jpg", exif=whole)
    assert thumbnail.getvalue()[:200] in (tmp_path / "in.jpg").read_bytes()
    with Image.open(tmp_path / "in.jpg") as image:
        assert 513 in image.getexif().get_ifd(ExifTags.IFD.IFD1), "the source does carry a thumbnail"
    edited(Photo.open(tmp_path / "in.jpg")).save(tmp_path / "out.jpg")
    assert thumbnail.getvalue()[:200] not in (tmp_path / "out.jpg").read_bytes()
    with Image.open(tmp_path / "out.jpg") as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_quantised_like_its_source(tmp_path: Path, subsampling: int, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stored = (
        Image.fromarray(scene()) if orientation == 1 else Image.fromarray(scene()).transpose(Image.Transpose.ROTATE_90)
    )
    stored.save(tmp_path / "in.jpg", quality=61, subsampling=subsampling, progressive=True, exif=exif)
    photo = Photo.open(tmp_path / "in.jpg")
    saved = edited(photo).save(tmp_path / "out.jpg")
    with Image.open(tmp_path / "in.jpg") as before, Image.open(tmp_path / "out.jpg") as after:
        for table in before.quantization:
            tables = [np.reshape(image.quantization[table], (8, 8)) for image in (before, after)]
            np.testing.assert_array_equal(tables[0] if orientation == 1 else tables[0].T, tables[1])
        assert JpegImagePlugin.get_sampling(after) == subsampling
        assert after.info["progressive"]
        outside = (np.asarray(after) != photo.pixels).any(-1) & ~CHANGED
    assert saved.changed_outside == outside.sum()
    better = edited(photo).save(tmp_path / "better.jpg", quality=95)
    if subsampling == 0:  # blocks that the patch does not touch land on the same coefficients
        assert saved.changed_outside < 0.2 * better.changed_outside


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    rgba = np.dstack([scene(), np.full((64, 96), 128, np.uint8)])
    cases = {
        "transparency": (Photo.from_image(rgba), ".jpg"),
        "8 bits": (Photo.from_image(scene().astype(np.uint16) * 257), ".webp"),
        "CMYK": (Photo.from_image(Image.fromarray(scene()).convert("CMYK")), ".png"),
    }
    for word, (photo, suffix) in cases.items():
        assert word in " ".join(edited(photo).save(tmp_path / f"out{suffix}").warnings)
    assert (Photo.open(tmp_path / "out.jpg").pixels.mean() - (scene().mean() + 255) / 2) < 8
    np.testing.assert_array_equal(Photo.open(tmp_path / "out.webp").pixels[~CHANGED], scene()[~CHANGED])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_every_mode_reaches_every_format(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(scene()).convert(mode)
    photo = Photo.from_image(image)
    saved = photo.save(tmp_path / f"out{suffix}", quality=100 if suffix == ".jpg" else None)
    back = Photo.open(saved.path)
    close = np.abs(back.pixels.astype(int) - photo.pixels).max()
    assert close <= (12 if suffix == ".jpg" else 0)
    assert saved.changed_outside == (back.pixels != photo.pixels).any(-1).sum()


def test_nothing_is_overwritten_in_silence(tmp_path: Path) -> None:
    photo, path = Photo.from_image(scene()), tmp_path / "out.png"
    photo.save(path)
    with pytest.raises(UsageError, match=r"exists.*--overwrite"):
        photo.save(path)
    edited(Photo.open(path)).save(path, overwrite=True)
    assert (Photo.open(path).pixels != scene()).any()
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]


def test_a_lossy_format_says_what_it_changed(tmp_path: Path) -> None:
    Photo.from_image(scene()).save(tmp_path / "in.png")
    photo = edited(Photo.open(tmp_path / "in.png"))
    for name, quality in (("a.jpg", None), ("b.webp", 80)):
        saved = photo.save(tmp_path / name, quality=quality)
        assert saved.changed_outside > 0
        assert any(f"{saved.changed_outside} pixels outside" in said and "write PNG" in said for said in saved.warnings)
    assert not photo.save(tmp_path / "c.webp").warnings
    assert not Photo.from_image(scene()).save(tmp_path / "d.jpg").warnings, "a generated picture has no outside"
    with pytest.raises(UsageError, match="PNG keeps every pixel and has no quality"):
        photo.save(tmp_path / "e.png", quality=80)


def test_captions_for_agencies_go_along(tmp_path: Path) -> None:
    """IPTC stands in Photoshop's block, whose thumbnail of the unedited photo must not."""
    caption, thumbnail = b"\x1c\x02\x78\0\x06my cat", b"\xff\xd8thumbnail"

    def resource(number: int, body: bytes) -> bytes:
        return (
            b"8BIM" + number.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(4, "big") + body + bytes(len(body) % 2)
        )

    body = b"Photoshop 3.0\0" + resource(0x0404, caption) + resource(0x040C, thumbnail)
    Image.fromarray(scene()).save(
        tmp_path / "in.jpg", extra=b"\xff\xed" + (len(body) + 2).to_bytes(2, "big") + body, xmp=b"<x:xmpmeta/>"
    )
    edited(Photo.open(tmp_path / "in.jpg")).save(tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["photoshop"] == {0x0404: caption}
        assert image.info["xmp"] == b"<x:xmpmeta/>"


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("ü" * 130 + ".png", "ü" * 130 + "/out.png"):
        with pytest.raises(UsageError, match="bytes of a file name"):
            Photo.from_image(scene()).save(tmp_path / name)
    longest = tmp_path / ("ü" * 125 + ".png")
    assert Photo.from_image(scene()).save(longest).path.exists()


def test_a_link_is_written_through(tmp_path: Path) -> None:
    Photo.from_image(scene()).save(tmp_path / "real.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    edited(Photo.from_image(scene())).save(tmp_path / "link.png", overwrite=True)
    assert (tmp_path / "link.png").is_symlink()
    assert (Photo.open(tmp_path / "real.png").pixels != scene()).any()


def test_where_a_result_may_go(tmp_path: Path) -> None:
    photo = Photo.from_image(scene())
    photo.save(tmp_path / "new" / "folders" / "out.png")
    assert (tmp_path / "new" / "folders" / "out.png").exists()
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PhotoError, match=r"cannot be written"):
        photo.save(tmp_path / "file" / "out.png")
    for name in ("out.bmp", "out", "folder.png"):
        with pytest.raises(UsageError, match=name):
            photo.save(tmp_path / name)
    with pytest.raises(UsageError, match="quality"):
        photo.save(tmp_path / "out.jpg", quality=0)
    with pytest.raises(UsageError, match="16383"):
        check_output(tmp_path / "out.webp", size=(20_000, 10))
    assert check_output(tmp_path / "out.TIFF", size=(200_000, 10)) == "TIFF"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    Photo.from_image(scene()).save(tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


FULL_DISK = """
import resource, sys
import numpy as np
from inlay.photos.photo import Photo
from inlay.errors import PhotoError
photo = Photo.from_image(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    photo.save(sys.argv[1], overwrite=True)
except PhotoError as error:
    print(error)
"""


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    before = Photo.from_image(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "old.png").path.read_bytes()
    for name in ("old.png", "new.png"):
        command = [sys.executable, "-c", FULL_DISK, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert "cannot be written: File too large" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["old.png"]
    assert (tmp_path / "old.png").read_bytes() == before


def test_settings_too_long_for_a_jpeg_are_missed_aloud(tmp_path: Path) -> None:
    saved = Photo.from_image(scene()).save(tmp_path / "a.jpg", settings={"long": "x" * 70_000})
    assert "do not fit" in saved.warnings[0]
    assert read_settings(tmp_path / "a.jpg") is None
    assert not Photo.from_image(scene()).save(tmp_path / "a.png", settings={"long": "x" * 70_000}).warnings
    assert read_settings(tmp_path / "a.png") == {"long": "x" * 70_000}


@pytest.mark.parametrize("kind", ["xmp", "comment"])
def test_texts_too_long_for_a_jpeg_are_missed_aloud(tmp_path: Path, kind: str) -> None:
    long = Metadata(**{kind: b"<x>" + b" " * 70_000 + b"</x>"})
    photo = replace(Photo.from_image(scene()), metadata=long)
    (warning,) = photo.save(tmp_path / "a.jpg").warnings
    assert "does not fit into a JPEG" in warning
    with Image.open(tmp_path / "a.jpg") as made:
        assert not made.info.keys() & {"xmp", "comment"}
    assert not photo.save(tmp_path / "a.png").warnings


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(stored=st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_any_json_comes_back(tmp_path_factory: pytest.TempPathFactory, stored: dict[str, object]) -> None:
    folder = tmp_path_factory.mktemp("json")
    for suffix in (".png", ".jpg"):
        Photo.from_image(np.zeros((2, 2, 3), np.uint8)).save(folder / f"a{suffix}", settings=stored)
        assert read_settings(folder / f"a{suffix}") == stored
