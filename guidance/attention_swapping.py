"""Masked-attention swapping, section 3.1 of "Masked-Attention Diffusion Guidance for Spatially Controlling
Text-to-Image Generation" (Endo, The Visual Computer, 2023): the words' attention is replaced by constant maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.schedule import Step
from .base import Guidance, Hooks, Run
from .layers import Layers
from .parameters import flag, share
from .regions import Place, marked, spread


def swap_attention(
    probabilities: Float[Tensor, "heads h w tokens"],
    masks: Float[Tensor, "regions h w"],
    words: Sequence[Sequence[int]],
    renormalize: bool = False,
) -> Float[Tensor, "heads h w tokens"]:
    """A target word's column becomes 1 / |C_i| inside its region and 0 outside; other columns keep their values.

    A word of several regions gets the largest of their values. `renormalize` scales the other columns so that rows sum
    to one.
    """
    tokens = probabilities.shape[-1]
    constant = spread(masks.to(probabilities), words, tokens)
    targets = marked(words, tokens, probabilities.device)
    if not renormalize:
        return torch.where(targets, constant, probabilities)
    total = constant.sum(dim=-1, keepdim=True)
    others = probabilities.masked_fill(targets, 0)
    room = (1 - total).clamp(min=0) / others.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return constant / total.clamp(min=1) + others * room


@dataclass(frozen=True)
class AttentionSwapping(Guidance, name="attention-swapping"):
    """Masked-attention swapping.

    Args:
        fraction: share of the steps that are edited, from the first.
        renormalize: scale the other columns so that rows sum to one; the published code does not.
        layers: "all", or depths and names of cross-attention layers.
    """

    fraction: float = share(0.3)
    renormalize: bool = flag(False)
    layers: Layers = "all"

    def hooks(self, run: Run) -> Hooks[AttentionSwapping] | None:
        return Swapping(self, run, self.layers) if run.guides(self.fraction) else None


class Swapping(Hooks[AttentionSwapping]):
    def probabilities(
        self, probabilities: Tensor, places: Sequence[Place], step: Step
    ) -> Float[Tensor, "heads h w tokens"]:
        masks = self.masks(places, probabilities.shape[1:3]) * self.weights(places)[:, None, None]
        return swap_attention(probabilities, masks, [place.tokens for place in places], self.method.renormalize)
