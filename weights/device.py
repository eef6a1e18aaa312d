"""Which device and which precision a model runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    import torch


def pick_device(name: str = "auto") -> torch.device:
    """Resolve a device name; "auto" is the first accelerator that is there, else the CPU.

    Raises:
        UsageError: no such device on this machine.
    """
    import torch

    if name == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(accelerator)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The device {name!r} is not available here; use --device cpu or auto.") from error
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve a dtype name; "auto" is float16 on CUDA and float32 elsewhere.

    Raises:
        UsageError: not a dtype that a model can run in.
    """
    import torch

    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
    if name not in kinds:
        raise UsageError(f"There is no dtype {name!r}; choose one of auto, {', '.join(kinds)}.")
    if kinds[name] == torch.float16 and device.type == "cpu":
        raise UsageError("float16 does not run on the CPU; use --dtype float32.")
    return kinds[name]
