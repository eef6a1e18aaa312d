"""Masked-attention swapping, section 3.1 of "Masked-Attention Diffusion Guidance for Spatially Controlling
Text-to-Image Generation" (Endo, The Visual Computer, 2023): the words' attention is replaced by constant maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.attention import Layer
from ..diffusion.denoiser import Request
from ..diffusion.schedule import Step
from .base import Guidance, Member, Run
from .checks import share
from .layers import Layers, choose
from .regions import Place
from .targets import Targets


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
    targets = sorted({token for tokens in words for token in tokens})
    constant = probabilities.new_zeros((*masks.shape[1:], probabilities.shape[-1]))
    for mask, tokens in zip(masks, words, strict=True):
        share = mask.to(constant)[..., None] / len(set(tokens))
        constant[..., list(tokens)] = torch.maximum(constant[..., list(tokens)], share)
    swapped = torch.zeros(probabilities.shape[-1], dtype=torch.bool, device=probabilities.device)
    swapped[targets] = True
    if not renormalize:
        return torch.where(swapped, constant, probabilities)
    total = constant.sum(dim=-1, keepdim=True)
    others = probabilities.masked_fill(swapped, 0)
    room = (1 - total).clamp(min=0) / others.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return constant / total.clamp(min=1) + others * room


@dataclass(frozen=True)
class AttentionSwapping(Guidance):
    """Masked-attention swapping.

    Args:
        fraction: share of the steps that are edited, from the first.
        renormalize: scale the other columns so that rows sum to one; the published code does not.
        layers: "all", or depths and names of cross-attention layers.
    """

    fraction: float = 0.3
    renormalize: bool = False
    layers: Layers = "all"

    def __post_init__(self) -> None:
        share(self, "fraction", self.fraction)

    def member(self, run: Run) -> Member | None:
        targets = Targets(run, self.fraction)
        if targets.idle:
            return None
        return _Member(self, targets, frozenset(layer.name for layer in choose(run.model, self.layers)))


@dataclass(frozen=True)
class _Member(Member):
    method: AttentionSwapping
    targets: Targets
    layers: frozenset[str]

    def request(self, step: Step) -> Request:
        active = self.targets.active(step)
        return Request(probabilities=(partial(self._edit, active),)) if any(active) else Request()

    def _edit(
        self, active: Sequence[Sequence[Place]], probabilities: Float[Tensor, "b heads h w tokens"], layer: Layer
    ) -> Float[Tensor, "b heads h w tokens"]:
        if layer.name not in self.layers:
            return probabilities
        return torch.stack([self._sample(places, rows) for places, rows in zip(active, probabilities, strict=True)])

    def _sample(self, places: Sequence[Place], probabilities: Tensor) -> Float[Tensor, "heads h w tokens"]:
        if not places:
            return probabilities
        masks = self.targets.masks(places, (probabilities.shape[1], probabilities.shape[2]))
        weighted = masks * self.targets.weights(places)[:, None, None]
        return swap_attention(probabilities, weighted, [place.tokens for place in places], self.method.renormalize)
