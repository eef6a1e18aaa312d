"""ControlNets (Zhang et al. 2023) and T2I-Adapters (Mou et al. 2023): what they are shown joins at the UNet's seam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UsageError
from ..weights.hub import quiet
from ..weights.parts import read_json
from .loading import read

Residuals = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], dict[str, Any]]
"""See `Seam.residuals`."""

LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601), for adapters that are shown grey pictures."""


@dataclass(frozen=True, eq=False)
class Hint:
    """What one control is shown, a picture in [0, 1] for each sample, and how much its answer counts there; on the
    model's device and in its dtype."""

    pixels: Float[Tensor, "b 3 H W"]
    scale: Float[Tensor, " b"]


def load_controls(
    folders: Sequence[Path], dtype: torch.dtype, device: torch.device, allow_pickle: bool
) -> tuple[Any, ...]:
    """Frozen ControlNets and T2I-Adapters.

    Raises:
        ModelError: weights are missing or unexpected.
    """
    from diffusers import ControlNetModel, T2IAdapter

    kinds = {"ControlNetModel": ControlNetModel, "T2IAdapter": T2IAdapter}
    with quiet("diffusers"):
        nets = [
            read(kinds[read_json(folder / "config.json")["_class_name"]], folder, dtype, allow_pickle)
            for folder in folders
        ]
    return tuple(net.requires_grad_(False).eval().to(device) for net in nets)


def steering(controls: Sequence[Any], hints: Sequence[Hint], channels: int) -> Residuals | None:
    """The residuals of all controls, each with its hint, added up; None without controls. ControlNets see the first
    `channels` of the UNet's input, the latents."""
    from diffusers import ControlNetModel

    pairs = list(zip(controls, hints, strict=True))
    nets = [(net, hint) for net, hint in pairs if isinstance(net, ControlNetModel)]
    # what a T2I-Adapter says does not depend on the step
    features = total([told(net, hint) for net, hint in pairs if not isinstance(net, ControlNetModel)])

    def residuals(source: Tensor, timestep: Tensor, states: Tensor, added: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if nets:
            latents = source[:, :channels]
            *down, middle = total([answer(net, hint, latents, timestep, states, added) for net, hint in nets])
            made |= {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if features:
            times = len(source) // len(features[0])
            made["down_intrablock_additional_residuals"] = [one.repeat(times, 1, 1, 1) for one in features]
        return made

    return residuals if pairs else None


def answer(
    net: Any, hint: Hint, latents: Tensor, timestep: Tensor, states: Tensor, added: dict[str, Any]
) -> list[Tensor]:
    """A ControlNet's residuals for the UNet's skip connections, and, last, for its middle."""
    times = len(latents) // len(hint.pixels)
    down, middle = net(
        latents,
        timestep,
        states,
        hint.pixels.repeat(times, 1, 1, 1),
        conditioning_scale=hint.scale.repeat(times)[:, None, None, None],
        added_cond_kwargs=added,
        return_dict=False,
    )
    return [*down, middle]


def told(adapter: Any, hint: Hint) -> list[Tensor]:
    """A T2I-Adapter's features, one for each level of the UNet.

    Raises:
        UsageError: a size that it cannot halve.
    """
    pixels, step = hint.pixels, adapter.downscale_factor
    if pixels.shape[-1] % step or pixels.shape[-2] % step:
        raise UsageError(f"This T2I-Adapter takes sizes that divide by {step}; choose another --size.")
    if adapter.config.in_channels == 1:
        pixels = (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    return [feature * hint.scale[:, None, None, None] for feature in adapter(pixels)]


def total(parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Lists of tensors, added up place by place."""
    return [torch.stack(list(own)).sum(dim=0) for own in zip(*parts, strict=True)]
