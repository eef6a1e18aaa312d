"""Masks from two prompts: DiffEdit, "DiffEdit: Diffusion-based semantic image editing with mask guidance" (Couairon,
Verbeek, Schwenk and Cord, ICLR 2023; arXiv 2210.11427), section 3.2, step 1.

Where the noise predictions for what a photo shows and for what it should show differ, there is what to edit. It needs
neither a detector nor a segmenter, and no more than the model sees at its own size.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from ..diffusion.denoiser import Denoiser, gaussian, generators
from ..diffusion.model import Model
from ..diffusion.numeric import finite
from ..diffusion.schedule import Schedule, first_index
from ..errors import UsageError
from ..photos.photo import Photo
from .crop import crops_for
from .sampling import encoded, seam
from .windows import native_side, signed

NOISES, STRENGTH, THRESHOLD = 10, 0.5, 0.5
"""The paper's: how many noises are averaged over, how strong they are, and where the scaled map is cut."""
EXTREME = 3.0
"""The paper removes extreme values and does not say how; diffusers' pipeline clips at so many times the map's mean."""
STEPS = 50


def difference_mask(model: Model, photo: Photo, there: str, wanted: str) -> Bool[np.ndarray, "H W"]:
    """The places of a photo that tell the prompt `wanted` from the prompt `there`, which says what stands there now.

    Raises:
        UsageError: nothing differs between the two.
    """
    height, width = photo.pixels.shape[:2]
    (crop,) = crops_for(np.ones((height, width), bool), native_side(model), model.grid, context=0, split=False)
    pixels = signed(crop.cut(photo.pixels))
    found = difference_map(model, pixels, there, wanted)
    seen = interpolate(found[None, None], pixels.shape[-2:], mode="bilinear")[0, 0].float().cpu().numpy()
    return crop.restore(seen) >= THRESHOLD


@torch.no_grad()
def difference_map(model: Model, pixels: Float[Tensor, "1 3 H W"], there: str, wanted: str) -> Float[Tensor, "h w"]:
    """How far the predictions under two prompts differ in each cell of the latents, from 0 to 1: the mean over noises
    and channels of the absolute difference, without its extreme values.

    `pixels` are in [-1, 1]. Raises UsageError where the two prompts mean the same to the model.
    """
    both = encoded(model, (there, wanted), model.eye.blank if model.eye else None)
    if torch.equal(*both.states):
        raise UsageError(f"Nothing differs between {there!r} and {wanted!r}; say what is there, and what should be.")
    schedule = Schedule("ddim", model.scheduler_config, STEPS, first_index(STEPS, STRENGTH))
    step, (signal, level) = schedule.steps[0], schedule.level(schedule.first)
    source = model.encode(pixels)
    channels = seam(model, (), (source.shape[-2], source.shape[-1]))
    denoiser = Denoiser(model, schedule, both, both, 1.0, (), channels)
    total = source.new_zeros(source.shape[-2:])
    for noise in gaussian(source.shape[1:], generators(range(NOISES)), source):
        latents = (signal * source + level * noise).expand(2, -1, -1, -1)
        before, after = finite(denoiser.forward(latents, step, both), step)
        total += (after - before).abs().mean(dim=0) / NOISES
    clipped = total.clamp(max=EXTREME * float(total.mean()))
    return (clipped - clipped.min()) / (clipped.max() - clipped.min())
