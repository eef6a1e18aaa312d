"""Guidance by a segmentation network: Eq. 1 and "LDM w/ External Classifier" of the ZestGuide paper (Couairon et al.
2023), after "Universal Guidance for Diffusion Models" (Bansal et al. 2023).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..diffusion.attention import Maps
from ..diffusion.denoiser import Loss, Request
from ..diffusion.schedule import Step
from ..errors import UsageError
from .base import Guidance, Hooks, Run
from .parameters import number, share, whole
from .regions import Place

VISIBLE = 1e-3
"""The least signal of latents that can be led: with less, the noise estimate says nothing of the picture. Only models
of zero terminal SNR begin so."""


def check_classes(name: str, value: Any) -> None:
    """Refuse what is no map of words to indices."""
    if not isinstance(value, Mapping) or not all(type(index) is int and index >= 0 for index in value.values()):
        raise UsageError(f"{name} is {value!r}; give the index of each word's class, as {{'cat': 0, 'dog': 1}}.")


@dataclass(frozen=True)
class SegmenterGuidance(Guidance, name="segmenter"):
    """Guidance by the gradient of a segmentation network's cross-entropy on the decoded estimate of x0.

    Args:
        network: any `torch.nn.Module` from pictures (b, 3, H, W) in [0, 1] to class logits (b, classes, h, w); None
            takes the model's own guide.
        classes: words -> class index; a region whose phrase is not there has the class of the one word of it that is.
            None takes the network's `classes`, names in order, or what the model's own vocabulary calls them.
        background: class wanted outside all regions; None wants nothing there.
        scale: of the gradient of the mean cross-entropy, >= 0; far above the default it fools the network instead.
        fraction: share of the steps that are guided, from the first.
    """

    network: Any = None
    classes: Mapping[str, int] | None = field(default=None, metadata={"check": check_classes})
    background: int | None = whole(None, 0)
    scale: float = number(3.0, 0)
    fraction: float = share(0.5)

    def hooks(self, run: Run) -> Hooks[SegmenterGuidance] | None:
        return Classifying(self, run) if self.scale and run.guides(self.fraction) else None


class Classifying(Hooks[SegmenterGuidance]):
    def __init__(self, method: SegmenterGuidance, run: Run) -> None:
        super().__init__(method, run)
        own, classes = run.model.belongings, method.classes
        network = own.guide if method.network is None else method.network
        if network is None:
            raise UsageError(f"{run.model.name} has no segmenter of its own; give SegmenterGuidance a network.")
        if not isinstance(network, nn.Module):
            raise UsageError(
                f"SegmenterGuidance's network is {network!r}; give a torch.nn.Module, which only Python can hold."
            )
        if classes is None and method.network is None and own.vocabulary:
            classes = own.vocabulary.classes
        elif classes is None:
            names = getattr(network, "classes", None)
            if names is None:
                raise UsageError("SegmenterGuidance's network does not name its classes; give classes={'cat': 0, ...}.")
            classes = {name: index for index, name in enumerate(names)}
        self.network = deepcopy(network).to(run.model.device).eval().requires_grad_(False)
        self.wanted = {
            place: class_of(place.region.phrase(run.model.prompts, prompt), classes)
            for prompt, places in zip(run.prompts, run.places, strict=True)
            for place in places
        }

    def request(self, step: Step) -> Request:
        active = self.active(step)
        if not any(active) or self.run.schedule.assumed(step)[0] < VISIBLE:
            return Request()

        def loss(maps: Maps, latents: Tensor, output: Tensor | None) -> Float[Tensor, " b"]:
            assert output is not None
            pixels = self.run.model.decode_with_grad(self.run.schedule.clean(latents, output, step))
            weights = next(self.network.parameters(), pixels)
            logits = self.network(((pixels + 1) / 2).clamp(0, 1).to(weights.dtype)).to(latents.dtype)
            most = max(*self.wanted.values(), self.method.background or 0)
            if most >= logits.shape[1]:
                raise UsageError(f"SegmenterGuidance's network has {logits.shape[1]} classes, and no class {most}.")
            pairs = zip(logits, active, strict=True)
            return torch.stack([self._cross_entropy(own, places) for own, places in pairs])

        return Request(losses=(Loss(loss, needs_output=True),))

    def _cross_entropy(self, logits: Float[Tensor, "classes h w"], places: Sequence[Place]) -> Float[Tensor, ""]:
        """Mean cross-entropy to the regions' classes, each region's pixels counting by its weight."""
        if not places:
            return logits.sum() * 0
        masks = self.masks(places, logits.shape[1:]).to(logits)
        target = torch.zeros_like(logits)
        for mask, weight, place in zip(masks, self.weights(places).to(logits), places, strict=True):
            target[self.wanted[place]] += weight * mask
        if self.method.background is not None:
            target[self.method.background] += 1 - masks.amax(dim=0)
        return -(target * F.log_softmax(logits, dim=0)).sum() / target.sum()

    def adjust(self, output: Tensor, gradient: Tensor, latents: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """Eq. 1: the noise estimate minus sqrt(1 - alpha-bar) times the gradient of log p."""
        schedule = self.run.schedule
        noise = schedule.level(step.index)[1]
        epsilon = schedule.epsilon(latents, output, step) + noise * self.method.scale * gradient
        return schedule.from_epsilon(latents, epsilon, step)


def class_of(phrase: str, classes: Mapping[str, int]) -> int:
    """The class of a region's words.

    Raises:
        UsageError: the map holds neither the phrase nor exactly one class among its words.
    """
    known = {name.lower(): index for name, index in classes.items()}
    phrase = phrase.lower()
    if phrase in known:
        return known[phrase]
    found = {known[word]: word for word in phrase.split() if word in known}
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise UsageError(
            f"The words {phrase!r} name {' and '.join(found.values())}, and the segmenter guides a region to one "
            "thing; give each a region with words of its own."
        )
    near = [name for word in phrase.split() for name in difflib.get_close_matches(word, known, n=2, cutoff=0.7)]
    names: dict[int, str] = {}
    for name, index in known.items():
        names.setdefault(index, name)  # the first of a class's names
    hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join([*names.values()][:20])}."
    raise UsageError(f"The segmenter has no class for the words {phrase!r}; {hint}")
