"""Regions: places and the words that belong in them, and how masks meet an attention layer's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL.Image import Image
from torch import Tensor

from ..diffusion.text import Prompts
from ..errors import UsageError

AREA = 0.25
"""Share of the picture from which on a region needs no help by its area."""


@dataclass(frozen=True)
class Region:
    """A place in the picture and the words of the prompt that belong in it.

    Args:
        mask: (H, W), at any size with the picture's aspect, thin scribbles allowed: a Pillow picture, or a numpy array
            or torch tensor of bool, of uint8 (from 128 on it is the place) or of opacities in [0, 1].
        words: a phrase of the prompt, or token indices (the begin mark is 0); () for a place from which something is
            only removed.
        prompt: what MultiDiffusion paints here; default the phrase.
        weight: how much this region counts beside the others, > 0.
        fraction: share of the steps in which this region is guided; default the method's.
        occurrence: which occurrence of the phrase, counted from 0; default all.

    Raises:
        UsageError: an empty mask, a value of another kind or outside its range.
    """

    mask: Any
    words: str | Sequence[int]
    prompt: str | None = None
    weight: float = 1.0
    fraction: float | None = None
    occurrence: int | None = None

    def __post_init__(self) -> None:
        indices = isinstance(self.words, Sequence) and all(isinstance(token, Integral) for token in self.words)
        if not (isinstance(self.words, str) or indices):
            raise UsageError(f"A region's words are {self.words!r}; give a phrase of the prompt, or token indices.")
        name, mask = f"region {self.words!r}", self.tensor()
        if mask.ndim != 2 or not mask.numel():
            raise UsageError(f"The mask of {name} has shape {tuple(mask.shape)}; a mask is (height, width).")
        if not bool(mask.isfinite().all()) or float(mask.min()) < 0 or float(mask.max()) > 1:
            raise UsageError(f"The mask of {name} has values outside 0 to 1; scale it, or give uint8 (0 to 255).")
        if float(mask.max()) == 0:
            raise UsageError(f"The mask of {name} is empty; draw where the words belong, in white.")
        if not (isinstance(self.weight, Real) and math.isfinite(self.weight) and self.weight > 0):
            raise UsageError(
                f"The weight of {name} is {self.weight!r}; give a number above 0, or leave the region out."
            )
        if self.fraction is not None and not (isinstance(self.fraction, Real) and 0 <= self.fraction <= 1):
            raise UsageError(f"The fraction of {name} is {self.fraction!r}; give a number from 0 to 1.")
        if self.occurrence is not None and not (isinstance(self.occurrence, Integral) and self.occurrence >= 0):
            raise UsageError(f"The occurrence of {name} is {self.occurrence!r}; give 0 for the first, 1 for the next.")

    def tensor(self) -> Float[Tensor, "H W"]:
        """The mask as an fp32 tensor on the CPU."""
        mask = self.mask
        if isinstance(mask, Image):
            mask = np.asarray(mask if mask.mode[0] in "IF" else mask.convert("L"))
        if isinstance(mask, np.ndarray) and mask.dtype.kind in "biuf":
            mask = torch.from_numpy(mask.copy() if mask.dtype == np.uint8 else mask.astype(np.float32))
        if not isinstance(mask, Tensor) or mask.is_complex():
            raise UsageError(
                f"The mask of region {self.words!r} is a {type(mask).__name__}; give a Pillow picture, or numbers in a "
                "numpy array or torch tensor."
            )
        return (mask >= 128 if mask.dtype == torch.uint8 else mask).detach().to("cpu", torch.float32)

    def tokens(self, prompts: Prompts, prompt: str) -> tuple[int, ...]:
        """Token indices of the words in `prompt`.

        Raises:
            UsageError: the phrase is not there, or an index is no word of the prompt.
        """
        if isinstance(self.words, str):
            return prompts.find(prompt, self.words, self.occurrence)
        last = min(len(prompts.pieces(prompt)), prompts.limit)
        wrong = [index for index in self.words if isinstance(index, bool) or not 1 <= index <= last]
        if wrong:
            raise UsageError(
                f"The token indices {list(self.words)} are not words of the prompt, which has tokens 1 to {last}."
            )
        return tuple(dict.fromkeys(self.words))

    def phrase(self, prompts: Prompts, prompt: str) -> str:
        """The words themselves: the phrase, or what the token indices spell in `prompt`."""
        return self.words if isinstance(self.words, str) else prompts.words(prompt, self.tokens(prompts, prompt))


@dataclass(frozen=True, eq=False)
class Place:
    """A region bound to a run: its mask over the canvas and its token indices. Equal to itself alone, it is a key."""

    mask: Float[Tensor, "H W"]
    tokens: tuple[int, ...]
    region: Region

    @cached_property
    def covered(self) -> float:
        """Its share of the picture, by `as_set`."""
        return float(as_set(self.mask[None]).float().mean())

    def boost(self, area: float) -> float:
        """Help for a small region: (`AREA` / covered) ** area, at least 1."""
        return max(1.0, AREA / self.covered) ** area


def bind(regions: Sequence[Region], prompts: Prompts, prompt: str) -> tuple[Place, ...]:
    """Regions with their words found in the prompt."""
    return tuple(Place(region.tensor(), region.tokens(prompts, prompt), region) for region in regions)


def check_aspect(place: Place, size: tuple[int, int]) -> None:
    """Refuse a mask that, brought to the latents' grid, would be stretched by more than a cell.

    Raises:
        UsageError: it would.
    """
    (height, width), (rows, columns) = place.mask.shape, size
    if abs(height * columns / width - rows) > 1 and abs(width * rows / height - columns) > 1:
        raise UsageError(
            f"The mask of region {place.region.words!r} is {width} x {height}, of another shape than the picture, "
            f"whose latents are {columns} x {rows}; draw it on a canvas of the picture's shape."
        )


def on_grid(masks: Float[Tensor, "r H W"], grid: tuple[int, int]) -> Float[Tensor, "r h w"]:
    """Masks on a layer's grid by area averaging (also where the grid does not divide the mask)."""
    if masks.shape[1:] == grid:
        return masks
    return area_matrix(masks.shape[1], grid[0]).to(masks) @ masks @ area_matrix(masks.shape[2], grid[1]).to(masks).T


def area_matrix(source: int, target: int) -> Float[Tensor, "target source"]:
    """Row i averages the source interval [i, i + 1) * source / target, exactly, for any two lengths."""
    edges = torch.linspace(0, source, target + 1, dtype=torch.float64)
    cells = torch.arange(source, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], cells + 1) - torch.maximum(edges[:-1, None], cells)
    return overlap.clamp(min=0) * target / source


def as_set(pooled: Float[Tensor, "r h w"]) -> Bool[Tensor, "r h w"]:
    """Cells that a region covers at least half; of a region too thin for any, those that it covers about the most.

    A one-pixel region keeps its cell at every resolution, a thin stroke the cells along it.
    """
    most = pooled.amax(dim=(1, 2), keepdim=True)
    return pooled >= 0.5 * torch.where(most < 0.5, most, torch.ones_like(most))


def membership(masks: Float[Tensor, "r H W"], grid: tuple[int, int]) -> Float[Tensor, "r h w"]:
    """How much each cell of a grid belongs to each region.

    Masks of zeros and ones become sets; soft masks keep their area averages, raised in regions too thin for the grid
    so that the cell which they cover most belongs as much as their strongest pixel.
    """
    pooled = on_grid(masks, grid)
    binary = ((masks == 0) | (masks == 1)).all(dim=(1, 2))
    peak, most = masks.amax(dim=(1, 2)), pooled.amax(dim=(1, 2))
    raised = pooled * torch.where(most < 0.5 * peak, peak / most, torch.ones_like(most))[:, None, None]
    return torch.where(binary[:, None, None], as_set(pooled).to(pooled), raised)


def spread(shapes: Float[Tensor, "r h w"], words: Sequence[Sequence[int]], tokens: int) -> Float[Tensor, "h w tokens"]:
    """`assign` with each region's value shared by its words."""
    counts = torch.tensor([len(set(own)) for own in words], device=shapes.device)
    return assign(shapes * (1 / counts)[:, None, None], words, tokens)


def assign(masks: Float[Tensor, "r h w"], words: Sequence[Sequence[int]], tokens: int) -> Float[Tensor, "h w tokens"]:
    """What the masks say of every cell and token: a region's value in its words' columns, the largest of several."""
    assigned = masks.new_zeros((*masks.shape[1:], tokens))
    for mask, own in zip(masks, words, strict=True):
        assigned[..., list(own)] = torch.maximum(assigned[..., list(own)], mask[..., None])
    return assigned


def marked(words: Sequence[Sequence[int]], tokens: int, device: torch.device) -> Bool[Tensor, " tokens"]:
    """Which tokens are words of a region."""
    targets = torch.zeros(tokens, dtype=torch.bool)
    targets[sorted({token for own in words for token in own})] = True
    return targets.to(device)
