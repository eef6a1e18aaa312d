"""Runs of a tiny model under a guidance method, for the tests of `inlay.guidance`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from inlay.diffusion.denoiser import Denoiser, gaussian, generators
from inlay.diffusion.loop import denoise
from inlay.diffusion.model import Model
from inlay.diffusion.schedule import Schedule
from inlay.guidance.base import Guidance, Run
from inlay.guidance.regions import Place, Region, bind

PROMPT = "a red apple and a cat"


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (32, 48)) -> torch.Tensor:
    mask = torch.zeros(size)
    mask[top:bottom, left:right] = 1
    return mask


def two_regions(size: tuple[int, int] = (32, 48), **options: Any) -> list[Region]:
    """An apple at the left and a cat at the right."""
    height, width = size
    return [
        Region(box(height // 4, width // 12, 3 * height // 4, 5 * width // 12, size), "red apple", **options),
        Region(box(height // 4, 7 * width // 12, 3 * height // 4, 11 * width // 12, size), "cat", **options),
    ]


def sample(
    model: Model,
    guidance: Guidance,
    regions: Sequence[Sequence[Region]] | Sequence[Region],
    *,
    prompts: Sequence[str] = (PROMPT,),
    seeds: Sequence[int] = (0,),
    size: tuple[int, int] = (8, 12),
    steps: int = 3,
    scheduler: str = "ddim",
    scale: float = 3.0,
    on_step: Any = None,
) -> torch.Tensor:
    """Final latents; `regions` are per sample, or the same for all."""
    per_sample = [list(regions)] * len(seeds) if not regions or isinstance(regions[0], Region) else regions
    schedule = Schedule(scheduler, model.scheduler_config, steps)
    sources = generators(seeds)
    noise = gaussian((4, *size), sources).to(model.working_dtype)
    run, denoiser = begin(
        model, schedule, list(prompts) * (len(seeds) // len(prompts)), per_sample, size, sources, scale
    )
    return denoise(schedule.begin(noise), schedule.steps, denoiser, guidance.begin(run), on_step=on_step)


def begin(
    model: Model,
    schedule: Schedule,
    prompts: Sequence[str],
    regions: Sequence[Sequence[Region]],
    size: tuple[int, int],
    sources: tuple[torch.Generator, ...],
    scale: float = 3.0,
) -> tuple[Run, Denoiser]:
    """A run and its denoiser, without a loop."""
    places: tuple[tuple[Place, ...], ...] = tuple(
        bind(own, model.prompts, prompt) for own, prompt in zip(regions, prompts, strict=True)
    )
    negative = model.prompts.encode([""] * len(prompts), negative=True)
    denoiser = Denoiser(model, schedule, model.prompts.encode(list(prompts)), negative, scale, sources)
    return Run(model, schedule, tuple(prompts), places, size, sources), denoiser
