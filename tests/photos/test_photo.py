"""Photos come in as people have them, and everything but the patch goes out as it came."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inlay.errors import PhotoError, UsageError
from inlay.photos.decode import turned
from inlay.photos.photo import Photo
from PIL import Image, ImageCms, ImageOps

MODES = ["1", "L", "LA", "P", "P+alpha", "RGB", "RGBA", "CMYK", "I;16", "RGB;16", "RGBA;16"]
LOSSLESS = {".png": set(MODES) - {"CMYK"}, ".tif": set(MODES), ".webp": {"RGB", "RGBA"}}
per_file = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def photo_of(mode: str, width: int, height: int, seed: int = 0) -> Photo:
    """A photo of random samples in any mode."""
    samples = np.random.default_rng(seed).integers(0, 65536, (height, width, 4), dtype=np.uint16)
    if mode.endswith(";16"):
        return Photo.from_image(samples[..., 0] if mode == "I;16" else samples[..., : len(mode) - 3])
    rgba = Image.fromarray((samples >> 8).astype(np.uint8))
    if mode.startswith("P"):
        image = rgba.convert("RGB").quantize(16)
        if mode == "P+alpha":
            image.info["transparency"] = bytes([0, 100, 255])
        return Photo.from_image(image)
    return Photo.from_image(rgba.convert(mode))


def wide_gamut() -> bytes:
    """sRGB's profile with the primaries of Adobe RGB (1998), adapted to D50."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.60974, 0.31111, 0.01947),
        b"gXYZ": (0.20528, 0.62567, 0.06087),
        b"bXYZ": (0.14919, 0.06322, 0.74457),
    }
    for entry in range(struct.unpack(">I", profile[128:132])[0]):
        name, offset, _ = struct.unpack(">4sII", profile[132 + 12 * entry : 144 + 12 * entry])
        if name in primaries:
            profile[offset + 8 : offset + 20] = struct.pack(">3i", *(round(v * 65536) for v in primaries[name]))
    return bytes(profile)


@st.composite
def patched(draw: st.DrawFn, mode: str) -> tuple[Photo, Photo, np.ndarray, np.ndarray]:
    """A photo of any size, the same with a patch anywhere in it, the patch and where it was meant to change."""
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    photo = photo_of(mode, width, height, draw(st.integers(0, 99)))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    patch, changed = rng.integers(0, 256, (*shape, 3), dtype=np.uint8), rng.random(shape) < 0.7
    everywhere, whole = np.zeros((height, width), bool), photo.pixels.copy()
    everywhere[top : top + shape[0], left : left + shape[1]] = changed
    whole[top : top + shape[0], left : left + shape[1]] = patch
    return photo, photo.with_patch(patch, changed, at=(left, top)), whole, everywhere


@pytest.mark.parametrize(
    ("mode", "suffix"), [(mode, suffix) for suffix, modes in LOSSLESS.items() for mode in sorted(modes)]
)
@per_file
@given(data=st.data())
def test_outside_the_patch_every_sample_survives_the_file(
    tmp_path: Path, mode: str, suffix: str, data: st.DataObject
) -> None:
    photo, edited, whole, changed = data.draw(patched(mode))
    saved = edited.save(tmp_path / f"out{suffix}", overwrite=True)
    back = Photo.open(tmp_path / f"out{suffix}")
    assert saved.changed_outside == 0
    assert back.mode == edited.mode
    np.testing.assert_array_equal(back.samples, edited.samples)
    np.testing.assert_array_equal(back.pixels[~changed], photo.pixels[~changed])
    np.testing.assert_array_equal(back.pixels[changed], whole[changed])
    if photo.alpha is not None:
        np.testing.assert_array_equal(back.alpha, photo.alpha)
    if edited.mode == photo.mode:
        np.testing.assert_array_equal(back.samples[~changed], photo.samples[~changed])
    else:
        assert "the result is RGB" in " ".join(edited.warnings)
        assert edited.mode.startswith("RGB")


@pytest.mark.parametrize(
    ("mode", "suffix"), [(mode, suffix) for suffix, modes in LOSSLESS.items() for mode in sorted(modes)]
)
def test_an_unedited_photo_keeps_mode_and_samples(tmp_path: Path, mode: str, suffix: str) -> None:
    photo = photo_of(mode, 13, 11)
    photo.save(tmp_path / f"out{suffix}")
    back = Photo.open(tmp_path / f"out{suffix}")
    if not (mode == "P+alpha" and suffix == ".tif"):  # a TIFF's palette has no alpha: RGBA holds the same picture
        assert back.mode == photo.mode
        np.testing.assert_array_equal(back.samples, photo.samples)
    np.testing.assert_array_equal(np.asarray(back.image), np.asarray(photo.image))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "RGB;16", "RGBA;16"])
def test_colour_modes_are_given_back(mode: str) -> None:
    photo = photo_of(mode, 9, 7)
    assert photo.with_patch(np.full((3, 3, 3), 77, np.uint8), np.ones((3, 3), bool), at=(2, 2)).mode == mode


@pytest.mark.parametrize(
    ("mode", "colour"), [("1", 255), ("L", 77), ("LA", 77), ("I;16", 77), ("P", None), ("P+alpha", None)]
)
def test_a_mode_that_holds_the_new_colours_stays(mode: str, colour: int | None) -> None:
    photo = photo_of(mode, 9, 7)
    patch = np.full((7, 9, 3), colour, np.uint8) if colour is not None else photo.pixels[::-1].copy()
    changed = np.ones((7, 9), bool) if mode != "P+alpha" else photo.alpha == photo.alpha[::-1]
    edited = photo.with_patch(patch, changed)
    assert edited.mode == photo.mode
    assert not edited.warnings
    np.testing.assert_array_equal(edited.pixels[changed], patch[changed])


@pytest.mark.parametrize("mode", MODES)
def test_an_equal_patch_changes_no_sample(mode: str) -> None:
    photo = photo_of(mode, 8, 5)
    same = photo.with_patch(photo.pixels, np.ones((5, 8), bool))
    np.testing.assert_array_equal(same.samples, photo.samples)
    assert same.mode == photo.mode


def test_sixteen_bits_come_from_the_file_whole(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), samples[..., ::-1])
    tifffile.imwrite(tmp_path / "b.tif", samples, photometric="rgb", compression="zlib")
    tifffile.imwrite(tmp_path / "c.tif", samples[..., 0], byteorder=">")
    for name in ("a.png", "b.tif"):
        photo = Photo.open(tmp_path / name)
        assert photo.mode == "RGB;16"
        np.testing.assert_array_equal(photo.samples, samples)
        np.testing.assert_array_equal(photo.pixels, np.rint(samples / 257))
    np.testing.assert_array_equal(Photo.open(tmp_path / "c.tif").samples, samples[..., 0])


def test_sixteen_bit_tiffs_of_other_kinds_are_read_right_or_refused(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 65_536, (9, 12, 3), dtype=np.uint16)
    alpha = np.full((9, 12, 1), 40_000, np.uint16)
    multiplied = np.concatenate([(samples.astype(np.uint64) * alpha // 65_535).astype(np.uint16), alpha], -1)
    tifffile.imwrite(tmp_path / "alpha.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"])
    read = Photo.open(tmp_path / "alpha.tif").samples
    np.testing.assert_allclose(read[..., :3].astype(int), samples, atol=2)
    np.testing.assert_array_equal(read[..., 3:], alpha)
    tifffile.imwrite(tmp_path / "negative.tif", samples[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(Photo.open(tmp_path / "negative.tif").samples, 65_535 - samples[..., 0])
    tifffile.imwrite(tmp_path / "planes.tif", samples.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    with pytest.raises(PhotoError, match="plane by plane"):
        Photo.open(tmp_path / "planes.tif")
    tifffile.imwrite(tmp_path / "ink.tif", multiplied, photometric="separated")
    assert any("rounded to 8" in warning for warning in Photo.open(tmp_path / "ink.tif").warnings)


def test_sixteen_bit_transparency_is_kept(tmp_path: Path) -> None:
    photo = photo_of("RGBA;16", 5, 4)
    photo.save(tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).shape == (4, 5, 4)
    np.testing.assert_array_equal(Photo.open(tmp_path / "a.png").samples, photo.samples)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_orientation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.random.default_rng(2).integers(0, 256, (9, 14, 3), dtype=np.uint8))
    stored.save(tmp_path / f"in{suffix}", exif=exif)
    with Image.open(tmp_path / f"in{suffix}") as image:
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    photo = Photo.open(tmp_path / f"in{suffix}")
    np.testing.assert_array_equal(photo.pixels, shown)
    photo.save(tmp_path / "out.png", overwrite=True)
    with Image.open(tmp_path / "out.png") as image:
        assert image.getexif().get(274, 1) == 1
        np.testing.assert_array_equal(np.asarray(image), shown)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bit_files_are_turned_too(tmp_path: Path, orientation: int) -> None:
    samples = np.random.default_rng(3).integers(0, 65536, (4, 7, 3), dtype=np.uint16)
    shown = turned(samples, orientation)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(Photo.open(tmp_path / "a.tif").samples, shown)
    exif = Image.Exif()
    exif[274] = orientation
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    png = cv2.imencode(".png", samples[..., ::-1])[1].tobytes()
    (tmp_path / "a.png").write_bytes(png[:33] + chunk + png[33:])
    np.testing.assert_array_equal(Photo.open(tmp_path / "a.png").samples, shown)


def test_a_palette_and_one_transparent_colour(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[9, 9, 9], [200, 10, 10]]], np.uint8))
    image.save(tmp_path / "key.png", transparency=(9, 9, 9))
    photo = Photo.open(tmp_path / "key.png")
    assert photo.mode == "RGBA"
    assert photo.alpha is not None
    assert photo.alpha.tolist() == [[0, 255]]
    assert photo.pixels.tolist() == [[[9, 9, 9], [200, 10, 10]]]
    image.quantize(2).save(tmp_path / "palette.gif", transparency=0)
    palette = Photo.open(tmp_path / "palette.gif")
    assert palette.mode == "P"
    assert sorted(np.ravel(palette.alpha).tolist()) == [0, 255]


def test_a_profile_is_edited_in_srgb_and_given_back(tmp_path: Path) -> None:
    profile, rng = wide_gamut(), np.random.default_rng(4)
    samples = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(samples).save(tmp_path / "in.png", icc_profile=profile)
    photo = Photo.open(tmp_path / "in.png")
    shown = ImageCms.profileToProfile(
        Image.fromarray(samples),
        ImageCms.getOpenProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert np.abs(photo.pixels.astype(int) - np.asarray(shown)).max() <= 1
    assert np.abs(photo.pixels.astype(int) - samples).max() > 20, "the profile does something"

    changed = np.zeros((20, 30), bool)
    changed[4:9, 5:12] = True
    patch = np.full((20, 30, 3), (200, 90, 40), np.uint8)
    photo.with_patch(patch, changed).save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["icc_profile"] == profile
        stored = np.asarray(image)
    np.testing.assert_array_equal(stored[~changed], samples[~changed])
    back = Photo.open(tmp_path / "out.png").pixels[changed].astype(int)
    assert np.abs(back - (200, 90, 40)).max() <= 2


def test_srgb_under_its_own_name_is_no_conversion(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    samples = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(samples).save(tmp_path / "in.png", icc_profile=profile)
    photo = Photo.open(tmp_path / "in.png")
    np.testing.assert_array_equal(photo.pixels, samples)
    assert photo.icc == profile


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_broken_or_foreign_profile_is_named(tmp_path: Path, mode: str) -> None:
    profile = b"no profile at all" * 20 if mode == "RGB" else wide_gamut()
    Image.new(mode, (4, 4), 99 if mode == "L" else (99, 99, 99)).save(tmp_path / "in.png", icc_profile=profile)
    photo = Photo.open(tmp_path / "in.png")
    assert (photo.pixels == 99).all()
    assert "profile" in photo.warnings[0]


def test_colours_beyond_the_photos_own_space_are_named(tmp_path: Path) -> None:
    narrow = bytearray(wide_gamut())
    for entry in range(struct.unpack(">I", narrow[128:132])[0]):  # primaries drawn together: a space of pastels
        name, offset, _ = struct.unpack(">4sII", narrow[132 + 12 * entry : 144 + 12 * entry])
        if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
            values = np.array(struct.unpack(">3i", narrow[offset + 8 : offset + 20]))
            white = np.array([0.9642, 1.0, 0.8249]) * 65536 / 3
            narrow[offset + 8 : offset + 20] = struct.pack(">3i", *np.rint(0.4 * values + 0.6 * white).astype(int))
    Image.new("RGB", (4, 4), (120, 120, 120)).save(tmp_path / "in.png", icc_profile=bytes(narrow))
    photo = Photo.open(tmp_path / "in.png")
    red = photo.with_patch(np.full((4, 4, 3), (255, 0, 0), np.uint8), np.ones((4, 4), bool))
    assert "cannot hold all of the edit's colours" in red.warnings[0]
    assert red.mode == "RGB"
    np.testing.assert_array_equal(red.pixels, Photo.from_image(red_file(red, tmp_path)).pixels)


def red_file(photo: Photo, folder: Path) -> Image.Image:
    photo.save(folder / "red.png")
    return Image.open(folder / "red.png")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif", ".png"])
def test_several_pictures_need_a_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"in{suffix}", save_all=True, append_images=frames[1:], **options)
    with pytest.raises(UsageError, match=r"3 pictures.*--frame N"):
        Photo.open(tmp_path / f"in{suffix}")
    with pytest.raises(UsageError, match="no frame 3"):
        Photo.open(tmp_path / f"in{suffix}", frame=3)
    for number in (2, 0, 1):
        shown = Photo.open(tmp_path / f"in{suffix}", frame=number).pixels
        assert (shown == np.asarray(frames[number])).all()


def test_a_page_of_sixteen_bits(tmp_path: Path) -> None:
    pages = np.random.default_rng(6).integers(0, 65536, (3, 5, 4, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", pages, photometric="rgb")
    np.testing.assert_array_equal(Photo.open(tmp_path / "in.tif", frame=1).samples, pages[1])


def test_a_phones_second_picture_is_no_animation(tmp_path: Path) -> None:
    main, depth = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (9, 9, 9))
    main.save(tmp_path / "in.jpg", "MPO", save_all=True, append_images=[depth])
    assert Photo.open(tmp_path / "in.jpg").pixels[0, 0, 0] > 150


def picture_bytes(suffix: str) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(7).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    if suffix == "16.png":
        return cv2.imencode(".png", noise.astype(np.uint16) * 257)[1].tobytes()
    if suffix == "16.tif":
        tifffile.imwrite(out, noise.astype(np.uint16) * 257, photometric="rgb", compression="zlib")
        return out.getvalue()
    image = Image.fromarray(noise)
    image.save(out, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    return out.getvalue()


BROKEN = ["png", "jpg", "webp", "tif", "gif", "bmp", "16.png", "16.tif"]


@pytest.mark.parametrize("suffix", BROKEN)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, kept: float) -> None:
    whole = picture_bytes(suffix)
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(PhotoError, match="cut"):
        Photo.open(path)


@pytest.mark.parametrize("suffix", BROKEN)
@settings(parent=per_file, max_examples=40)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_a_sentence(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    damaged = bytearray(picture_bytes(suffix))
    places = st.lists(
        st.tuples(st.integers(0, min(len(damaged), 400) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
    for place, value in data.draw(places):
        damaged[place] = value
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(damaged)
    with suppress(PhotoError, UsageError):  # any other exception fails
        photo = Photo.open(path, max_pixels=10_000_000)
        assert photo.pixels.dtype == np.uint8
        assert photo.pixels.shape[2] == 3


def test_what_is_no_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    for name, complaint in {
        "empty.png": "empty",
        "text.png": "not an image",
        "folder.png": "folder",
        "missing.png": "does not exist",
        "x" * 300 + ".png": "xxx",
    }.items():
        with pytest.raises(PhotoError, match=complaint) as caught:
            Photo.open(tmp_path / name)
        assert name in str(caught.value)


def test_samples_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "float.tif", np.random.default_rng(8).random((4, 4), np.float32))
    with pytest.raises(PhotoError, match="8 or 16 bits"):
        Photo.open(tmp_path / "float.tif")


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    png = bytearray(picture_bytes("png"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(PhotoError, match=r"60000 × 60000 pixels.*max_pixels"):
        Photo.open(tmp_path / "bomb.png")
    (tmp_path / "fine.png").write_bytes(picture_bytes("png"))
    with pytest.raises(PhotoError, match="limit of 1999"):
        Photo.open(tmp_path / "fine.png", max_pixels=1999)
    assert Photo.open(tmp_path / "fine.png", max_pixels=2000).size == (50, 40)
    assert Image.MAX_IMAGE_PIXELS is not None, "Pillow's own guard is back in place"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_tensors_are_channels_first(dtype: torch.dtype) -> None:
    levels = torch.arange(60, dtype=torch.uint8).reshape(3, 4, 5)
    tensor = levels if dtype == torch.uint8 else (levels / 255).to(dtype)
    for image in (tensor, tensor[None]):
        np.testing.assert_array_equal(Photo.from_image(image).pixels, levels.permute(1, 2, 0).numpy())


def test_arrays_of_every_kind() -> None:
    grey = np.random.default_rng(9).integers(0, 256, (5, 4), dtype=np.uint8)
    expected = np.repeat(grey[..., None], 3, -1)
    for array in (grey, grey[..., None], expected, expected / 255, grey.astype(np.uint16) * 257, Image.fromarray(grey)):
        np.testing.assert_array_equal(Photo.from_image(array).pixels, expected)
    assert Photo.from_image(grey > 100).mode == "1"
    half = torch.rand(1, 3, 4, 5).bfloat16()
    np.testing.assert_array_equal(Photo.from_image(half).pixels, Photo.from_image(half[0].float()).pixels)
    for bad in ("a.png", [[0.5]], torch.zeros(4, 6), torch.zeros(2, 3, 4, 6)):
        with pytest.raises(UsageError, match="image"):
            Photo.from_image(bad)  # type: ignore[arg-type]
    for bad in (np.zeros((4, 4, 2)), np.zeros((0, 4, 3)), np.full((4, 4), np.nan), np.full((4, 4), 1.5), np.zeros(4)):
        with pytest.raises(UsageError, match="image"):
            Photo.from_image(bad)
    with pytest.raises(UsageError, match="int64"):
        Photo.from_image(np.zeros((4, 4), np.int64))


def test_the_picture_to_look_at_has_its_alpha() -> None:
    for mode in MODES:
        photo = photo_of(mode, 5, 4)
        assert photo.size == photo.image.size == (5, 4)
        assert photo.image.mode == ("RGB" if photo.alpha is None else "RGBA")
