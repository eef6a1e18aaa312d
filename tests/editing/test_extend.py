"""Laws of extending a photo and of taking things out of it."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inlay import Editor, Photo
from inlay.editing.crop import Box
from inlay.editing.editor import default_method
from inlay.editing.extend import pixels, strips
from inlay.editing.job import ExtendJob, checked
from inlay.editing.shown import NOTHING
from inlay.editing.task import extension
from inlay.errors import UsageError
from inlay.guidance.removal import Removal
from inlay.weights.diffusion import Belongings
from PIL import Image
from PIL.PngImagePlugin import PngInfo


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def test_extending_by_nothing_is_the_photo(editor, photo):
    result = editor.extend(photo, steps=1)
    assert np.array_equal(result.images[0].pixels, photo)
    assert result.settings[0].facts.changed_pixels == 0
    assert result.warnings == ("Nothing is added; say at which side, and how much.",)


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
    covered = np.zeros(size[::-1], int)
    for strip in strips(size, inner, native):
        covered[strip.slices] += 1
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


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_what_is_added_beside_transparency_is_seen(editor, photo, mode):
    cut = Image.fromarray(photo)
    alpha = np.zeros((50, 70), np.uint8)
    alpha[10:40, 10:60] = 200
    cut.putalpha(Image.fromarray(alpha))
    cut = cut.quantize(32) if mode == "P" else cut.convert(mode)
    made = editor.extend(cut, right=30, steps=1).images[0]
    assert (made.alpha[:, 70:] == 255).all()
    assert np.array_equal(made.alpha[:, :70], Photo.from_image(cut).alpha)


def test_an_extension_keeps_mode_and_metadata(editor, tmp_path, photo):
    deep = Photo.from_image(photo.astype(np.uint16) * 257)
    made = editor.extend(deep, steps=1, top=8).images[0]
    assert made.mode == "RGB;16"
    assert made.samples.dtype == np.uint16
    made.save(tmp_path / "deep.png")
    assert Photo.open(tmp_path / "deep.png").size == (70, 58)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_an_extended_file_keeps_what_it_says_and_says_its_new_size(editor, tmp_path, photo, ending):
    """A photo that lies on its side, with the size that its camera noted."""
    exif = Image.Exif()
    exif[256], exif[257], exif[271], exif[274] = 70, 50, "Maker", 6
    exif.get_ifd(0x8769).update({0xA002: 70, 0xA003: 50, 0x9003: "2020:01:02 03:04:05"})
    file, out = tmp_path / f"photo.{ending}", tmp_path / f"wider.{ending}"
    Image.fromarray(photo).save(file, exif=exif, dpi=(72, 72), **({"lossless": True} if ending == "webp" else {}))
    opened = Photo.open(file)
    made = editor.extend(opened, steps=1, right=11, top="10%", feather=0).images[0]
    made.save(out)
    with Image.open(out) as written:
        kept = written.getexif()
        assert written.size == (50 + 11, 70 + 7)
        assert written.format == Image.open(file).format
        assert (kept[271], kept.get(274, 1)) == ("Maker", 1)
        assert [kept.get_ifd(0x8769)[tag] for tag in (0xA002, 0xA003, 0x9003)] == [61, 77, "2020:01:02 03:04:05"]
        assert [kept.get(tag, side) for tag, side in ((256, 61), (257, 77))] == [61, 77]
        assert written.info.get("dpi", (72, 72)) == pytest.approx((72, 72), abs=0.1)
    assert np.array_equal(made.pixels[7:, :50], opened.pixels)


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" tiff:ImageWidth="%d" tiff:ImageLength = '%d' %s
 crs:Exposure2012="70"><exif:PixelXDimension>%d</exif:PixelXDimension>
<exif:PixelYDimension>%d</exif:PixelYDimension></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_an_extended_files_xmp_says_its_new_size(editor, tmp_path, photo, ending):
    """A photo that lies on its side by its XMP alone, as Pillow reads it; a TIFF stands upright."""
    lies = ending != "tif"
    file, out = tmp_path / f"photo.{ending}", tmp_path / f"wider.{ending}"
    said = (XMP % (70, 50, 'tiff:Orientation="6"' if lies else "", 70, 50)).encode()
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", said.decode())
    options = {"png": {"pnginfo": texts}, "tif": {"tiffinfo": {700: said}}}.get(ending, {"xmp": said})
    Image.fromarray(photo).save(file, **options)
    opened = Photo.open(file)
    made = editor.extend(opened, steps=1, right=11, top="10%", feather=0).images[0]
    width, height = (50 + 11, 70 + 7) if lies else (70 + 11, 50 + 5)
    assert made.size == (width, height)
    made.save(out)
    again = Photo.open(out)
    assert again.size == made.size, "it is not turned a second time"
    assert again.metadata.xmp.decode() == XMP % (width, height, 'tiff:Orientation="1"' if lies else "", width, height)


def test_a_long_strip_is_made_ready_at_the_cost_of_its_windows(models):
    """Half a second; with a mask of the whole canvas for each of 1000 windows it is a minute."""
    photo = Photo.from_image(np.full((32_000, 40, 3), 90, np.uint8))
    job = checked(ExtendJob, left=20, guidance_scale=1.0, scheduler="ddim", strength=0.8, method="removal")
    start = time.process_time()
    task = extension(job, models("sd1"), photo, guidance=Removal(), shown=NOTHING)
    assert len(task.windows) == 1000
    assert time.process_time() - start < 8


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


@pytest.mark.parametrize("action", ["remove", "extend"])
@pytest.mark.parametrize(("advice", "asked", "taken"), [({}, {}, 0.8), (0.3, {}, 0.3), (0.3, {"strength": 0.6}, 0.6)])
def test_surroundings_are_continued_at_the_strength_that_is_asked_for_or_advised(
    models, photo, action, advice, asked, taken
):
    mask = np.zeros((50, 70), bool)
    mask[10:30, 20:50] = True
    editor = Editor(replace(models("sd1"), belongings=Belongings({"continuing_strength": advice} if advice else {})))
    steps = []
    options = {"steps": 10, "on_step": lambda done, total: steps.append(total), **asked}
    made = editor.remove(photo, mask, **options) if action == "remove" else editor.extend(photo, top=9, **options)
    job = made.settings[0].job
    assert (job.strength, job.method[0].name) == (taken, "removal")
    windows = len(made.settings[0].facts.crops)
    assert steps == [round(10 * taken) * windows] * round(10 * taken) * windows


def test_an_extension_hides_what_is_not_painted_yet_and_has_noise_of_its_own_in_each_window(models):
    photo = Photo.from_image(np.full((300, 40, 3), 90, np.uint8))
    job = checked(ExtendJob, left=20, guidance_scale=1.0, scheduler="ddim", strength=0.8, method="removal")
    task = extension(job, models("sd1"), photo, guidance=Removal(), shown=NOTHING)
    painted = np.zeros((300, 60), bool)
    for window in task.windows:
        hidden = window.regions[0].tensor().numpy()
        assert (hidden >= window.cover).all()
        assert (hidden + window.crop.cut_mask(painted) <= 1 + 1e-6).all(), "each at its share of a pixel"
        painted[window.crop.inside.slices] |= window.place
    assert painted[:, :20].all()
    seeds = [sample.seed for number in range(len(task.windows)) for sample in task.samples(number, [photo])]
    assert len(set(seeds)) == len(task.windows) > 4
    named = checked(ExtendJob, left=20, prompt="a tree")
    assert default_method(named, placed=False) == ()
