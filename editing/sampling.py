"""One batch through the loop: latents in, pictures out, with the fallbacks of small machines."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.denoiser import Denoiser, NumericError, Seam, gaussian, generators
from ..diffusion.inversion import Trajectory, invert, round_trip_error
from ..diffusion.loop import denoise
from ..diffusion.model import Model
from ..diffusion.schedule import Schedule, Step, first_index
from ..errors import OutOfMemoryError
from ..guidance.base import Guidance, Run
from ..guidance.regions import Region, bind, on_grid
from .blend import Blend, latent_mask
from .job import Job

Progress = Callable[[int, int], None]
"""Called after each step with (steps done, steps in all)."""


@dataclass(frozen=True)
class Canvas:
    """What an edit paints on: `pixels` (1, 3, H, W) in [-1, 1] and how much of each pixel the mask covers (H, W)."""

    pixels: Float[Tensor, "1 3 H W"]
    mask: Float[Tensor, "H W"]


@dataclass(frozen=True)
class Painted:
    """Latents after the loop, and the PSNR in dB of inversion and back where the photo was inverted."""

    latents: Float[Tensor, "b c h w"]
    inversion_psnr: float | None = None


@torch.no_grad()
def paint(
    model: Model,
    job: Job,
    guidance: Guidance,
    regions: Sequence[Region],
    size: tuple[int, int],
    seeds: Sequence[int],
    canvas: Canvas | None = None,
    on_step: Progress | None = None,
) -> Painted:
    """Sample one latent per seed at `size` (H, W) pixels: from nothing, or blended into `canvas`."""
    assert job.guidance_scale is not None, "the editor fills in the model's own"
    sources = generators(seeds)
    schedule = Schedule(job.scheduler, model.scheduler_config, job.steps, first_index(job.steps, job.strength))
    height, width = model.latent_size(size)
    like = torch.empty(0, device=model.device, dtype=model.working_dtype)
    noise = gaussian((model.latent_channels, height, width), sources, like)
    count = len(seeds)
    denoiser = Denoiser(
        model,
        schedule,
        model.prompts.encode([job.prompt]).repeat(count),
        model.prompts.encode([job.negative_prompt], negative=True).repeat(count),
        job.guidance_scale,
        sources,
        seam(model, canvas, (height, width)),
    )
    places = bind(regions, model.prompts, job.prompt)
    run = Run(
        model, schedule, (job.prompt,) * count, (places,) * count, (height, width), sources, editing=canvas is not None
    )
    session = guidance.begin(run)
    report = stepwise(schedule, on_step)
    if canvas is None:
        return Painted(denoise(schedule.begin(noise), schedule.steps, denoiser, session, on_step=report))
    source = model.encode(canvas.pixels)
    trajectory, psnr = inverted(model, job, source) if job.invert else (None, None)
    cells = latent_mask(on_grid(canvas.mask[None], (height, width))[0]).to(model.device)
    blend = Blend(source, cells, noise, schedule, trajectory, job.shrink)
    return Painted(denoise(blend.start(), schedule.steps, denoiser, session, blend, report), psnr)


def inverted(model: Model, job: Job, source: Float[Tensor, "1 c h w"]) -> tuple[Trajectory, float]:
    """The photo's latents at every level by DDIM inversion with its own prompt, and the PSNR of coming back down."""
    schedule = Schedule("ddim", model.scheduler_config, job.steps, first_index(job.steps, job.strength))
    prompt = model.prompts.encode([job.source_prompt])
    denoiser = Denoiser(model, schedule, prompt, prompt, 1.0, generators([job.seed]))
    trajectory = invert(source, denoiser)
    plain = Guidance().begin(
        Run(model, schedule, (job.source_prompt,), ((),), (source.shape[-2], source.shape[-1]), denoiser.generators)
    )
    back = denoise(trajectory.at[schedule.first], schedule.steps, denoiser, plain)
    return trajectory, round_trip_error(source, back)


def seam(model: Model, canvas: Canvas | None, size: tuple[int, int]) -> Seam:
    """The mask and masked photo that 9-channel inpainting UNets read beside the latents; nothing for others."""
    channels = model.latent_channels
    if model.unet.config.in_channels != 2 * channels + 1:
        return Seam()
    pixels = torch.zeros(1, 3, size[0] * model.factor, size[1] * model.factor) if canvas is None else canvas.pixels
    mask = torch.ones(pixels.shape[-2:]) if canvas is None else (canvas.mask > 0).float()
    masked = model.encode(pixels * (mask < 0.5))
    return Seam(torch.cat([latent_mask(on_grid(mask[None], size)[0]).to(masked)[None, None], masked], dim=1))


def stepwise(schedule: Schedule, on_step: Progress | None) -> Callable[[Tensor, Step], None] | None:
    if on_step is None:
        return None
    total = schedule.count - schedule.first
    return lambda _, step: on_step(step.index - schedule.first + 1, total)


T = TypeVar("T")


def with_fallbacks(
    model: Model, seeds: Sequence[int], work: Callable[[Sequence[int]], Sequence[T]]
) -> tuple[list[T], tuple[str, ...]]:
    """Run `work` over all seeds at once, or as this machine allows; returns its results and what was fallen back to.

    Out of memory: smaller batches, then a tiled autoencoder, then text encoder and autoencoder on the CPU. NaN in half
    precision: everything in fp32.

    Raises:
        OutOfMemoryError: not even then.
        NumericError: NaN in fp32.
    """
    batch, notes = len(seeds), list[str]()
    ladder = iter(("tiled autoencoder", "autoencoder and text encoder on the CPU"))
    try:
        while True:
            try:
                done = [result for at in range(0, len(seeds), batch) for result in work(seeds[at : at + batch])]
                return done, tuple(notes)
            except NumericError:
                if model.dtype != torch.float16:
                    raise
                model.to(dtype=torch.float32)
                notes.append("float32 after NaN in float16")
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if batch > 1:
                    batch = math.ceil(batch / 2)
                    notes.append(f"batches of {batch}")
                    continue
                step = next(ladder, None)
                if step is None:
                    raise OutOfMemoryError(
                        "Memory ran out even for one image; choose a smaller --size or model."
                    ) from error
                notes.append(step)
                model.vae.enable_tiling() if step.startswith("tiled") else model.offload()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    finally:
        model.vae.disable_tiling()


def out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
