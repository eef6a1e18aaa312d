"""What the members of methods share that edit attention probabilities in columns of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..diffusion.attention import Layer
from ..diffusion.denoiser import Request
from ..diffusion.schedule import Step
from .base import Member
from .regions import Place, assign, marked
from .targets import Targets

Active = Sequence[Sequence[Place]]
"""Per sample, the places that are guided at a step."""


ColumnFormula = Callable[[Tensor, Tensor, Tensor], Tensor]
"""New probabilities (b heads h w tokens) from the old ones, the values of cells and tokens (b h w tokens), and which
tokens are targets (b tokens)."""


@dataclass(frozen=True)
class ColumnEdit(Member):
    """Edits the probabilities of the chosen layers at guided steps by `formula`, with values from the places' masks."""

    targets: Targets
    layers: frozenset[str]
    formula: ColumnFormula

    def request(self, step: Step) -> Request:
        active = self.targets.active(step)
        return Request(probabilities=(partial(self._edit, active),)) if any(active) else Request()

    def _edit(
        self, active: Active, probabilities: Float[Tensor, "b heads h w tokens"], layer: Layer
    ) -> Float[Tensor, "b heads h w tokens"]:
        if layer.name not in self.layers:
            return probabilities
        grid, tokens = (probabilities.shape[2], probabilities.shape[3]), probabilities.shape[-1]
        values = self.targets.per_sample(active, grid, partial(self._values, tokens))
        return self.formula(probabilities, values, self.targets.per_sample(active, None, partial(self._marked, tokens)))

    def words(self, places: Sequence[Place]) -> list[tuple[int, ...]]:
        """Each place's columns."""
        return [place.tokens for place in places]

    def shapes(self, places: Sequence[Place], grid: tuple[int, int]) -> Float[Tensor, "r h w"]:
        """What each place says of every cell."""
        return self.targets.masks(places, grid)

    def _values(self, tokens: int, places: Sequence[Place], grid: tuple[int, int]) -> Float[Tensor, "h w tokens"]:
        return spread(self.shapes(places, grid), self.targets.weights(places), self.words(places), tokens)

    def _marked(self, tokens: int, places: Sequence[Place], _: None) -> Bool[Tensor, " tokens"]:
        return marked(self.words(places), tokens, self.targets.device)


def spread(
    shapes: Float[Tensor, "r h w"], heights: Float[Tensor, " r"], words: Sequence[Sequence[int]], tokens: int
) -> Float[Tensor, "h w tokens"]:
    """`assign` with each region's height shared by its columns."""
    counts = torch.tensor([len(set(own)) for own in words], device=shapes.device)
    return assign(shapes * (heights / counts)[:, None, None], words, tokens)
