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
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..diffusion.schedule import Step
from .base import Guidance, Hooks, Run
from .layers import Layers
from .parameters import number, share, whole
from .regions import Place, marked, spread


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
    gain = spread(gaussians(masks).to(probabilities) * strength.to(probabilities)[:, None, None], words, tokens)
    targets = marked(words, tokens, probabilities.device)
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
class DirectedDiffusion(Guidance, name="directed-diffusion"):
    """Directed diffusion.

    Args:
        strength: of the Gaussian, the paper's c_g, > 0 (0 is off).
        factor: of attention to the words outside their boxes, 0 to 1.
        fraction: share of the steps that are edited, from the first.
        trailing: how many tokens behind the prompt's words are edited along with each region's words; None takes the
            model's advice, else the authors' 10.
        layers: "all", or depths and names of cross-attention layers.
    """

    strength: float = number(1.0, 0)
    factor: float = share(0.01)
    fraction: float = share(0.2)
    trailing: int | None = whole(None, 0)
    layers: Layers = "all"

    paper = MappingProxyType({"trailing": 10})

    def hooks(self, run: Run) -> Hooks[DirectedDiffusion] | None:
        return Directing(self, run, self.layers) if self.strength and run.guides(self.fraction) else None


class Directing(Hooks[DirectedDiffusion]):
    def __init__(self, method: DirectedDiffusion, run: Run, layers: Layers) -> None:
        super().__init__(method, run, layers)
        self.words = {
            place: place.tokens + self._trailing(prompt)
            for prompt, places in zip(run.prompts, run.places, strict=True)
            for place in places
        }

    def _trailing(self, prompt: str) -> tuple[int, ...]:
        """The first tokens behind the prompt's words: the end mark and padding."""
        prompts, count = self.run.model.prompts, self.method.trailing
        assert count is not None
        first = min(len(prompts.pieces(prompt)), prompts.limit) + 1
        return tuple(range(first, min(first + count, prompts.limit + 2)))

    def probabilities(
        self, probabilities: Tensor, places: Sequence[Place], step: Step
    ) -> Float[Tensor, "heads h w tokens"]:
        masks = self.masks(places, probabilities.shape[1:3], binary=True) > 0
        strength = self.method.strength * self.weights(places)
        return direct_attention(
            probabilities, masks, [self.words[place] for place in places], strength, self.method.factor
        )
