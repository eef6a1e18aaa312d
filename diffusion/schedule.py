"""Noise schedules: the samplers of diffusers behind variance-preserving latents and known levels.

The loop's latents are always variance-preserving, z = signal * x0 + noise * eps with signal^2 + noise^2 = 1.
Samplers that keep sigma-scaled samples (Euler, LMS) are converted around their step.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UsageError
from .samplers import SCHEDULERS, TRAILING, check_scheduler


@dataclass(frozen=True)
class Step:
    """One step of a run: `index` counts the boundaries of the whole schedule, `timestep` is what the UNet is told."""

    index: int
    timestep: Tensor


SIGMA_SCALED = {"euler", "euler-a", "lms"}


FAINTEST = 2.0**-24
"""The least share of signal variance: models of zero terminal SNR begin at 0, by which epsilon and inversion divide.

It is the floor that diffusers' Euler sampler takes for them.
"""


def scheduler_class(name: str) -> Any:
    """The diffusers class behind one of `SCHEDULERS`. Raises UsageError as `check_scheduler`."""
    check_scheduler(name)
    return getattr(importlib.import_module("diffusers"), SCHEDULERS[name.removesuffix(TRAILING)])


class Schedule:
    """A fresh sampler for one run of `count` steps, entered at boundary `first`.

    `config` is the model's own scheduler configuration. Clipping of x0 is off: latents have no range.
    """

    def __init__(self, name: str, config: dict[str, Any], count: int, first: int = 0) -> None:
        cls = scheduler_class(name)
        if name.endswith(TRAILING):
            config, name = {**config, "timestep_spacing": "trailing"}, name.removesuffix(TRAILING)
        self.name = name
        if count < 1:
            raise UsageError(f"The scheduler {name} cannot run {count} steps; give at least 1.")
        self.scheduler = cls.from_config({**config, "clip_sample": False, "thresholding": False})
        try:
            self.scheduler.set_timesteps(count)
        except ValueError as error:
            raise UsageError(f"The scheduler {name} cannot run {count} steps: {error}") from error
        times = self.scheduler.timesteps  # "leading" ones may have an offset, or be 1000 // (N + 1) = 0 apart
        if times.max() >= len(self.scheduler.betas) or (count > 1 and len(times.unique()) == 1):
            raise UsageError(f"The scheduler {name} cannot run {count} steps on this model; give fewer.")
        if config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in inspect.signature(cls).parameters:
            raise UsageError(f"The scheduler {name} has no levels without any signal, as this model; choose another.")
        self.first, self.count = first, len(self.scheduler.timesteps)
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(first)
        if name in SIGMA_SCALED:
            self.scheduler.is_scale_input_called = True  # we scale ourselves: the UNet's input is the VP latent
        self.prediction_type: str = self.scheduler.config.prediction_type
        self._takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        self._levels = self._level_table()

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of this run, from `first` on."""
        return tuple(Step(index, self.scheduler.timesteps[index]) for index in range(self.first, self.count))

    def level(self, index: int) -> tuple[float, float]:
        """(signal, noise) of the latents at boundary `index`, from `first`, the start, to `count`, the end."""
        return self._levels[index]

    def assumed(self, step: Step) -> tuple[float, float]:
        """(signal, noise) that the sampler takes a step's latents to have: the level of the timestep.

        The same as `level(step.index)`, but for DDIM on timesteps that are not 1000 // N apart (spacings "trailing" and
        "linspace"), where each step lands beside the next listed timestep.
        """
        if hasattr(self.scheduler, "sigmas"):
            return self.level(step.index)
        return parts(float(self.scheduler.alphas_cumprod[step.timestep]))

    def begin(self, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Latents at the first boundary for generation from nothing, scaled as the sampler itself wants its noise."""
        scaled = self.name in SIGMA_SCALED
        return noise * float(self.scheduler.init_noise_sigma) * (self.level(self.first)[0] if scaled else 1.0)

    def _level_table(self) -> list[tuple[float, float]]:
        scheduler = self.scheduler
        if hasattr(scheduler, "sigmas"):
            squares = 1 / (1 + scheduler.sigmas.double() ** 2)
        else:
            train = scheduler.alphas_cumprod.double()
            landings = torch.stack([self._landing(index) for index in range(self.count)])
            squares = torch.cat([train[scheduler.timesteps[:1]], landings])
            squares[self.first] = train[scheduler.timesteps[self.first]]
        return [parts(float(square)) for square in squares]

    def _landing(self, index: int) -> Tensor:
        """The cumulative signal level at which the step from boundary `index` ends (samplers without sigmas)."""
        scheduler, times = self.scheduler, self.scheduler.timesteps
        final = torch.ones((), dtype=torch.float64)
        if self.name == "ddim":
            earlier = int(times[index]) - scheduler.config.num_train_timesteps // self.count
            return (
                scheduler.alphas_cumprod[earlier].double() if earlier >= 0 else scheduler.final_alpha_cumprod.double()
            )
        if index + 1 < self.count:
            return scheduler.alphas_cumprod[times[index + 1]].double()
        return scheduler.alphas_cumprod[0].double() if self.name == "tcd" else final

    def advance(
        self,
        latents: Float[Tensor, "b c h w"],
        output: Float[Tensor, "b c h w"],
        step: Step,
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "b c h w"]:
        """One sampler step from boundary `step.index` to the next, VP latents in and out."""
        scaled = self.name in SIGMA_SCALED
        sample = latents / self.level(step.index)[0] if scaled else latents
        extra: dict[str, Any] = {"generator": list(generators)} if self._takes_generator else {}
        if self.name == "lms":  # it counts its order from boundary 0, also when entered later
            extra["order"] = min(4, step.index - self.first + 1)
        moved = self.scheduler.step(output, step.timestep, sample, return_dict=False, **extra)[0]
        return (moved * self.level(step.index + 1)[0] if scaled else moved).to(latents.dtype)

    def clean(self, latents: Tensor, output: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """The estimate of x0 from a prediction at `step`."""
        signal, noise = self.assumed(step)
        if self.prediction_type == "epsilon":
            return (latents - noise * output) / signal
        if self.prediction_type == "v_prediction":
            return signal * latents - noise * output
        return output

    def epsilon(self, latents: Tensor, output: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """The noise estimate from a prediction at `step`."""
        signal, noise = self.assumed(step)
        if self.prediction_type == "epsilon":
            return output
        return (latents - signal * self.clean(latents, output, step)) / noise

    def from_epsilon(self, latents: Tensor, epsilon: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """A noise estimate in the model's own prediction type: the inverse of `epsilon`."""
        signal, noise = self.assumed(step)
        if self.prediction_type == "epsilon":
            return epsilon
        clean = (latents - noise * epsilon) / signal
        return clean if self.prediction_type == "sample" else (signal * latents - clean) / noise


def parts(square: float) -> tuple[float, float]:
    """(signal, noise) at a share `square` of signal variance, of which at least `FAINTEST` is taken to be there."""
    return max(square, FAINTEST) ** 0.5, (1 - square) ** 0.5


def first_index(count: int, strength: float) -> int:
    """The boundary at which an edit of `strength` in (0, 1] enters a schedule of `count` steps: at least one step runs.

    Raises:
        UsageError: strength outside (0, 1].
    """
    if not 0 < strength <= 1:
        raise UsageError(f"Strength {strength} is outside 0 (exclusive) to 1; 1 repaints the place from noise.")
    return count - max(1, round(strength * count))
