"""The regions of a run as the members of methods see them: which are guided at a step, and where on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.schedule import Step
from ..errors import UsageError
from .base import Run
from .regions import Place, as_set, membership, on_grid

AREA = 0.25
"""Share of the picture from which on a region needs no help by its area."""


class Targets:
    """The places of every sample of a run, on the model's device.

    Raises:
        UsageError: a mask whose aspect is not the picture's.
    """

    def __init__(self, run: Run, fraction: float) -> None:
        self.run, self.fraction = run, fraction
        self.columns = tuple(sorted({token for places in run.places for place in places for token in place.tokens}))
        self._like = torch.empty(0, device=run.model.device, dtype=run.model.working_dtype)
        self._kept: dict[tuple[object, ...], Tensor] = {}
        """Masks by place and grid, and weights by places: both stay the same over steps and layers."""
        for places in run.places:
            for place in places:
                check_aspect(place, run.size)

    @property
    def idle(self) -> bool:
        """Whether no region is ever guided: it would be at the first step."""
        return not any(self.active(self.run.steps[0]))

    def active(self, step: Step) -> tuple[tuple[Place, ...], ...]:
        """Per sample, the places that are guided at `step`."""
        return tuple(
            tuple(
                place
                for place in places
                if self.run.within(step, self.fraction if place.region.fraction is None else place.region.fraction)
            )
            for places in self.run.places
        )

    def masks(self, places: Sequence[Place], grid: tuple[int, int], binary: bool = False) -> Float[Tensor, "r h w"]:
        """How much each cell belongs to each place, or with `binary` whether it does."""
        if not places:
            return self._like.new_zeros((0, *grid))
        return torch.stack([self._mask(place, grid, binary) for place in places])

    def _mask(self, place: Place, grid: tuple[int, int], binary: bool) -> Float[Tensor, "h w"]:
        key = (id(place), grid, binary)
        if key not in self._kept:
            mask = place.mask[None]
            self._kept[key] = (as_set(on_grid(mask, grid)) if binary else membership(mask, grid))[0].to(self._like)
        return self._kept[key]

    def per_sample(
        self,
        active: Sequence[Sequence[Place]],
        grid: tuple[int, int] | None,
        make: partial[Tensor],
    ) -> Float[Tensor, "b ..."]:
        """`make(places, grid)` of every sample, stacked, and made once for the same places and grid."""
        key = (make.func, grid, *(tuple(map(id, places)) for places in active))
        if key not in self._kept:
            self._kept[key] = torch.stack([make(places, grid) for places in active])
        return self._kept[key]

    @property
    def device(self) -> torch.device:
        return self._like.device

    def weights(self, places: Sequence[Place]) -> Float[Tensor, " r"]:
        """The regions' weights."""
        return self._per_region(places, None)

    def boosts(self, places: Sequence[Place], area: float) -> Float[Tensor, " r"]:
        """Help for small regions: (`AREA` / a) ** area for one that covers a share a of the picture, at least 1."""
        return self._per_region(places, area)

    def _per_region(self, places: Sequence[Place], area: float | None) -> Float[Tensor, " r"]:
        key = (*map(id, places), area)
        if key not in self._kept:
            values = [place.region.weight if area is None else boost(place, area) for place in places]
            self._kept[key] = torch.tensor(values, dtype=torch.float64).to(self._like)
        return self._kept[key]


def boost(place: Place, area: float) -> float:
    covered = max(float((place.mask >= 0.5).float().mean()), 1 / place.mask.numel())
    return max(1.0, AREA / covered) ** area


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
