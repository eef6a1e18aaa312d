"""Laws of `Editor`: pixels outside, seeds, strength, warnings, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from inlay import Editor, Photo
from inlay.diffusion.denoiser import NumericError
from inlay.editing.job import EditJob, GenerateJob, Record, checked
from inlay.editing.sampling import with_fallbacks
from inlay.errors import OutOfMemoryError, UsageError
from inlay.guidance import MaskedAttention
from inlay.guidance.regions import Region
from inlay.weights.diffusion import Belongings

PROMPT = "a red apple"


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def mask():
    place = np.zeros((90, 130), bool)
    place[30:55, 40:75] = True
    return place


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strength": 0.5, "shrink": True},
        {"composite": "poisson", "match_colour": True},
        {"feather": 0},
        {"invert": True, "strength": 0.7},
        {"scheduler": "dpm++2m"},
        {"scheduler": "euler-a"},
    ],
)
def test_pixels_beyond_the_band_are_the_photos(editor, photo, mask, options):
    result = editor.edit(photo, mask, PROMPT, steps=3, **{"feather": 4, **options})
    band = {"feather": 4, **options}["feather"]
    rows, columns = np.nonzero((result.images[0].pixels != photo).any(-1))
    assert rows.size > 0
    assert rows.min() >= 30 - band
    assert rows.max() < 55 + band
    assert columns.min() >= 40 - band
    assert columns.max() < 75 + band
    assert result.settings[0].facts.changed_pixels == rows.size


def test_image_k_is_the_image_of_seed_plus_k(editor, photo, mask):
    three = editor.edit(photo, mask, PROMPT, steps=3, num_images=3, seed=5)
    assert three.seeds == (5, 6, 7)
    for k in range(3):
        alone = editor.edit(photo, mask, PROMPT, steps=3, seed=5 + k)
        difference = np.abs(alone.images[0].pixels.astype(int) - three.images[k].pixels)
        assert difference.max() <= 1
    assert not np.array_equal(three.images[0].pixels, three.images[1].pixels)
    made = editor.generate(PROMPT, steps=3, num_images=2, seed=1)
    again = editor.generate(PROMPT, steps=3, seed=2)
    assert np.abs(made.images[1].pixels.astype(int) - again.images[0].pixels).max() <= 1


def test_distant_parts_are_edited_in_windows_of_their_own(editor):
    photo = np.random.default_rng(1).integers(0, 256, (400, 900, 3), dtype=np.uint8)
    mask = np.zeros((400, 900), bool)
    mask[20:60, 20:60] = mask[340:380, 840:880] = True
    result = editor.edit(photo, mask, PROMPT, steps=2, feather=0)
    assert len(result.settings[0].facts.crops) == 2
    changed = (result.images[0].pixels != photo).any(-1)
    assert changed[20:60, 20:60].mean() > 0.9
    assert changed[340:380, 840:880].mean() > 0.9
    assert not changed[~mask].any()
    joined = editor.edit(photo, mask, PROMPT, steps=2, feather=0, split=False)
    assert len(joined.settings[0].facts.crops) == 1


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (7, 9), (61, 83)])
def test_odd_sizes_work(editor, size):
    photo = np.full((*size, 3), 90, np.uint8)
    mask = np.zeros(size, bool)
    mask[size[0] // 2, size[1] // 2] = True
    result = editor.edit(photo, mask, PROMPT, steps=2, feather=0)
    changed = (result.images[0].pixels != photo).any(-1)
    assert result.images[0].pixels.shape == photo.shape
    assert not changed[~mask].any()
    assert editor.generate(PROMPT, steps=2, size=(size[0] + 10, size[1] + 10)).images[0].pixels.shape[:2] == (
        size[0] + 10,
        size[1] + 10,
    )


def test_soft_masks_of_ones_are_hard_and_bytes_are_thresholded(editor, photo, mask):
    hard = editor.edit(photo, mask, PROMPT, steps=3, feather=0)
    as_ones = editor.edit(photo, mask.astype(np.float32), PROMPT, steps=3, feather=0)
    as_bytes = editor.edit(photo, mask.astype(np.uint8) * 200, PROMPT, steps=3, feather=0)
    soft = editor.edit(photo, mask.astype(np.float32) * 0.5, PROMPT, steps=3, feather=0)
    assert np.array_equal(as_ones.images[0].pixels, hard.images[0].pixels)
    assert np.array_equal(as_bytes.images[0].pixels, hard.images[0].pixels)
    assert not np.array_equal(soft.images[0].pixels, hard.images[0].pixels)
    assert not (soft.images[0].pixels != photo).any(-1)[~mask].any()


@pytest.mark.parametrize("options", [{"fill": "neutral", "strength": 0.5}, {"match_grain": True}])
def test_fill_and_grain_change_the_place_alone(editor, photo, mask, options):
    plain = editor.edit(photo, mask, PROMPT, steps=3, feather=0, strength=options.get("strength", 1.0))
    other = editor.edit(photo, mask, PROMPT, steps=3, feather=0, **options)
    assert not np.array_equal(other.images[0].pixels, plain.images[0].pixels)
    assert not (other.images[0].pixels != photo).any(-1)[~mask].any()


def test_regions_stand_in_for_a_mask(editor, photo, mask):
    result = editor.edit(photo, None, PROMPT, regions=[Region(mask, "apple")], steps=2, feather=0)
    assert not (result.images[0].pixels != photo).any(-1)[~mask].any()


def test_a_regions_mask_may_have_another_size_of_the_photos_aspect(editor):
    photo = np.random.default_rng(2).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    mask = np.zeros((90, 130), bool)
    mask[50:70, 80:120] = True
    asked = {"steps": 2, "guidance": MaskedAttention()}
    whole = editor.edit(photo, mask, PROMPT, regions=[Region(mask, "apple")], **asked)
    halved = editor.edit(photo, mask, PROMPT, regions=[Region(mask[::2, ::2], "apple")], **asked)
    plain = editor.edit(photo, mask, PROMPT, steps=2)
    away = [np.abs(one.images[0].pixels.astype(int) - whole.images[0].pixels).sum() for one in (halved, plain)]
    assert away[0] < away[1] / 2, "it guides as the full one does, but for its rim"
    several = [Region(mask[::2, ::2], "apple"), Region(mask, "red")]
    assert editor.edit(photo, None, PROMPT, regions=several, steps=1).settings
    with pytest.raises(UsageError, match="is 65x90 and the photo 130x90; give them one aspect"):
        editor.edit(photo, mask, PROMPT, regions=[Region(mask[:, ::2], "apple")], steps=1)


@pytest.mark.parametrize("setting", [{"mask_invert": True}, {"mask_grow": 3}, {"box": "1,1,5,5"}, {"layout": "a.json"}])
def test_what_an_editor_does_not_act_on_is_refused(editor, photo, mask, setting):
    for call in (editor.edit, editor.remove):
        with pytest.raises(UsageError, match=f"does not act on '{next(iter(setting))}'"):
            call(photo, mask, PROMPT, steps=1, **setting)
    with pytest.raises(UsageError, match="does not act on 'mask_grow'"):
        editor.extend(photo, left=8, mask_grow=3)


def test_what_an_editor_is_loaded_with_and_how_files_are_written_is_said_elsewhere(editor, photo, mask):
    for setting in ({"lora": "a.safetensors"}, {"embedding": "b"}, {"vae": "c"}, {"model": "toybox"}):
        name = next(iter(setting))
        with pytest.raises(UsageError, match=f"give {name}= to Editor.from_pretrained"):
            editor.edit(photo, mask, PROMPT, steps=1, **setting)
        with pytest.raises(UsageError, match=f"give {name}= to Editor.from_pretrained"):
            editor.generate(PROMPT, steps=1, **setting)
    with pytest.raises(UsageError, match=r"give quality= to Photo\.save"):
        editor.edit(photo, mask, PROMPT, steps=1, quality=20)


def test_a_mask_may_be_a_tensor_of_any_precision(editor, photo, mask):
    made = [
        editor.edit(photo, torch.from_numpy(mask).to(kind), PROMPT, steps=1) for kind in (torch.bool, torch.bfloat16)
    ]
    assert (made[0].images[0].pixels == made[1].images[0].pixels).all()


def test_several_words_need_places(editor, photo, mask):
    job = EditJob(prompt="a red apple and a cat", words=("apple", "cat"), steps=1)
    with pytest.raises(UsageError, match="apple, cat need a place each"):
        editor.run(job, photo, mask)


def test_prompts_beyond_the_limit_warn_with_the_lost_words(editor, photo, mask):
    long = "a red apple and a green cup and a big dog on the grass of a tree"
    result = editor.edit(photo, mask, long, steps=1)
    assert any("tree" in warning for warning in result.warnings)
    assert not editor.edit(photo, mask, PROMPT, steps=1).warnings


def test_full_mask_is_allowed_and_said(editor, photo):
    result = editor.edit(photo, np.ones((90, 130), bool), PROMPT, steps=1)
    assert any("whole photo" in warning for warning in result.warnings)


def test_what_is_painted_unseen_is_said(editor, photo, mask):
    see_through = np.dstack([photo, np.where(mask, 0, 255).astype(np.uint8)])
    assert any("transparent" in warning for warning in editor.edit(see_through, mask, PROMPT, steps=1).warnings)
    see_through[40, 50, 3] = 1
    assert not editor.edit(see_through, mask, PROMPT, steps=1).warnings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": np.zeros((90, 130), bool)}, "empty"),
        ({"mask": np.ones((9, 13), bool)}, "13x9"),
        ({"mask": np.ones((90, 130, 3), bool)}, "shape"),
        ({"mask": np.full((90, 130), np.nan)}, "0 to 1"),
        ({"mask": None}, "no mask"),
        ({"strength": 0.0}, "trength"),
        ({"strength": 1.5}, "trength"),
        ({"steps": 0}, "steps"),
        ({"num_images": 0}, "num_images"),
        ({"seed": -1}, "seed"),
        ({"guidance_scale": -2.0}, "guidance_scale"),
        ({"scheduler": "pndm"}, "discards"),
        ({"scheduler": "nonsense"}, "nonsense"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(editor, photo, mask, change, said):
    arguments = {"photo": photo, "mask": mask, "prompt": PROMPT, "steps": 2, **change}
    with pytest.raises(UsageError, match=said):
        editor.edit(**arguments)


@pytest.mark.parametrize("size", [(0, 64), (100_000, 100_000)])
def test_a_size_without_pixels_or_beyond_all_memory_is_refused(editor, size):
    with pytest.raises(UsageError, match="The size"):
        editor.generate(PROMPT, size=size, steps=2)


def test_a_result_names_what_made_it(editor, photo, mask):
    result = editor.edit(Photo.from_image(photo), mask, PROMPT, steps=2, seed=9, strength=0.6)
    record = result.settings[0]
    job = record.job
    assert (job.prompt, job.seed, job.strength, record.facts.image_seed) == (PROMPT, 9, 0.6, 9)
    assert Record.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    ("advice", "asked", "taken"),
    [
        ({}, {}, "ddim"),
        ({"scheduler": "ddpm"}, {}, "ddpm"),
        ({"scheduler": "ddpm"}, {"scheduler": "euler"}, "euler"),
        ({"scheduler": "ddpm"}, {"invert": True}, "ddim"),
    ],
)
def test_the_sampler_is_the_one_that_is_asked_for_or_advised_and_an_inversions_ddim(
    models, photo, mask, advice, asked, taken
):
    """The same picture as where it is named."""
    advised = Editor(replace(models("sd1"), belongings=Belongings(advice)))
    made = advised.edit(photo, mask, PROMPT, steps=3, **asked)
    named = Editor(models("sd1")).edit(photo, mask, PROMPT, steps=3, **{**asked, "scheduler": taken})
    assert made.settings[0].job.scheduler == taken
    assert np.array_equal(made.images[0].pixels, named.images[0].pixels)


def test_a_result_says_what_the_model_advised(models, photo, mask):
    advice = {"masked-attention": {"layers": [1]}, "zest": {"layers": [0]}, "guidance_scale": 4.0}
    editor = Editor(replace(models("sd1"), belongings=Belongings(advice)))
    (record,) = editor.edit(photo, mask, PROMPT, steps=2, guidance=MaskedAttention()).settings
    assert (record.job.guidance_scale, record.facts.advice) == (4.0, {"masked-attention": {"layers": [1]}})


def test_memory_fallbacks_shrink_the_batch_and_are_named(models):
    seen = []

    def work(seeds):
        seen.append(len(seeds))
        if len(seeds) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [seed * 10 for seed in seeds]

    results, notes = with_fallbacks(models("sd1"), [1, 2, 3, 4], work)
    assert results == [10, 20, 30, 40]
    assert notes == ("batches of 2", "batches of 1")
    assert seen == [4, 2, 1, 1, 1, 1]


def test_memory_that_never_suffices_is_an_error(models):
    def work(seeds):
        raise MemoryError

    with pytest.raises(OutOfMemoryError):
        with_fallbacks(models("sd1"), [1, 2], work)
    assert not models("sd1").vae.use_tiling


def test_what_fallbacks_changed_is_put_back(models):
    """As on CUDA: half precision gives NaN, then memory runs out; the next job finds the model as it was."""
    model, seen = models("sd1"), []

    def work(seeds):
        vae = model.vae
        seen.append((model.dtype, vae.dtype, model.unet.is_gradient_checkpointing, vae.use_tiling))
        if len(seen) == 1:
            raise NumericError("NaN")
        if len(seen) < 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return seeds

    with model.kept():
        model.to(dtype=torch.float16)
        _, notes = with_fallbacks(model, [1], work)
        assert len(notes) == 3
        half, single = torch.float16, torch.float32
        assert seen == [(half, half, False, False), (single, single, False, False), *[(single, single, True, True)] * 2]
        assert (model.dtype, model.vae.dtype, model.prompts.encoders[0].dtype) == (half, half, half)
        assert not model.vae.use_tiling
        assert not model.unet.is_gradient_checkpointing
    assert model.dtype == single


def test_nan_in_fp32_is_never_saved(models):
    def work(seeds):
        raise NumericError("NaN")

    with pytest.raises(NumericError):
        with_fallbacks(models("sd1"), [1], work)


def test_the_last_glimpse_is_the_picture(editor: Editor) -> None:
    seen = []
    made = editor.run(
        checked(GenerateJob, prompt="a red apple", steps=3, size=(32, 32)),
        on_glimpse=lambda glimpse: seen.append(glimpse.picture()),
    )
    assert len(seen) == 3
    np.testing.assert_array_equal(seen[-1], made.images[0].pixels)
    assert (seen[0] != seen[-1]).any()
