"""One batch through the loop: latents in, pictures out, with the fallbacks of small machines."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..diffusion.control import Hint, steering
from ..diffusion.denoiser import Denoiser, NumericError, Seam, gaussian, generators
from ..diffusion.inversion import Trajectory, invert, round_trip_error
from ..diffusion.loop import denoise
from ..diffusion.memory import Level
from ..diffusion.model import Model
from ..diffusion.schedule import Schedule, Step, first_index
from ..diffusion.text import Embedding
from ..errors import OutOfMemoryError
from ..guidance.base import Guidance, Run
from ..guidance.regions import Region, bind, on_grid
from .blend import Blend, change_map, latent_mask
from .job import Painting, SamplingJob

Progress = Callable[[int, int], None]
"""Called after each step with (steps done, steps in all)."""

OnLatents = Callable[[Tensor], None]
"""Called after each step, before `Progress`, with the batch's latents so far."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """What an edit paints on: `pixels` (1, 3, H, W) in [-1, 1], how much of each pixel the mask covers (H, W), and how
    much of it is to change, which is less where a mask is soft."""

    pixels: Float[Tensor, "1 3 H W"]
    mask: Float[Tensor, "H W"]
    change: Float[Tensor, "H W"]


Weighed = tuple[UInt8[np.ndarray, "H W 3"], float]
"""A picture, and how much it counts."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture of a batch: its prompts, its seed, its places, and what it is painted on."""

    seed: int
    prompt: str
    negative_prompt: str = ""
    source_prompt: str = ""
    """What the canvas shows, for inversion."""
    regions: tuple[Region, ...] = ()
    canvas: Canvas | None = None
    hints: tuple[Weighed, ...] = ()
    """What each of the model's controls is shown, of the size of what is made."""
    reference: Weighed | None = None


@dataclass(frozen=True)
class Painted:
    """Latents after the loop and, where photos were inverted, each sample's PSNR in dB of inversion and back."""

    latents: Float[Tensor, "b c h w"]
    inversion_psnr: tuple[float | None, ...]


@torch.no_grad()
def paint(
    model: Model,
    job: SamplingJob,
    guidance: Guidance,
    samples: Sequence[Sample],
    size: tuple[int, int],
    on_step: Progress | None = None,
    on_latents: OnLatents | None = None,
) -> Painted:
    """Sample one latent per sample at `size` (H, W) pixels: from nothing, or blended into its canvas.

    `job` says what all samples share: the fields of `SHARED`, and nothing else of it counts here. Either all samples
    have a canvas or none has.
    """
    assert job.guidance_scale is not None, "the editor fills in the model's own"
    assert job.scheduler is not None, "and its sampler"
    sources = generators([sample.seed for sample in samples])
    schedule = schedule_of(model, job, job.scheduler)
    height, width = model.latent_size(size)
    like = torch.empty(0, device=model.device, dtype=model.working_dtype)
    noise = gaussian((model.latent_channels, height, width), sources, like)
    canvases = [sample.canvas for sample in samples if sample.canvas is not None]
    blank = model.eye.blank if model.eye else None
    denoiser = Denoiser(
        model,
        schedule,
        looking(model, encoded(model, [sample.prompt for sample in samples], blank), samples),
        encoded(model, [sample.negative_prompt for sample in samples], blank, negative=True),
        job.guidance_scale,
        sources,
        seam(model, canvases, (height, width), samples),
        job.guidance_interval,
    )
    places = tuple(bind(sample.regions, model.prompts, sample.prompt) for sample in samples)
    prompts = tuple(sample.prompt for sample in samples)
    session = guidance.begin(Run(model, schedule, prompts, places, (height, width), sources, editing=bool(canvases)))
    report = stepwise(schedule, on_step, on_latents)
    unknown = (None,) * len(samples)
    if not isinstance(job, Painting) or not canvases:
        return Painted(denoise(schedule.begin(noise), schedule.steps, denoiser, session, on_step=report), unknown)
    source = torch.cat([model.encode(canvas.pixels) for canvas in distinct(canvases)])
    maps = [change_map(canvas.mask, canvas.change, (height, width)) for canvas in canvases]
    change = torch.stack(maps).to(source)
    trajectory, psnr = inverted(model, job, source, samples, blank) if job.invert else (None, unknown)
    blend = Blend(source, change, noise, schedule, trajectory, job.shrink)
    if model.defaults.get("sees_surroundings") and trajectory is None:
        denoiser = replace(denoiser, seam=replace(denoiser.seam, surroundings=(blend.widest[:, None], source)))
    return Painted(denoise(blend.start(), schedule.steps, denoiser, session, blend, report), psnr)


def schedule_of(model: Model, job: SamplingJob, scheduler: str) -> Schedule:
    """The steps that a job runs; an edit of less than full strength enters late."""
    strength = job.strength if isinstance(job, Painting) else 1.0
    return Schedule(scheduler, model.scheduler_config, job.steps, first_index(job.steps, strength))


def encoded(model: Model, prompts: Sequence[str], blank: Tensor | None, negative: bool = False) -> Embedding:
    """The embedding of each prompt, with `Eye.blank` beside it; what several samples share is encoded once."""
    known = {prompt: model.prompts.encode([prompt], negative=negative) for prompt in dict.fromkeys(prompts)}
    made = Embedding.cat([known[prompt] for prompt in prompts]).to(model.device)
    return made if blank is None else replace(made, picture=blank.expand(len(made), *blank.shape[1:]))


def looking(model: Model, embedding: Embedding, samples: Sequence[Sample]) -> Embedding:
    """The samples' embeddings with what each is to look like."""
    if model.eye is None:
        return embedding
    assert embedding.picture is not None
    pictures = {id(sample.reference[0]): sample.reference[0] for sample in samples if sample.reference}
    known = {key: model.eye.see(picture)[0] for key, picture in pictures.items()}
    blank = embedding.picture[:1]
    own = [known[id(sample.reference[0])] if sample.reference else blank for sample in samples]
    return replace(embedding, picture=torch.cat(own))


def distinct(canvases: Sequence[Canvas]) -> Sequence[Canvas]:
    """The one canvas that all samples share, or each sample's own."""
    return canvases[:1] if all(canvas is canvases[0] for canvas in canvases) else canvases


def inverted(
    model: Model,
    job: SamplingJob,
    source: Float[Tensor, "b c h w"],
    samples: Sequence[Sample],
    blank: Tensor | None,
) -> tuple[Trajectory, tuple[float, ...]]:
    """The canvases' latents at every level by DDIM inversion with their own prompts, and the PSNR of coming back."""
    schedule = schedule_of(model, job, "ddim")
    own = samples[: len(source)]
    prompts = tuple(sample.source_prompt for sample in own)
    prompt = encoded(model, prompts, blank)
    denoiser = Denoiser(model, schedule, prompt, prompt, 1.0, generators([sample.seed for sample in own]))
    trajectory = invert(source, denoiser)
    size = (source.shape[-2], source.shape[-1])
    plain = Guidance().begin(Run(model, schedule, prompts, ((),) * len(own), size, denoiser.generators))
    back = denoise(trajectory.at[schedule.first], schedule.steps, denoiser, plain)
    psnr = tuple(round_trip_error(one, again) for one, again in zip(source, back, strict=True))
    return trajectory, psnr if len(own) == len(samples) else psnr * len(samples)


def seam(model: Model, canvases: Sequence[Canvas], size: tuple[int, int], samples: Sequence[Sample] = ()) -> Seam:
    """What joins at the UNet's input for samples of `size` (h, w) latents: what 9-channel models read, what the model's
    controls say of their pictures, and where a reference counts."""
    hints = [hint(model, [sample.hints[k] for sample in samples]) for k in range(len(model.controls) if samples else 0)]
    residuals = steering(model.controls, hints, model.latent_channels) if hints else None
    places = [place_of(sample, size) for sample in samples] if model.eye else []
    place = torch.stack(places).to(model.device) if places else None
    return Seam(inpainting(model, canvases, size), residuals, place)


def hint(model: Model, shown: Sequence[Weighed]) -> Hint:
    """What one control is shown for each sample."""
    pictures = np.stack([picture for picture, _ in shown])
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    scales = torch.tensor([scale for _, scale in shown])
    return Hint(pixels.to(model.device, model.dtype), scales.to(model.device, model.dtype))


def place_of(sample: Sample, size: tuple[int, int]) -> Float[Tensor, "1 h w"]:
    """How much a sample's reference counts in each cell: in an edit under its mask alone."""
    if sample.reference is None:
        return torch.zeros(1, *size)
    mask = torch.ones(1, *size) if sample.canvas is None else on_grid(sample.canvas.mask[None], size)
    return mask * sample.reference[1]


def inpainting(model: Model, canvases: Sequence[Canvas], size: tuple[int, int]) -> Float[Tensor, "b c h w"] | None:
    """The mask and masked photo that 9-channel inpainting UNets read beside the latents; nothing for others."""
    channels = model.latent_channels
    if model.unet.config.in_channels != 2 * channels + 1:
        return None
    pixels = torch.zeros(1, 3, size[0] * model.factor, size[1] * model.factor)
    blank = Canvas(pixels, *[torch.ones(pixels.shape[-2:])] * 2)
    return torch.cat([masked(model, canvas, size) for canvas in distinct(canvases) or [blank]])


def masked(model: Model, canvas: Canvas, size: tuple[int, int]) -> Float[Tensor, "1 c h w"]:
    """A canvas's mask on the latents' grid, and the latents of what is left of it outside the mask."""
    mask = (canvas.mask > 0).float()
    latents = model.encode(canvas.pixels * (mask < 0.5))
    return torch.cat([latent_mask(on_grid(mask[None], size)[0]).to(latents)[None, None], latents], dim=1)


def stepwise(
    schedule: Schedule, on_step: Progress | None, on_latents: OnLatents | None
) -> Callable[[Tensor, Step], None]:
    """What the loop calls after each step."""

    def report(latents: Tensor, step: Step) -> None:
        if on_latents is not None:
            on_latents(latents)
        if on_step is not None:
            on_step(step.index - schedule.first + 1, schedule.count - schedule.first)

    return report


S = TypeVar("S")
T = TypeVar("T")


def with_fallbacks(
    model: Model, samples: Sequence[S], work: Callable[[Sequence[S]], Sequence[T]], level: Level | None = None
) -> tuple[list[T], tuple[str, ...]]:
    """Run `work` over all samples at once, or as this machine allows; returns its results and what was fallen back to.

    `level` is where to begin, if not with all at once.

    Out of memory: smaller batches, then activations recomputed for gradients and a tiled autoencoder, then text encoder
    and autoencoder on the CPU. NaN in half precision: everything in fp32. Afterwards the model is as it was.

    Raises:
        OutOfMemoryError: not even then.
        NumericError: NaN in fp32.
    """
    level = level or Level(len(samples))
    batch, taken = level.rows, level.spared + level.offloaded
    notes = [f"batches of {batch}"] if batch < len(samples) else []
    ladder = (
        ("recomputed activations, tiled autoencoder", model.spare),
        ("autoencoder and text encoder on the CPU", model.offload),
    )
    with model.kept():
        for note, save in ladder[:taken]:
            notes.append(note)
            save()
        rest = iter(ladder[taken:])
        while True:
            try:
                done = [result for at in range(0, len(samples), batch) for result in work(samples[at : at + batch])]
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
                following = next(rest, None)
                if following is None:
                    raise OutOfMemoryError(
                        "Memory ran out even for one image; choose a smaller --size or model."
                    ) from error
                notes.append(following[0])
                following[1]()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
