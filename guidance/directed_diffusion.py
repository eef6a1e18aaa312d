"""Directed diffusion: Ma, Lahiri, Lewis, Leung and Kleijn, "Directed Diffusion: Direct Control of Object Placement
through Attention Guidance" (AAAI 2024; arXiv 2302.13153), the direct edit of attention in its first version and code.

In the first steps the attention to a region's words, and to some of the padding behind the prompt, gains a Gaussian
inside the region's bounding box and is weakened outside. Width (half the box's sides), strength (1), the factor outside
(0.01) and the number of steps (10 of 50) and of trailing tokens (10) are the authors'. Their code adds the Gaussian as
a density over cells, which vanishes on large grids; here its peak is 1, so that it means the same at every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..diffusion.attention import Layer
from ..diffusion.denoiser import Request
from ..diffusion.schedule import Step
from .base import Guidance, Member, Run
from .checks import number, share
from .layers import Layers, choose
from .regions import Place
from .targets import Targets


def direct_attention(
    probabilities: Float[Tensor, "heads h w tokens"],
    masks: Bool[Tensor, "regions h w"],
    words: Sequence[Sequence[int]],
    strength: Float[Tensor, " regions"],
    factor: float,
) -> Float[Tensor, "heads h w tokens"]:
    """Columns of the words plus a Gaussian inside the bounding boxes of the masks, times `factor` outside all of them.

    A word of several regions gets the largest of their Gaussians.
    """
    gain = probabilities.new_zeros((*masks.shape[1:], probabilities.shape[-1]))
    for mask, tokens, height in zip(masks, words, strength.to(gain), strict=True):
        added = (height * box_gaussian(mask).to(gain))[..., None]
        gain[..., list(tokens)] = torch.maximum(gain[..., list(tokens)], added)
    targets = torch.zeros(probabilities.shape[-1], dtype=torch.bool, device=probabilities.device)
    targets[sorted({token for tokens in words for token in tokens})] = True
    return torch.where(targets & (gain == 0), factor * probabilities, probabilities + gain)


def box_gaussian(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """A Gaussian with peak 1 on the mask's bounding box, half a side being one deviation; 0 outside the box."""
    sides = []
    for axis in (1, 0):
        held = mask.any(dim=axis).nonzero()[:, 0]
        first, last = int(held[0]), int(held[-1])
        at = torch.arange(mask.shape[1 - axis], device=mask.device, dtype=torch.float64)
        deviation = (last - first + 1) / 2
        side = torch.exp(-(((at - (first + last) / 2) / deviation) ** 2) / 2)
        sides.append(side * ((at >= first) & (at <= last)))
    return sides[0][:, None] * sides[1][None, :]


@dataclass(frozen=True)
class DirectedDiffusion(Guidance):
    """Directed diffusion.

    Args:
        strength: of the Gaussian, the paper's c_g, > 0 (0 is off).
        factor: of attention to the words outside their boxes, 0 to 1.
        fraction: share of the steps that are edited, from the first.
        trailing: how many tokens behind the prompt's words are edited along with each region's words.
        layers: "all", or depths and names of cross-attention layers.
    """

    strength: float = 1.0
    factor: float = 0.01
    fraction: float = 0.2
    trailing: int = 10
    layers: Layers = "all"

    def __post_init__(self) -> None:
        number(self, "strength", self.strength, 0)
        share(self, "factor", self.factor)
        share(self, "fraction", self.fraction)
        number(self, "trailing", self.trailing, 0)

    def member(self, run: Run) -> Member | None:
        targets = Targets(run, self.fraction)
        if self.strength == 0 or targets.idle:
            return None
        layers = frozenset(layer.name for layer in choose(run.model, self.layers))
        return _Member(self, targets, layers, tuple(self._trailing(run, prompt) for prompt in run.prompts))

    def _trailing(self, run: Run, prompt: str) -> tuple[int, ...]:
        """The first tokens behind the prompt's words: the end mark and padding."""
        first = min(len(run.model.prompts.pieces(prompt)), run.model.prompts.limit) + 1
        return tuple(range(first, min(first + self.trailing, run.model.prompts.limit + 2)))


@dataclass(frozen=True)
class _Member(Member):
    method: DirectedDiffusion
    targets: Targets
    layers: frozenset[str]
    trailing: tuple[tuple[int, ...], ...]

    def request(self, step: Step) -> Request:
        active = self.targets.active(step)
        return Request(probabilities=(partial(self._edit, active),)) if any(active) else Request()

    def _edit(
        self, active: Sequence[Sequence[Place]], probabilities: Float[Tensor, "b heads h w tokens"], layer: Layer
    ) -> Float[Tensor, "b heads h w tokens"]:
        if layer.name not in self.layers:
            return probabilities
        samples = zip(active, self.trailing, probabilities, strict=True)
        return torch.stack([self._sample(places, trailing, rows) for places, trailing, rows in samples])

    def _sample(
        self, places: Sequence[Place], trailing: tuple[int, ...], probabilities: Tensor
    ) -> Float[Tensor, "heads h w tokens"]:
        if not places:
            return probabilities
        masks = self.targets.masks(places, (probabilities.shape[1], probabilities.shape[2]), binary=True) > 0
        words = [place.tokens + trailing for place in places]
        strength = self.method.strength * self.targets.weights(places)
        return direct_attention(probabilities, masks, words, strength, self.method.factor)
