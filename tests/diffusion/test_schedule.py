"""Every sampler keeps to the levels that the schedule states, and reads the sample that it is given."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inlay.diffusion.denoiser import gaussian, generators
from inlay.diffusion.samplers import DISCARDING, SCHEDULERS
from inlay.diffusion.schedule import Schedule, first_index
from inlay.errors import UsageError
from inlay.tests import tiny

DETERMINISTIC = ("ddim", "euler", "dpm++2m", "deis", "lms")
STOCHASTIC = ("ddpm", "euler-a", "lcm", "tcd")


def ideal(schedule, step, clean, noise):
    """What a denoiser that knows both says at `step`, in the schedule's prediction type."""
    signal, level = schedule.assumed(step)
    return noise if schedule.prediction_type == "epsilon" else signal * noise - level * clean


def at_level(level, clean, noise):
    return level[0] * clean + level[1] * noise


@pytest.fixture
def pair():
    return gaussian((4, 6, 5), generators([0])), gaussian((4, 6, 5), generators([1]))


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("options", "count", "first"),
    [
        ({}, 50, 0),
        ({}, 7, 3),
        ({"set_alpha_to_one": True}, 30, 29),
        ({"timestep_spacing": "trailing"}, 10, 4),
        ({"timestep_spacing": "trailing", "use_karras_sigmas": True}, 8, 0),
        ({"timestep_spacing": "linspace"}, 12, 0),
        ({"use_karras_sigmas": True}, 12, 5),
    ],
)
def test_every_step_lands_on_its_level(pair, name, prediction, options, count, first):
    schedule = Schedule(name, {**tiny.SCHEDULER, "prediction_type": prediction, **options}, count, first)
    assert [step.index for step in schedule.steps] == list(range(first, count))
    latents = at_level(schedule.level(first), *pair)
    for step in schedule.steps:
        if schedule.assumed(step) != schedule.level(step.index):  # DDIM off its leading grid: see Schedule.assumed
            assert name == "ddim"
            latents = at_level(schedule.assumed(step), *pair)
        latents = schedule.advance(latents, ideal(schedule, step, *pair), step, ())
        torch.testing.assert_close(latents, at_level(schedule.level(step.index + 1), *pair), atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize(("spacing", "count", "first"), [("leading", 10, 0), ("trailing", 4, 1)])
def test_stochastic_steps_land_on_their_level_in_distribution(name, spacing, count, first):
    clean, noise = gaussian((4, 64, 64), generators([0])), gaussian((4, 64, 64), generators([1]))
    schedule = Schedule(name, {**tiny.SCHEDULER, "timestep_spacing": spacing}, count, first)
    sources = generators([2])
    for step in schedule.steps:
        start = at_level(schedule.level(step.index), clean, noise)
        landed = schedule.advance(start, ideal(schedule, step, clean, noise), step, sources)
        signal, level = schedule.level(step.index + 1)
        rest = landed - signal * clean
        assert abs(float((rest * clean).mean())) < 0.03, "no clean signal is left over"
        assert math.isclose(float(rest.std()), level, rel_tol=0.02, abs_tol=1e-3)


def test_a_schedule_that_begins_without_signal_has_a_little():
    """Lin et al., arXiv 2305.08891: the last step's signal is 0, by which neither inversion nor guidance can divide."""
    config = {**tiny.SCHEDULER, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    schedule = Schedule("ddim", {**config, "prediction_type": "v_prediction"}, 5)
    assert float(schedule.scheduler.alphas_cumprod[-1]) == 0
    for signal, noise in (schedule.level(0), schedule.assumed(schedule.steps[0])):
        assert 0 < signal < 1e-3
        assert noise == pytest.approx(1)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_levels_are_variance_preserving_and_rise_to_clean(name):
    schedule = Schedule(name, tiny.SCHEDULER, 9)
    levels = [schedule.level(index) for index in range(schedule.count + 1)]
    assert all(math.isclose(signal**2 + noise**2, 1, rel_tol=1e-9) for signal, noise in levels)
    assert all(before[1] > after[1] for before, after in pairwise(levels))
    assert levels[-1][1] < 0.05


def test_ddim_ends_where_the_configuration_says():
    residue = Schedule("ddim", {**tiny.SCHEDULER, "set_alpha_to_one": False}, 10).level(10)
    clean = Schedule("ddim", {**tiny.SCHEDULER, "set_alpha_to_one": True}, 10).level(10)
    assert clean == (1.0, 0.0)
    assert residue[1] == pytest.approx(math.sqrt(tiny.SCHEDULER["beta_start"]), rel=1e-3)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_kick_between_steps_moves_what_follows(name):
    def run(kicked):
        schedule, sources = Schedule(name, tiny.SCHEDULER, 6), generators([0])
        latents = schedule.begin(gaussian((4, 4, 4), generators([1])))
        seen = []
        for step in schedule.steps:
            latents = schedule.advance(latents, 0.3 * latents, step, sources)
            if step.index == kicked:
                latents = latents + 0.5
            seen.append(latents)
        return seen

    plain = run(None)
    for kicked in range(5):
        moved = run(kicked)
        assert all(torch.equal(one, other) for one, other in zip(plain[:kicked], moved[:kicked], strict=True))
        assert (moved[kicked + 1] - plain[kicked + 1]).abs().mean() > 0.05


@pytest.mark.parametrize("name", DISCARDING)
def test_samplers_that_discard_changes_are_refused(name):
    with pytest.raises(UsageError, match="discards what is changed between steps"):
        Schedule(name, tiny.SCHEDULER, 10)


def test_unknown_samplers_and_impossible_counts_are_refused():
    with pytest.raises(UsageError, match="There is no scheduler 'magic'; choose one of ddim"):
        Schedule("magic", tiny.SCHEDULER, 10)
    for name, count in [("ddim", 1001), ("ddim", 1000), ("lcm", 51), ("ddim", 0), ("euler", 0), ("dpm++2m", -3)]:
        with pytest.raises(UsageError, match=f"cannot run {count} steps"):
            Schedule(name, tiny.SCHEDULER, count)
    for name in ("dpm++2m", "deis"):
        with pytest.raises(UsageError, match="cannot run 1000 steps"):
            Schedule(name, {**tiny.SCHEDULER, "timestep_spacing": "leading"}, 1000)


@pytest.mark.parametrize("name", ["deis", "lms"])
def test_samplers_that_know_no_zero_terminal_snr_are_refused_where_a_model_has_it(name):
    with pytest.raises(UsageError, match="no levels without any signal"):
        Schedule(name, {**tiny.SCHEDULER, "rescale_betas_zero_snr": True}, 10)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_clean_and_epsilon_recover_what_was_mixed(pair, name, prediction):
    clean, noise = pair
    schedule = Schedule(name, {**tiny.SCHEDULER, "prediction_type": prediction}, 10)
    for step in schedule.steps:
        latents = at_level(schedule.level(step.index), clean, noise)
        output = clean if prediction == "sample" else ideal(schedule, step, clean, noise)
        torch.testing.assert_close(schedule.clean(latents, output, step), clean, atol=5e-5, rtol=0)
        torch.testing.assert_close(schedule.epsilon(latents, output, step), noise, atol=1e-4, rtol=0)
        torch.testing.assert_close(schedule.from_epsilon(latents, noise, step), output, atol=1e-4, rtol=0)


@given(count=st.integers(1, 200), strength=st.floats(0.001, 1))
def test_strength_picks_a_first_step_inside_the_run(count, strength):
    first = first_index(count, strength)
    assert 0 <= first < count
    assert abs((count - first) - strength * count) <= 1


@pytest.mark.parametrize("strength", [0, -0.1, 1.01, float("nan")])
def test_impossible_strengths_are_refused(strength):
    with pytest.raises(UsageError, match="Strength"):
        first_index(10, strength)


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=4))
def test_noise_depends_on_its_own_seed_alone(seeds):
    together = gaussian((2, 3, 3), generators(seeds))
    alone = torch.cat([gaussian((2, 3, 3), generators([seed])) for seed in seeds])
    assert torch.equal(together, alone)
