"""The grounding loss: a noun's cross-attention belongs on the noun's object (TokenCompose, arXiv 2312.03626, Eq. 3).

Plain denoising leaves noun tokens with hardly any sense of place in a model this small, and all guidance needs it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

Maps = list[Float[Tensor, "b pixels tokens"]]

MASS = 0.2
"""Weight of the term that wants the object's pixels to look at their noun at all."""

COARSEST = 64
"""Cells of the coarsest layers that are grounded, 8×8: in coarser ones a thing hardly has a place."""


class OpenAttention:
    """Attention whose head-averaged cross-attention is appended to `maps`, if that is given."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        maps: Maps | None = None,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for states in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        with torch.autocast(query.device.type, enabled=False):  # half precision makes its backward pass slow on a CPU
            query, key, value = query.float(), key.float(), value.float()
            if encoder_hidden_states is None or maps is None:
                mixed = F.scaled_dot_product_attention(query, key, value)
            else:
                probabilities = (query @ key.transpose(-1, -2) * attn.scale).softmax(-1)
                maps.append(probabilities.mean(1))
                mixed = probabilities @ value
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


def open_cross_attention(unet: UNet2DConditionModel) -> None:
    unet.set_attn_processor(OpenAttention())


def grounding_loss(
    maps: Maps, words: Float[Tensor, "b mentions tokens"], masks: Float[Tensor, "b mentions h w"]
) -> Tensor:
    """Mean over finer layers and mentions of (1 − the share of a noun's attention on its object)², plus the mass term.

    `words` marks each mention's tokens, `masks` covers its objects in [0, 1]; a mention without tokens counts nothing.
    """
    mentioned = words.any(-1).float()
    total = masks.new_zeros(())
    finer = [layer for layer in maps if layer.shape[1] >= min(COARSEST, masks[0, 0].numel() // 4)]
    for layer in finer:
        region = to_grid(masks, layer.shape[1])
        attention = torch.einsum("bpt,bmt->bmp", layer, words)
        inside = (attention * region).sum(-1)
        share = inside / attention.sum(-1).clamp(min=1e-6)
        mass = inside / region.sum(-1).clamp(min=1e-6)
        missed = (1 - share).square() + MASS * (1 - mass).square()
        total = total + (missed * mentioned).sum() / mentioned.sum().clamp(min=1)
    return total / len(finer)


def to_grid(masks: Float[Tensor, "b m h w"], pixels: int) -> Float[Tensor, "b m pixels"]:
    """Masks at the resolution of a layer that has so many pixels."""
    height, width = masks.shape[-2:]
    halvings = 0
    while (height >> halvings) * (width >> halvings) > pixels:
        halvings += 1
    return F.avg_pool2d(masks, 2**halvings).flatten(2) if halvings else masks.flatten(2)


def area_under_curve(attention: Float[Tensor, "pixels"], inside: Float[Tensor, "pixels"]) -> float:
    """How often an inside pixel is looked at more than an outside one (ties count half)."""
    positive, negative = attention[inside >= 0.5], attention[inside < 0.5]
    difference = positive[:, None] - negative[None]
    return float(((difference > 0).float() + 0.5 * (difference == 0).float()).mean())
