"""Masked-attention guidance (MAG), section 3.2 of "Masked-Attention Diffusion Guidance for Spatially Controlling
Text-to-Image Generation" (Endo, The Visual Computer, 2023).

Before a step's prediction the latents move down the gradient of a loss that wants the attention of a region's words
inside its mask and not outside. Beyond the paper: scale-free losses and steps, chosen layers, every n-th step, help for
small regions, and an object for each of several regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.attention import Layer, Maps
from ..diffusion.denoiser import Denoiser, Loss, Request
from ..diffusion.schedule import Step
from .base import Guidance, Member, Run
from .checks import choice, number, share
from .layers import Layers, choose
from .regions import Place, membership
from .targets import Targets
from .zest import unit

REFERENCE = 44.0625
"""Sum over SD 2's cross-attention layers of heads x cells, per latent cell, at 512 x 512: what the paper's alpha is
tuned for."""

ALPHA, ALPHA_EDITING = 0.08, 0.01
"""The paper's guidance scales: from scratch, and with Blended Latent Diffusion."""

UNIT_ALPHA, UNIT_ALPHA_EDITING = 0.2, 0.05
"""The same for unit steps, chosen on the embedded model."""


def masked_attention_loss(
    maps: Sequence[Float[Tensor, "heads h w tokens"]],
    masks: Float[Tensor, "regions H W"],
    words: Sequence[Sequence[int]],
    balance: float = 0.5,
) -> Float[Tensor, ""]:
    """Eq. 2: minus the words' attention inside their regions, plus `balance` times that outside, summed.

    Args:
        maps: attention probabilities, one tensor per layer.
        masks: in [0, 1], at any size.
        words: one list of token indices per region.
        balance: the paper's lambda.
    """
    total = maps[0].new_zeros(())
    for layer in maps:
        cells = membership(masks, (layer.shape[1], layer.shape[2])).to(layer)
        for cell, tokens in zip(cells, words, strict=True):
            attention = layer[..., list(tokens)].sum(dim=(0, -1))
            total = total - (cell * attention).sum() + balance * ((1 - cell) * attention).sum()
    return total


def regions_loss(
    layer: Float[Tensor, "heads h w tokens"],
    masks: Float[Tensor, "regions h w"],
    words: Sequence[Sequence[int]],
    balance: float,
    weights: Float[Tensor, " regions"],
    boosts: Float[Tensor, " regions"],
    instances: bool,
) -> Float[Tensor, ""]:
    """Eq. 2 on one layer, with weights per region and a boost of what is inside.

    With `instances`, what the regions have inside enters as area times the geometric mean of their mean attention
    (weighted by area). Its gradient is that of the sum where all regions have the same, and pulls harder on the poorer
    ones where they have not, so no region starves another. And a word that regions share is not driven out of any.
    """
    attention = torch.stack([layer[..., list(tokens)].sum(dim=(0, -1)) for tokens in words])
    inside = (masks * attention).sum(dim=(1, 2))
    if not instances:
        outside = ((1 - masks) * attention).sum(dim=(1, 2))
        return (weights * (balance * outside - boosts * inside)).sum()
    areas = masks.sum(dim=(1, 2))
    means, shares = (inside / areas).clamp(min=1e-8), areas * weights * boosts
    total = -shares.sum() * (shares / shares.sum() * means.log()).sum().exp()
    for group in sharing(words):
        outside = ((1 - masks[group].amax(dim=0)) * attention[group]).sum(dim=(1, 2))
        total = total + balance * (weights[group] * outside).sum() / len(group)
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
class MaskedAttention(Guidance):
    """Masked-attention guidance.

    Args:
        alpha: step length of Eq. 3, >= 0; None takes the model's advice, else the paper's 0.08 from scratch and 0.01
            while editing (0.2 and 0.05 for unit steps).
        balance: weight of attention outside the region, the paper's lambda, >= 0.
        fraction: share of the steps that are guided, from the first.
        normalize: how far alpha goes. "none" is the paper's sum, exactly; "scale-free" makes one alpha serve other
            layer shapes, sizes and numbers of steps; "unit" takes ZestGuide's step (Couairon et al. 2023, Eq. 5),
            alpha times the noise level along the gradient divided by its largest element, and so serves models whose
            attention is sharper or softer too. None takes the model's advice, else "scale-free".
        layers: "all", or depths and names of cross-attention layers; None takes the model's advice, else all. Behind
            the last one nothing runs.
        every: guide every n-th step only, with an alpha n times as large.
        area: help for regions below a quarter of the picture, 0 (the paper) to 1: what is inside counts
            (0.25 / share of the picture) ** area times.
        instances: give every region an object of its own: no region starves another (unit steps are taken region by
            region), and a word that regions share is not driven out of any; False is the paper.
    """

    alpha: float | None = None
    balance: float = 0.5
    fraction: float = 0.3
    normalize: str | None = None
    layers: Layers | None = None
    every: int = 1
    area: float = 0.5
    instances: bool = True

    def __post_init__(self) -> None:
        if self.alpha is not None:
            number(self, "alpha", self.alpha, 0)
        number(self, "balance", self.balance, 0)
        share(self, "fraction", self.fraction)
        if self.normalize is not None:
            choice(self, "normalize", self.normalize, ("scale-free", "none", "unit"))
        number(self, "every", self.every, 1)
        share(self, "area", self.area)

    def member(self, run: Run) -> Member | None:
        targets = Targets(run, self.fraction)
        if self.alpha == 0 or targets.idle:
            return None
        layers = choose(run.model, run.resolve(self.layers, "masked-attention", "layers", "all"))
        advised = run.resolve(None, "masked-attention", "normalize", "scale-free")
        normalize = self.normalize or advised
        defaults = (UNIT_ALPHA, UNIT_ALPHA_EDITING) if normalize == "unit" else (ALPHA, ALPHA_EDITING)
        fallback = defaults[run.editing]
        # The model's advice on alpha is meant for its own kind of step.
        given = fallback if self.alpha is None and normalize != advised else self.alpha
        alpha = run.resolve(given, "masked-attention", "alpha_editing" if run.editing else "alpha", fallback)
        return _Member(self, run, targets, layers, normalize, alpha)


@dataclass(frozen=True)
class _Member(Member):
    method: MaskedAttention
    run: Run
    targets: Targets
    layers: tuple[Layer, ...]
    normalize: str
    alpha: float

    def refine(self, latents: Tensor, step: Step, denoiser: Denoiser, request: Request) -> Float[Tensor, "b c h w"]:
        active = self.targets.active(step)
        if not any(active) or (step.index - self.run.schedule.first) % self.method.every:
            return latents
        loss = Loss(
            lambda maps, latents, output: torch.stack(
                [self._sample(maps, sample, places) for sample, places in enumerate(active)]
            ),
            self.layers,
            self.targets.columns,
        )
        gradient = denoiser.gradient(latents, step, loss, request)
        if self.normalize == "unit":
            gradient = self.run.schedule.level(step.index)[1] * self._unit(gradient, active)
        return latents - self.length * gradient

    def _unit(self, gradient: Tensor, active: Sequence[Sequence[Place]]) -> Float[Tensor, "b c h w"]:
        if not self.method.instances:
            return unit(gradient)
        return torch.stack(
            [
                unit_by_region(sample, self.targets.masks(places, self.run.size), self.targets.weights(places))
                if places
                else sample
                for sample, places in zip(gradient, active, strict=True)
            ]
        )

    @property
    def length(self) -> float:
        """Alpha for this run's number of steps, layers and size."""
        length = self.alpha * self.method.every
        if self.normalize == "none":
            return length
        length *= 50 / self.run.schedule.count
        if self.normalize == "unit":
            return length
        cells = sum(layer.heads * layer.grid(self.run.size)[0] * layer.grid(self.run.size)[1] for layer in self.layers)
        return length * REFERENCE * self.run.size[0] * self.run.size[1] / cells

    def _sample(self, maps: Maps, sample: int, places: Sequence[Place]) -> Float[Tensor, ""]:
        total = next(iter(maps.layers.values())).new_zeros(())
        if not places:
            return total
        words = [maps.positions(place.tokens) for place in places]
        weights, boosts = self.targets.weights(places), self.targets.boosts(places, self.method.area)
        for layer in self.layers:
            masks = self.targets.masks(places, layer.grid(self.run.size))
            total = total + regions_loss(
                maps.layers[layer.name][sample],
                masks,
                words,
                self.method.balance,
                weights,
                boosts,
                self.method.instances,
            )
        return total
