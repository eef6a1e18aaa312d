"""Paint-with-words (PwW), section 4.3 of "eDiff-I: Text-to-Image Diffusion Models with an Ensemble of Expert Denoisers"
(Balaji et al. 2022): scores of a region's words are raised inside the region, more so the noisier the latents are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from ..diffusion.schedule import Step
from .base import Guidance, Hooks, Run
from .layers import Layers
from .parameters import number, share
from .regions import Place, assign


def paint_scores(
    scores: Float[Tensor, "heads h w tokens"],
    masks: Float[Tensor, "regions h w"],
    words: Sequence[Sequence[int]],
    weight: float,
) -> Float[Tensor, "heads h w tokens"]:
    """Scores QK^T before scaling, plus `weight` times their maximum where a region's word meets the region.

    `weight` is w' log(1 + sigma). The maximum carries no gradient. Where regions overlap the larger mask counts.
    """
    return scores + weight * scores.detach().amax() * assign(masks.to(scores), words, scores.shape[-1])


@dataclass(frozen=True)
class PaintWithWords(Guidance, name="paint-with-words"):
    """Paint-with-words.

    Args:
        strength: w', >= 0; None takes the model's advice, else 0.3, best for SD 2 in the search of the masked-attention
            guidance paper.
        fraction: share of the steps that are edited, from the first.
        layers: "all", or depths and names of cross-attention layers.
        area: help for regions below a quarter of the picture, 0 (the paper) to 1: their words are raised
            (0.25 / share of the picture) ** area times as much.
    """

    strength: float | None = number(None, 0)
    fraction: float = share(1.0)
    layers: Layers = "all"
    area: float = share(0.0)

    paper = MappingProxyType({"strength": 0.3})

    def hooks(self, run: Run) -> Hooks[PaintWithWords] | None:
        return Painting(self, run, self.layers) if self.strength and run.guides(self.fraction) else None


class Painting(Hooks[PaintWithWords]):
    def scores(self, scores: Tensor, places: Sequence[Place], step: Step) -> Float[Tensor, "heads h w tokens"]:
        signal, noise = self.run.schedule.level(step.index)
        heights = self.weights(places) * self.boosts(places, self.method.area)
        masks = self.masks(places, scores.shape[1:3]) * heights[:, None, None]
        assert self.method.strength is not None
        weight = self.method.strength * math.log1p(noise / signal)
        return paint_scores(scores, masks, [place.tokens for place in places], weight)
