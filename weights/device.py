"""On which device and in which precision a model runs."""

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


LARGE = 400_000_000
"""Bytes of a UNet's weights on disk from which it runs in bfloat16 on a CPU that multiplies in it. A forward of Stable
Diffusion 1.5 (1.7 GB and more) at 512 x 512 then takes about half as long; of toybox (24 MB), .8 of the time, which is
not worth the digits."""


def multiplies_bfloat16() -> bool:
    """Whether this CPU has AVX-512's or AMX's instructions for bfloat16."""
    import torch

    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def pick_dtype(name: str, device: torch.device, size: int = 0) -> torch.dtype:
    """Resolve a dtype name for a UNet whose weights have `size` bytes on disk.

    "auto" is float16 on CUDA, bfloat16 for large weights on a CPU with instructions for it, and float32 elsewhere.

    Raises:
        UsageError: not a dtype that a model can run in.
    """
    import torch

    if name == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if device.type == "cpu" and size >= LARGE and multiplies_bfloat16() else torch.float32
    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
    if name not in kinds:
        raise UsageError(f"There is no dtype {name!r}; choose one of auto, {', '.join(kinds)}.")
    if kinds[name] == torch.float16 and device.type == "cpu":
        raise UsageError("float16 does not run on the CPU; use --dtype float32.")
    return kinds[name]


def available(device: torch.device) -> int | None:
    """Bytes of a GPU that are free, or held by this process; None where nobody counts them."""
    import torch

    if device.type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
