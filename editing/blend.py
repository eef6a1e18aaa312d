"""Blended Latent Diffusion (Avrahami et al. 2023, Blended Latent Diffusion, ACM TOG 42(4), algorithm 1).

After each step the latents outside the mask are replaced by the photo's own at the level the latents then have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d

from ..diffusion.inversion import Trajectory
from ..diffusion.schedule import Schedule, Step
from ..guidance.regions import on_grid

KERNELS = (7, 5, 3)
"""Dilations of progressive mask shrinking, a quarter of the steps each; the true mask has the rest (section 3.4)."""


@dataclass(frozen=True)
class Blend:
    """Keeps the background of `source` while the loop edits what `mask` selects.

    Args:
        source: (b, c, h, w) or (1, c, h, w), the photo's latents z0.
        mask: (b, h, w) or (h, w), how much each cell is changed: 1 from the first step on, less only from a later one
            on, so that what comes stays close to the photo (Levin and Fried 2023, Differential Diffusion); 0 never.
        noise: (b, c, h, w), one fixed noise per sample, with which the background is brought to every level.
        schedule: of the run.
        trajectory: the photo's inverted latents per boundary, used instead of noise.
        shrink: begin with dilated masks, so that thin places are noticed early.
    """

    source: Float[Tensor, "b c h w"]
    mask: Float[Tensor, "*b h w"]
    noise: Float[Tensor, "b c h w"]
    schedule: Schedule
    trajectory: Trajectory | None = None
    shrink: bool = False

    def start(self) -> Float[Tensor, "b c h w"]:
        """The photo's latents at the run's first boundary: where the loop begins."""
        return self.background(self.schedule.first)

    def background(self, index: int) -> Float[Tensor, "b c h w"]:
        """The photo's latents at a boundary; at the last one they are z0 itself."""
        if index == self.schedule.count:
            return self.source.expand_as(self.noise)
        if self.trajectory is not None:
            return self.trajectory.at[index].expand_as(self.noise)
        signal, noise = self.schedule.level(index)
        return signal * self.source + noise * self.noise

    def mask_at(self, step: Step) -> Bool[Tensor, "*b h w"]:
        """The cells that belong to the edit after `step`: those whose change reaches 1 minus the share of steps done.

        With `shrink` they are dilated in the first three quarters, nested and ever less, but not in the last step.
        """
        run, done = self.schedule.count - self.schedule.first, step.index - self.schedule.first
        cells = (self.mask > 0) & (self.mask >= 1 - (done + 1) / run)
        quarter = done * 4 // run
        if not self.shrink or quarter >= len(KERNELS) or done == run - 1:
            return cells
        return dilated(cells, KERNELS[quarter])

    @property
    def widest(self) -> Bool[Tensor, "*b h w"]:
        """The cells that belong to the edit after any step."""
        return dilated(self.mask > 0, KERNELS[0]) if self.shrink else self.mask > 0

    def __call__(self, latents: Float[Tensor, "b c h w"], step: Step) -> Float[Tensor, "b c h w"]:
        """Latents after `step` inside the mask, the photo's outside."""
        return torch.where(self.mask_at(step).unsqueeze(-3), latents, self.background(step.index + 1))


def dilated(mask: Bool[Tensor, "*b h w"], kernel: int) -> Bool[Tensor, "*b h w"]:
    """The mask grown by a square of `kernel` cells (odd)."""
    layers = mask.float().reshape(-1, *mask.shape[-2:])
    return max_pool2d(layers, kernel, stride=1, padding=kernel // 2).reshape(mask.shape) > 0


def change_map(
    cover: Float[Tensor, "H W"], change: Float[Tensor, "H W"], grid: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """How much each cell of the latents is changed, from how much of each pixel the mask covers and how much of each is
    to change: nothing outside `latent_mask`, within it the mean over what is covered. A hard mask gives 0 and 1."""
    covered, changed = (on_grid(one[None], grid)[0] for one in (cover, change))  # rows of one batch may round apart
    return torch.where(latent_mask(covered), (changed / covered.clamp(min=1e-12)).clamp(max=1), 0.0)


def latent_mask(pooled: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """The cells to edit, from how much of each the mask covers.

    Half covered, or covered at all with no half-covered cell beside it: thin strokes and single pixels survive, and
    the rim of a large mask stays with the photo.
    """
    solid = pooled >= 0.5
    beside = dilated(solid, 3)
    return solid | ((pooled > 0) & ~beside)
