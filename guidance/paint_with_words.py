"""Paint-with-words (PwW), section 4.3 of "eDiff-I: Text-to-Image Diffusion Models with an Ensemble of Expert Denoisers"
(Balaji et al. 2022): scores of a region's words are raised inside the region, more so the noisier the latents are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from ..diffusion.attention import Layer
from ..diffusion.denoiser import Request
from ..diffusion.schedule import Schedule, Step
from .base import Guidance, Member, Run
from .checks import number, share
from .layers import Layers, choose
from .regions import Place, assign
from .targets import Targets


def paint_scores(
    scores: Float[Tensor, "heads h w tokens"],
    masks: Float[Tensor, "regions h w"],
    words: Sequence[Sequence[int]],
    weight: float,
) -> Float[Tensor, "heads h w tokens"]:
    """Scores QK^T before scaling, plus `weight` times their maximum where a region's word meets the region.

    `weight` is w' log(1 + sigma). The maximum carries no gradient. Where regions overlap the larger mask counts.
    """
    return raise_scores(scores[None], assign(masks.to(scores), words, scores.shape[-1])[None], weight)[0]


def raise_scores(
    scores: Float[Tensor, "b heads h w tokens"], assigned: Float[Tensor, "b h w tokens"], weight: float
) -> Float[Tensor, "b heads h w tokens"]:
    """`paint_scores` of a batch; the maximum is each sample's own."""
    return scores + weight * scores.detach().amax(dim=(1, 2, 3, 4), keepdim=True) * assigned[:, None]


@dataclass(frozen=True)
class PaintWithWords(Guidance):
    """Paint-with-words.

    Args:
        strength: w', >= 0; None takes the model's advice, else 0.3, best for SD 2 in the search of the masked-attention
            guidance paper.
        fraction: share of the steps that are edited, from the first.
        layers: "all", or depths and names of cross-attention layers.
        area: help for regions below a quarter of the picture, 0 (the paper) to 1: their words are raised
            (0.25 / share of the picture) ** area times as much.
    """

    strength: float | None = None
    fraction: float = 1.0
    layers: Layers = "all"
    area: float = 0.0

    def __post_init__(self) -> None:
        if self.strength is not None:
            number(self, "strength", self.strength, 0)
        share(self, "fraction", self.fraction)
        share(self, "area", self.area)

    def member(self, run: Run) -> Member | None:
        targets = Targets(run, self.fraction)
        if self.strength == 0 or targets.idle:
            return None
        layers = frozenset(layer.name for layer in choose(run.model, self.layers))
        strength = run.resolve(self.strength, "paint-with-words", "strength", 0.3)
        return _Member(self, run.schedule, targets, layers, strength)


@dataclass(frozen=True)
class _Member(Member):
    method: PaintWithWords
    schedule: Schedule
    targets: Targets
    layers: frozenset[str]
    strength: float

    def request(self, step: Step) -> Request:
        active = self.targets.active(step)
        if not any(active):
            return Request()
        signal, noise = self.schedule.level(step.index)
        weight = self.strength * math.log1p(noise / signal)
        return Request(scores=(partial(self._edit, active, weight),))

    def _edit(
        self,
        active: Sequence[Sequence[Place]],
        weight: float,
        scores: Float[Tensor, "b heads h w tokens"],
        layer: Layer,
    ) -> Float[Tensor, "b heads h w tokens"]:
        if layer.name not in self.layers:
            return scores
        grid, tokens = (scores.shape[2], scores.shape[3]), scores.shape[-1]
        return raise_scores(scores, self.targets.per_sample(active, grid, partial(self._assigned, tokens)), weight)

    def _assigned(self, tokens: int, places: Sequence[Place], grid: tuple[int, int]) -> Float[Tensor, "h w tokens"]:
        heights = self.targets.weights(places) * self.targets.boosts(places, self.method.area)
        masks = self.targets.masks(places, grid) * heights[:, None, None]
        return assign(masks, [place.tokens for place in places], tokens)
