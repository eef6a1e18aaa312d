"""Laws of blending: full mask, empty mask, nested masks, and the photo's latents in the end."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inlay.diffusion.denoiser import Denoiser, gaussian, generators
from inlay.diffusion.loop import denoise
from inlay.diffusion.samplers import SCHEDULERS
from inlay.diffusion.schedule import Schedule
from inlay.editing.blend import Blend, dilated, latent_mask
from inlay.guidance.base import Guidance, Run

SHAPE = (4, 6, 10)


def _run(model, mask, scheduler="ddim", first=1, shrink=False, blended=True):
    sources = generators([3])
    schedule = Schedule(scheduler, model.scheduler_config, 5, first)
    noise = gaussian(SHAPE, sources)
    source = gaussian(SHAPE, generators([8]))
    prompt, empty = model.prompts.encode(["a red apple"]), model.prompts.encode([""], negative=True)
    denoiser = Denoiser(model, schedule, prompt, empty, 3.0, sources)
    session = Guidance().begin(Run(model, schedule, ("a red apple",), ((),), SHAPE[1:], sources))
    blend = Blend(source, mask, noise, schedule, shrink=shrink)
    return source, denoise(blend.start(), schedule.steps, denoiser, session, blend if blended else None)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_full_mask_is_plain_generation_from_that_start(models, scheduler):
    everything = torch.ones(SHAPE[1:], dtype=torch.bool)
    _, blended = _run(models("sd1"), everything, scheduler)
    _, plain = _run(models("sd1"), everything, scheduler, blended=False)
    assert torch.equal(blended, plain)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_empty_mask_gives_the_source(models, scheduler):
    source, blended = _run(models("sd1"), torch.zeros(SHAPE[1:], dtype=torch.bool), scheduler)
    assert torch.equal(blended, source)


@pytest.mark.parametrize("shrink", [False, True])
@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_background_ends_as_the_source_exactly(models, kind, shrink):
    mask = torch.zeros(SHAPE[1:], dtype=torch.bool)
    mask[2:4, 3:6] = True
    source, blended = _run(models(kind), mask, shrink=shrink)
    assert torch.equal(blended[..., ~mask], source[..., ~mask])
    assert not torch.equal(blended[..., mask], source[..., mask])


def test_background_has_the_level_of_the_boundary(models):
    schedule = Schedule("ddim", models("sd1").scheduler_config, 10, 2)
    source, noise = torch.full((1, *SHAPE), 2.0), gaussian(SHAPE, generators([0]))
    blend = Blend(source, torch.ones(SHAPE[1:], dtype=torch.bool), noise, schedule)
    for index in range(2, 10):
        signal, level = schedule.level(index)
        torch.testing.assert_close(blend.background(index), signal * source + level * noise)
    assert torch.equal(blend.background(10), source)
    assert torch.equal(blend.start(), blend.background(2))


@pytest.mark.parametrize(("count", "first"), [(1, 0), (3, 0), (8, 0), (9, 2), (50, 10)])
def test_shrinking_masks_are_nested_and_end_true(models, count, first):
    schedule = Schedule("ddim", models("sd1").scheduler_config, count, first)
    mask = torch.zeros(20, 24, dtype=torch.bool)
    mask[10, 3:20] = True
    blend = Blend(torch.zeros(1, 4, 20, 24), mask, torch.zeros(1, 4, 20, 24), schedule, shrink=True)
    masks = [blend.mask_at(step) for step in schedule.steps]
    for wide, narrow in itertools.pairwise(masks):
        assert bool((wide | ~narrow).all())
    assert torch.equal(masks[-1], mask)
    if count >= 8:
        assert torch.equal(masks[0], dilated(mask, 7))


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_a_pixel_of_any_coverage_survives_on_the_latent_grid(height, width, data):
    pooled = torch.zeros(height, width)
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    pooled[row, column] = data.draw(st.floats(1 / 4096, 1))
    assert bool(latent_mask(pooled)[row, column])
    assert int(latent_mask(pooled).sum()) == 1


def test_a_thin_stroke_survives_beside_a_large_part():
    pooled = torch.zeros(16, 16)
    pooled[2:8, 2:8] = 1.0
    pooled[8, 2:8] = 0.3  # the rim of the large part stays with the photo
    pooled[12, 1:15] = 0.2
    chosen = latent_mask(pooled)
    assert bool(chosen[12, 1:15].all())
    assert bool(chosen[2:8, 2:8].all())
    assert not bool(chosen[8, 2:8].any())
