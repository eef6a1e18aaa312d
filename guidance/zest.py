"""ZestGuide, "Zero-shot spatial layout conditioning for text-to-image diffusion models" (Couairon et al., ICCV 2023).

A segmentation is read from the attention of the very forward that predicts the noise; after the step the latents move
down the gradient of its cross-entropy to the layout. The paper's tables run it together with paint-with-words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..diffusion.schedule import Step
from .base import Guidance, Hooks, Run
from .layers import Layers
from .parameters import number, share
from .regions import Place


def zest_loss(
    estimated: Float[Tensor, "regions H W"],
    target: Float[Tensor, "regions H W"],
    weights: Float[Tensor, " regions"] | None = None,
    inside: Float[Tensor, " regions"] | None = None,
) -> Float[Tensor, ""]:
    """Eq. 4: binary cross-entropy of the estimated masks, and of them divided by their maximum, summed over regions.

    The maximum is a constant, and the pixel that attains it adds its value to the second term but no gradient: where
    it lies outside the target that gradient would drown every other.

    Args:
        estimated: in [0, 1].
        target: 0 or 1.
        weights: of the regions; default 1 each.
        inside: weights of the pixels inside each region; default 1 each.
    """
    peak = estimated.detach().amax(dim=(1, 2), keepdim=True)
    scaled = torch.where(estimated.detach() == peak, torch.ones_like(estimated), estimated / peak.clamp(min=1e-12))
    pixels = F.binary_cross_entropy(estimated.clamp(0, 1), target, reduction="none") + F.binary_cross_entropy(
        scaled.clamp(0, 1), target, reduction="none"
    )
    if inside is not None:
        pixels = pixels * (1 + target * (inside[:, None, None] - 1))
    regions = pixels.mean(dim=(1, 2))
    return (regions if weights is None else weights * regions).sum()


def estimate(
    maps: Sequence[Float[Tensor, "heads h w tokens"]], words: Sequence[Sequence[int]], grid: tuple[int, int]
) -> Float[Tensor, "regions H W"]:
    """Eq. 3: attention brought to `grid` bilinearly, mean over all heads of all layers, sum over a segment's words."""
    resized = [F.interpolate(layer.movedim(-1, 1), grid, mode="bilinear", align_corners=False) for layer in maps]
    mean = torch.cat(resized).mean(dim=0)
    return torch.stack([mean[list(tokens)].sum(dim=0) for tokens in words])


def joined(masks: Float[Tensor, "regions H W"], words: Sequence[Sequence[int]]) -> Float[Tensor, "regions H W"]:
    """Targets of Eq. 4: regions with the same words have one segmentation, so each wants it in all of them."""
    same = torch.tensor([[set(one) == set(other) for other in words] for one in words], device=masks.device)
    return (masks[None] * same[:, :, None, None].to(masks)).amax(dim=1)


def unit(gradient: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Each sample's gradient divided by its largest absolute element (Eq. 5); a zero gradient stays zero."""
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    return gradient / torch.where(largest > 0, largest, torch.ones_like(largest))


@dataclass(frozen=True)
class Zest(Guidance, name="zest"):
    """ZestGuide.

    Args:
        strength: eta of Eq. 5, >= 0; None takes the model's advice, else the paper's 1.
        fraction: tau, share of the steps that are guided, from the first.
        layers: depths and names of cross-attention layers, or "all"; None takes the model's advice, else depths 1 and
            2, at 512 x 512 the paper's 32 x 32 and 16 x 16. No gradient runs through what lies behind the last one.
        area: help for regions below a quarter of the picture, 0 (the paper) to 1: pixels inside count
            (0.25 / share of the picture) ** area times.
    """

    strength: float | None = number(None, 0)
    fraction: float = share(0.5)
    layers: Layers | None = None
    area: float = share(0.0)

    paper = MappingProxyType({"strength": 1.0, "layers": (1, 2)})

    def hooks(self, run: Run) -> Hooks[Zest] | None:
        return Segmenting(self, run, self.layers) if self.strength and run.guides(self.fraction) else None


class Segmenting(Hooks[Zest]):
    def loss(
        self, maps: Sequence[Tensor], words: Sequence[Sequence[int]], places: Sequence[Place]
    ) -> Float[Tensor, ""]:
        grid = max(layer.grid(self.run.size) for layer in self.layers)
        return zest_loss(
            estimate(maps, words, grid),
            joined(self.masks(places, grid, binary=True), words),
            self.weights(places),
            self.boosts(places, self.method.area),
        )

    def settle(self, latents: Tensor, gradient: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """Eq. 5."""
        assert self.method.strength is not None
        return latents - self.method.strength * self.run.schedule.level(step.index)[1] * unit(gradient)
