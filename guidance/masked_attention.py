"""Masked-attention guidance (MAG), section 3.2 of "Masked-Attention Diffusion Guidance for Spatially Controlling
Text-to-Image Generation" (Endo, The Visual Computer, 2023).

Before a step's prediction the latents move down the gradient of a loss that wants the attention of a region's words
inside its mask and not outside. Beyond the paper: scale-free losses and steps, chosen layers, every n-th step, help for
small regions, and an object for each of several regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.denoiser import Denoiser, Request
from ..diffusion.schedule import Step
from .base import Advice, Guidance, Hooks, Run
from .layers import Layers
from .parameters import choice, flag, number, share, whole
from .regions import Place, membership
from .zest import unit

REFERENCE = 44.0625
"""Sum over SD 2's cross-attention layers of heads x cells, per latent cell, at 512 x 512: what the paper's alpha is
tuned for."""

ALPHA, ALPHA_EDITING = 0.08, 0.01
"""The paper's guidance scales: from scratch, and with Blended Latent Diffusion."""

FRACTION = 0.3
"""The paper's share of guided steps."""

UNIT_ALPHAS = {"paper": (0.2, 0.05), "one-forward": (0.25, 0.1)}
"""Alphas for unit steps, by order, chosen on the embedded model."""


def masked_attention_loss(
    maps: Sequence[Float[Tensor, "heads h w tokens"]],
    masks: Float[Tensor, "regions H W"],
    words: Sequence[Sequence[int]],
    balance: float = 0.5,
    weights: Float[Tensor, " regions"] | None = None,
    boosts: Float[Tensor, " regions"] | None = None,
    instances: bool = False,
) -> Float[Tensor, ""]:
    """Eq. 2: minus the words' attention inside their regions, plus `balance` times that outside, summed.

    With `instances`, what the regions have inside enters as area times the geometric mean of their mean attention
    (weighted by area). Its gradient is that of the sum where all regions have the same, and pulls harder on the poorer
    ones where they have not, so no region starves another. And a word that regions share is not driven out of any.

    Args:
        maps: attention probabilities, one tensor per layer.
        masks: in [0, 1], at any size.
        words: one list of token indices per region.
        balance: the paper's lambda.
        weights: of the regions; default 1 each.
        boosts: of what is inside each region; default 1 each.
    """
    ones = maps[0].new_ones(len(masks))
    weights, boosts = ones if weights is None else weights, ones if boosts is None else boosts
    total = maps[0].new_zeros(())
    for layer in maps:
        cells = membership(masks, (layer.shape[1], layer.shape[2])).to(layer)
        attention = torch.stack([layer[..., list(tokens)].sum(dim=(0, -1)) for tokens in words])
        inside = (cells * attention).sum(dim=(1, 2))
        if not instances:
            outside = ((1 - cells) * attention).sum(dim=(1, 2))
            total = total + (weights * (balance * outside - boosts * inside)).sum()
            continue
        areas = cells.sum(dim=(1, 2))
        means, shares = (inside / areas).clamp(min=1e-8), areas * weights * boosts
        shared = -shares.sum() * (shares / shares.sum() * means.log()).sum().exp()
        for group in sharing(words):
            outside = ((1 - cells[group].amax(dim=0)) * attention[group]).sum(dim=(1, 2))
            shared = shared + balance * (weights[group] * outside).sum() / len(group)
        total = total + shared
    return total


def sharing(words: Sequence[Sequence[int]]) -> list[list[int]]:
    """Regions grouped by shared tokens, directly or through others."""
    groups: list[tuple[set[int], list[int]]] = []
    for region, tokens in enumerate(words):
        touched = [group for group in groups if group[0] & set(tokens)]
        groups = [group for group in groups if group not in touched]
        joined = set(tokens).union(*(group[0] for group in touched))
        groups.append((joined, sorted([region, *(member for group in touched for member in group[1])])))
    return [members for _, members in groups]


def unit_by_region(
    gradient: Float[Tensor, "c h w"], masks: Float[Tensor, "regions h w"], weights: Float[Tensor, " regions"]
) -> Float[Tensor, "c h w"]:
    """Unit steps region by region: inside each the gradient is divided by its own largest element, outside by that of
    all, so that a region whose words are seen least moves as far as that which pulls hardest. Weights are lengths."""
    inside = (weights[:, None, None, None] * unit(masks[:, None] * gradient)).sum(dim=0) / masks.sum(dim=0).clamp(min=1)
    return inside + (1 - masks.amax(dim=0)) * unit(gradient[None])[0]


@dataclass(frozen=True)
class MaskedAttention(Guidance, name="masked-attention"):
    """Masked-attention guidance.

    Args:
        alpha: step length of Eq. 3, >= 0; None takes the model's advice, else the paper's 0.08 from scratch and 0.01
            while editing (for unit steps 0.25 and 0.1, or in the paper's order 0.2 and 0.05).
        balance: weight of attention outside the region, the paper's lambda, >= 0.
        fraction: share of the steps that are guided, from the first; None takes the model's advice, else the paper's
            0.3.
        normalize: how far alpha goes. "none" is the paper's sum, exactly; "scale-free" makes one alpha serve other
            layer shapes, sizes and numbers of steps; "unit" takes ZestGuide's step (Couairon et al. 2023, Eq. 5),
            alpha times the noise level along the gradient divided by its largest element, and so serves models whose
            attention is sharper or softer too. None takes the model's advice, else "scale-free".
        layers: "all", or depths and names of cross-attention layers; None takes the model's advice, else all. Behind
            the last one nothing runs.
        every: guide every n-th step only, with an alpha n times as large.
        area: help for regions below a quarter of the picture, 0 (the paper) to 1: what is inside counts
            (0.25 / share of the picture) ** area times.
        order: when the gradient acts. "paper": on the latents before they are predicted from, for which a forward of
            its own runs; "one-forward": on the latents after the step, from the very forward that predicts, as in
            ZestGuide, so that a guided step costs one backward more and no forward. None takes the model's advice,
            else "one-forward" for unit steps and "paper" for the paper's own.
        instances: give every region an object of its own: no region starves another (unit steps are taken region by
            region), and a word that regions share is not driven out of any; False is the paper.
    """

    alpha: float | None = number(None, 0)
    balance: float = number(0.5, 0)
    fraction: float | None = share(None)
    normalize: str | None = choice(None, "scale-free", "none", "unit")
    layers: Layers | None = None
    every: int = whole(1, 1)
    area: float = share(0.5)
    instances: bool = flag(True)
    order: str | None = choice(None, "paper", "one-forward")

    paper = MappingProxyType({"normalize": "scale-free", "layers": "all"})

    def advised(self, advice: Advice, editing: bool = False) -> MaskedAttention:
        """Alpha and fraction, too: `alpha` and `fraction` of the advice or, in edits, `alpha_editing` and
        `fraction_editing`. An advised alpha is meant for the kind of step advised there.

        Where nothing is advised, alpha and order are those that were found best for the kind of step.
        """
        own = {**self.paper, **advice.get(self.name, {})}
        kind = self.normalize or own["normalize"]
        order = self.order or own.get("order") or ("one-forward" if kind == "unit" else "paper")
        usual = UNIT_ALPHAS[order] if kind == "unit" else (ALPHA, ALPHA_EDITING)
        ending = "_editing" if editing else ""
        alpha, fraction = self.alpha, self.fraction
        if alpha is None:
            alpha = own.get(f"alpha{ending}", usual[editing]) if kind == own["normalize"] else usual[editing]
        if fraction is None:
            fraction = own.get(f"fraction{ending}", FRACTION)
        return replace(super().advised(advice), alpha=alpha, fraction=fraction, order=order)

    def hooks(self, run: Run) -> Hooks[MaskedAttention] | None:
        assert self.fraction is not None
        return Masking(self, run, self.layers) if self.alpha and run.guides(self.fraction) else None


class Masking(Hooks[MaskedAttention]):
    def loss(
        self, maps: Sequence[Tensor], words: Sequence[Sequence[int]], places: Sequence[Place]
    ) -> Float[Tensor, ""]:
        method, weights, boosts = self.method, self.weights(places), self.boosts(places, self.method.area)
        total = maps[0].new_zeros(())
        for layer, attention in zip(self.layers, maps, strict=True):
            masks = self.masks(places, layer.grid(self.run.size))
            total = total + masked_attention_loss(
                [attention], masks, words, method.balance, weights, boosts, method.instances
            )
        return total

    def guides(self, step: Step) -> bool:
        return any(self.active(step)) and (step.index - self.run.schedule.first) % self.method.every == 0

    def request(self, step: Step) -> Request:
        """The loss, where its gradient is that of the forward that predicts."""
        if self.method.order == "one-forward" and self.guides(step):
            return super().request(step)
        return Request()

    def refine(self, latents: Tensor, step: Step, denoiser: Denoiser, request: Request) -> Float[Tensor, "b c h w"]:
        """Eq. 3 in the paper's order."""
        if self.method.order != "paper" or not self.guides(step):
            return latents
        return self.moved(latents, denoiser.gradient(latents, step, self.losses(step), request), step)

    def settle(self, latents: Tensor, gradient: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """Eq. 3 on the next latents."""
        return self.moved(latents, gradient, step)

    def moved(self, latents: Tensor, gradient: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """Latents down the gradient, as far as `normalize` says."""
        if self.method.normalize == "unit":
            gradient = self.run.schedule.level(step.index)[1] * self._unit(gradient, self.active(step))
        return latents - self.length * gradient

    def _unit(self, gradient: Tensor, active: Sequence[Sequence[Place]]) -> Float[Tensor, "b c h w"]:
        if not self.method.instances:
            return unit(gradient)
        pairs = zip(gradient, active, strict=True)
        return torch.stack(
            [
                unit_by_region(own, self.masks(places, self.run.size), self.weights(places)) if places else own
                for own, places in pairs
            ]
        )

    @property
    def length(self) -> float:
        """Alpha for this run's number of steps, layers and size."""
        assert self.method.alpha is not None
        length = self.method.alpha * self.method.every
        if self.method.normalize == "none":
            return length
        length *= 50 / self.run.schedule.count
        if self.method.normalize == "unit":
            return length
        cells = sum(layer.heads * layer.grid(self.run.size)[0] * layer.grid(self.run.size)[1] for layer in self.layers)
        return length * REFERENCE * self.run.size[0] * self.run.size[1] / cells
