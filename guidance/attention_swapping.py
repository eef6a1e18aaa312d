"""Masked-attention swapping, section 3.1 of "Masked-Attention Diffusion Guidance for Spatially Controlling
Text-to-Image Generation" (Endo, The Visual Computer, 2023): the words' attention is replaced by constant maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .base import Guidance, Member, Run
from .checks import share
from .edits import ColumnEdit, spread
from .layers import Layers, choose
from .regions import marked
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
    tokens, device = probabilities.shape[-1], probabilities.device
    constant = spread(masks.to(probabilities), probabilities.new_ones(len(words)), words, tokens)
    return replace_columns(probabilities[None], constant[None], marked(words, tokens, device)[None], renormalize)[0]


def replace_columns(
    probabilities: Float[Tensor, "b heads h w tokens"],
    constant: Float[Tensor, "b h w tokens"],
    targets: Bool[Tensor, "b tokens"],
    renormalize: bool,
) -> Float[Tensor, "b heads h w tokens"]:
    """`swap_attention` of a batch."""
    constant, targets = constant[:, None], targets[:, None, None, None]
    if not renormalize:
        return torch.where(targets, constant, probabilities)
    total = constant.sum(dim=-1, keepdim=True)
    others = probabilities.masked_fill(targets, 0)
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
        layers = frozenset(layer.name for layer in choose(run.model, self.layers))
        return ColumnEdit(targets, layers, partial(replace_columns, renormalize=self.renormalize))
