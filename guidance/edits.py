"""What the members of methods share that edit attention probabilities in columns of tokens."""

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
from .base import Member
from .regions import Place, marked
from .targets import Targets

Active = Sequence[Sequence[Place]]
"""Per sample, the places that are guided at a step."""


@dataclass(frozen=True)
class ColumnEdit(Member):
    """Edits the probabilities of the chosen layers at guided steps; `edit` says how."""

    targets: Targets
    layers: frozenset[str]

    def request(self, step: Step) -> Request:
        active = self.targets.active(step)
        return Request(probabilities=(partial(self._edit, active),)) if any(active) else Request()

    def _edit(
        self, active: Active, probabilities: Float[Tensor, "b heads h w tokens"], layer: Layer
    ) -> Float[Tensor, "b heads h w tokens"]:
        if layer.name not in self.layers:
            return probabilities
        grid, tokens = (probabilities.shape[2], probabilities.shape[3]), probabilities.shape[-1]
        values = self.targets.per_sample(active, grid, partial(self.values, tokens))
        return self.edit(probabilities, values, self.targets.per_sample(active, None, partial(self._marked, tokens)))

    def edit(
        self,
        probabilities: Float[Tensor, "b heads h w tokens"],
        values: Float[Tensor, "b h w tokens"],
        targets: Bool[Tensor, "b tokens"],
    ) -> Float[Tensor, "b heads h w tokens"]:
        """The new probabilities."""
        raise NotImplementedError

    def values(self, tokens: int, places: Sequence[Place], grid: tuple[int, int]) -> Float[Tensor, "h w tokens"]:
        """What one sample's places say of every cell and token."""
        raise NotImplementedError

    def words(self, places: Sequence[Place]) -> list[tuple[int, ...]]:
        """Each place's columns."""
        return [place.tokens for place in places]

    def _marked(self, tokens: int, places: Sequence[Place], _: None) -> Bool[Tensor, " tokens"]:
        return marked(self.words(places), tokens, self.targets.device)


def sizes(words: Sequence[Sequence[int]], device: torch.device) -> Float[Tensor, "regions 1 1"]:
    """The number of each region's columns."""
    return torch.tensor([len(set(tokens)) for tokens in words], device=device)[:, None, None]
