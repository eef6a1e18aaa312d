"""DDIM inversion: from a photo's latents back up the noise levels, on the one loop.

Song et al. 2021 (DDIM), section 4.3; the fixed-point refinement follows the observation that the exact inverse of a
DDIM step solves z_t = (z_{t-1} - b eps(z_t, t)) / a, which plain inversion approximates by eps(z_{t-1}, t).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from .denoiser import Denoiser, Prediction
from .loop import denoise
from .schedule import Step


@dataclass(frozen=True)
class Upward:
    """A denoiser whose `advance` climbs: solves the DDIM step from boundary i to i + 1 for the latents at i."""

    denoiser: Denoiser
    iterations: int

    def predict(self, latents: Tensor, step: Step) -> Prediction:
        return self.denoiser.predict(latents, step)

    def advance(self, latents: Tensor, output: Tensor, step: Step) -> Tensor:
        """Latents at `step.index` whose DDIM step lands on `latents`, which are at `step.index + 1`."""
        schedule = self.denoiser.schedule
        signal, noise = schedule.assumed(step)
        next_signal, next_noise = schedule.level(step.index + 1)
        a, guess = next_signal / signal, latents
        b = next_noise - a * noise
        for iteration in range(self.iterations + 1):
            epsilon = schedule.epsilon(guess, output, step)
            guess = (latents - b * epsilon) / a
            if iteration < self.iterations:
                output = self.predict(guess, step).output
        return guess


class Climb:
    """The loop's guide for inversion: predicts at the latents at hand."""

    def refine(self, latents: Tensor, step: Step, denoiser: Upward) -> Tensor:
        return latents

    def predict(self, latents: Tensor, step: Step, denoiser: Upward) -> Prediction:
        return denoiser.predict(latents, step)

    def settle(self, latents: Tensor, prediction: Prediction, step: Step, denoiser: Upward) -> Tensor:
        return latents


@dataclass
class Trajectory:
    """Stored latents per boundary: `at[k]` are the latents at boundary k, `at[count]` the photo's own."""

    at: dict[int, Float[Tensor, "b c h w"]] = field(default_factory=dict)


def invert(source: Float[Tensor, "b c h w"], denoiser: Denoiser, iterations: int = 5) -> Trajectory:
    """Carry clean latents up to the run's first boundary, keeping every level.

    `denoiser` must run DDIM without CFG (scale 1), with the prompt that describes the source. `iterations` fixed-point
    refinements per step; each costs one forward.
    """
    trajectory = Trajectory({denoiser.schedule.count: source})

    def keep(latents: Tensor, step: Step) -> None:
        trajectory.at[step.index] = latents

    denoise(source, reversed(denoiser.schedule.steps), Upward(denoiser, iterations), Climb(), on_step=keep)  # type: ignore[arg-type]
    return trajectory


def round_trip_error(source: Tensor, resampled: Tensor) -> float:
    """PSNR in dB of latents after inversion and plain sampling, against the source's own range."""
    peak = source.amax() - source.amin()
    return float(10 * torch.log10(peak**2 / (source - resampled).square().mean()))
