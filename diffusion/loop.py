"""The one denoising loop. Inversion is this loop with reversed steps and another `advance`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from .numeric import finite
from .schedule import Step

if TYPE_CHECKING:
    from .denoiser import Denoiser, Prediction


class Guide(Protocol):
    """What a method may do around a step; see `inlay.guidance.base.Session`."""

    def refine(self, latents: Tensor, step: Step, denoiser: Denoiser) -> Tensor: ...
    def predict(self, latents: Tensor, step: Step, denoiser: Denoiser) -> Prediction: ...
    def settle(self, latents: Tensor, prediction: Prediction, step: Step, denoiser: Denoiser) -> Tensor: ...


GLANCE = 8
"""To see a number the host waits for an accelerator, so NaN is looked for there at every eighth step only."""

Blending = Callable[[Tensor, Step], Tensor]
OnStep = Callable[[Tensor, Step], None]


@torch.no_grad()
def denoise(
    latents: Float[Tensor, "b c h w"],
    steps: Iterable[Step],
    denoiser: Denoiser,
    guide: Guide,
    blend: Blending | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b c h w"]:
    """Carry VP latents through `steps`; `blend` sees the latents at the level that each step left them.

    Raises:
        NumericError: NaN or infinity, in which all that follows would end. What comes of the last steps shows in the
            decoded picture.
    """
    for step in steps:
        latents = guide.refine(latents, step, denoiser)
        prediction = guide.predict(latents, step, denoiser)
        after = denoiser.advance(latents, prediction.output, step)
        latents = guide.settle(after, prediction, step, denoiser)
        if blend is not None:
            latents = blend(latents, step)
        if latents.device.type == "cpu" or step.index % GLANCE == GLANCE - 1:
            finite(latents, step)
        if on_step is not None:
            on_step(latents, step)
    return latents
