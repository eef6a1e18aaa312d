"""Inversion followed by plain sampling returns the source."""

import pytest
import torch
from inlay.diffusion.denoiser import Denoiser, gaussian, generators
from inlay.diffusion.inversion import invert, round_trip_error
from inlay.diffusion.loop import denoise
from inlay.diffusion.schedule import Schedule
from inlay.guidance.base import Session


def round_trip(model, iterations, spacing="leading", first=0, steps=10):
    config = {**model.scheduler_config, "timestep_spacing": spacing}
    schedule = Schedule("ddim", config, steps, first)
    prompt = model.prompts.encode(["a photo of a cat"])
    denoiser = Denoiser(model, schedule, prompt, prompt, 1.0, generators([0]))
    source = gaussian((4, 12, 10), generators([4])) * 0.8
    trajectory = invert(source, denoiser, iterations)
    assert sorted(trajectory.at) == list(range(first, steps + 1))
    back = denoise(trajectory.at[first], schedule.steps, denoiser, Session([]))
    return round_trip_error(source, back)


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_refinement_improves_the_round_trip(models, kind):
    errors = [round_trip(models(kind), iterations) for iterations in (0, 1, 5)]
    assert errors == sorted(errors)
    assert errors[-1] >= 30
    assert errors[-1] > errors[0] + 10


@pytest.mark.parametrize(("spacing", "first"), [("trailing", 0), ("linspace", 3)])
def test_inversion_undoes_the_sampler_on_any_spacing(models, spacing, first):
    assert round_trip(models("sd2"), 6, spacing, first, steps=7) >= 30


def test_error_is_the_peak_signal_to_noise_ratio():
    source = torch.tensor([0.0, 1.0])
    assert round_trip_error(source, source + 0.1) == pytest.approx(20, abs=1e-4)
