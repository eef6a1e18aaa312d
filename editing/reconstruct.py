"""Background reconstruction by fine-tuning the decoder's weights on one picture (Blended Latent Diffusion, 3.3)."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from ..diffusion.model import Model

STEPS = 75
RATE = 1e-4
PRESERVATION = 100.0
"""Weight of the outside beside the inside."""


def decode_with_background(
    model: Model,
    latents: Float[Tensor, "1 c h w"],
    photo: Float[Tensor, "1 3 H W"],
    mask: Float[Tensor, "H W"],
    steps: int = STEPS,
) -> Float[Tensor, "1 3 H W"]:
    """Decode `latents` by a copy of the decoder that is tuned until the outside of `mask` is the photo's.

    `photo` in [-1, 1]. The loss is MSE to the plain decoding inside + 100 MSE to the photo outside, Adam with rate
    1e-4. The model's own weights stay as they are.
    """
    edited = model.decode(latents)
    photo, inside = photo.to(edited), mask.to(edited)
    tuned = copy.deepcopy(model.vae)
    if tuned.dtype in (torch.float16, torch.bfloat16):
        tuned = tuned.to(torch.float32)
    weights = [*tuned.decoder.parameters(), *(tuned.post_quant_conv.parameters() if tuned.post_quant_conv else ())]
    source = (latents / tuned.config.scaling_factor + (getattr(tuned.config, "shift_factor", None) or 0.0)).to(
        tuned.dtype
    )
    with torch.enable_grad():
        for weight in weights:
            weight.requires_grad_(True)
        optimizer = torch.optim.Adam(weights, lr=RATE)
        for _ in range(steps):
            decoded = tuned.decode(source.to(tuned.device), return_dict=False)[0]
            loss = mse_loss(decoded * inside, edited * inside)
            loss = loss + PRESERVATION * mse_loss(decoded * (1 - inside), photo * (1 - inside))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return tuned.decode(source.to(tuned.device), return_dict=False)[0].clamp(-1, 1).to(edited)
