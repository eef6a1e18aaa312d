"""Directed diffusion: Ma, Lahiri, Lewis, Leung and Kleijn, "Directed Diffusion: Direct Control of Object Placement
through Attention Guidance" (AAAI 2024; arXiv 2302.13153), the direct edit of attention in its first version and code.

In the first steps the attention to a region's words, and to some of the padding behind the prompt, gains a Gaussian
inside the region's bounding box and is weakened outside. Width (half the box's sides), strength (1), the factor outside
(0.01) and the number of steps (10 of 50) and of trailing tokens (10) are the authors'. Their code adds the Gaussian as
a density over cells, which vanishes on large grids; here the peaks of a region's columns sum to 1, so that it means the
same at every layer and for any number of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .base import Guidance, Member, Run
from .checks import number, share
from .edits import ColumnEdit, spread
from .layers import Layers, choose
from .regions import Place, marked
from .targets import Targets


def direct_attention(
    probabilities: Float[Tensor, "heads h w tokens"],
    masks: Bool[Tensor, "regions h w"],
    words: Sequence[Sequence[int]],
    strength: Float[Tensor, " regions"],
    factor: float,
) -> Float[Tensor, "heads h w tokens"]:
    """Columns of the words plus a Gaussian inside the bounding boxes of the masks, times `factor` outside all of them.

    A region's strength is shared by its words. A word of several regions gets the largest of their Gaussians.
    """
    tokens = probabilities.shape[-1]
    gain = spread(gaussians(masks).to(probabilities), strength.to(probabilities), words, tokens)
    return lift(probabilities[None], gain[None], marked(words, tokens, probabilities.device)[None], factor)[0]


def lift(
    probabilities: Float[Tensor, "b heads h w tokens"],
    gain: Float[Tensor, "b h w tokens"],
    targets: Bool[Tensor, "b tokens"],
    factor: float,
) -> Float[Tensor, "b heads h w tokens"]:
    """`direct_attention` of a batch."""
    gain, targets = gain[:, None], targets[:, None, None, None]
    return torch.where(targets & (gain == 0), factor * probabilities, probabilities + gain)


def gaussians(masks: Bool[Tensor, "regions h w"]) -> Float[Tensor, "regions h w"]:
    """Gaussians with peak 1 on the masks' bounding boxes, half a side being one deviation; 0 outside the boxes."""
    rows, columns = side(masks.any(dim=2)), side(masks.any(dim=1))
    return rows[:, :, None] * columns[:, None, :]


def side(held: Bool[Tensor, "regions n"]) -> Float[Tensor, "regions n"]:
    """A Gaussian along one axis, from the first cell that is held to the last."""
    at = torch.arange(held.shape[1], device=held.device)
    first = held.int().argmax(dim=1, keepdim=True)
    last = held.shape[1] - 1 - held.flip(1).int().argmax(dim=1, keepdim=True)
    offset = (at - (first + last) / 2) / ((last - first + 1) / 2)
    return torch.exp(-(offset**2) / 2) * ((at >= first) & (at <= last))


@dataclass(frozen=True)
class DirectedDiffusion(Guidance):
    """Directed diffusion.

    Args:
        strength: of the Gaussian, the paper's c_g, > 0 (0 is off).
        factor: of attention to the words outside their boxes, 0 to 1.
        fraction: share of the steps that are edited, from the first.
        trailing: how many tokens behind the prompt's words are edited along with each region's words; None takes the
            model's advice, else the authors' 10.
        layers: "all", or depths and names of cross-attention layers.
    """

    strength: float = 1.0
    factor: float = 0.01
    fraction: float = 0.2
    trailing: int | None = None
    layers: Layers = "all"

    def __post_init__(self) -> None:
        number(self, "strength", self.strength, 0)
        share(self, "factor", self.factor)
        share(self, "fraction", self.fraction)
        if self.trailing is not None:
            number(self, "trailing", self.trailing, 0)

    def member(self, run: Run) -> Member | None:
        targets = Targets(run, self.fraction)
        if self.strength == 0 or targets.idle:
            return None
        layers = frozenset(layer.name for layer in choose(run.model, self.layers))
        count = run.resolve(self.trailing, "directed-diffusion", "trailing", 10)
        trailing = {
            id(place): _trailing(run, prompt, count)
            for prompt, places in zip(run.prompts, run.places, strict=True)
            for place in places
        }
        return _Member(targets, layers, partial(lift, factor=self.factor), self.strength, trailing)


def _trailing(run: Run, prompt: str, count: int) -> tuple[int, ...]:
    """The first tokens behind the prompt's words: the end mark and padding."""
    first = min(len(run.model.prompts.pieces(prompt)), run.model.prompts.limit) + 1
    return tuple(range(first, min(first + count, run.model.prompts.limit + 2)))


@dataclass(frozen=True)
class _Member(ColumnEdit):
    strength: float
    trailing: dict[int, tuple[int, ...]]

    def words(self, places: Sequence[Place]) -> list[tuple[int, ...]]:
        return [place.tokens + self.trailing[id(place)] for place in places]

    def shapes(self, places: Sequence[Place], grid: tuple[int, int]) -> Float[Tensor, "r h w"]:
        masks = self.targets.masks(places, grid, binary=True)
        return self.strength * gaussians(masks > 0).to(masks)
