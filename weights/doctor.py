"""What a machine has for `inlay`, what it lacks, and the command that gets it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import torch

from .at_hand import weights_at_hand
from .catalogue import cache_folder
from .device import LARGE, pick_device, pick_dtype

PACKAGES = ("inlay", "torch", "diffusers", "transformers", "opencv-python-headless", "Pillow", "numpy")


def examine() -> dict[str, str]:
    """Findings by subject, in the order to be read."""
    from huggingface_hub.constants import HF_HUB_CACHE, is_offline_mode

    device = pick_device("auto")
    weights = weights_at_hand()
    ready = [one.name for one in weights if one.state == "ready"]
    segmenters = [one.name for one in weights if one.kind == "segmentation" and one.state == "ready"]
    findings = {
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "device": f"{device}, {precision(device)}",
        "memory": memory(device),
        "models": ", ".join(ready) or "none",
        "model cache": f"{HF_HUB_CACHE}{' (offline)' if is_offline_mode() else ''}",
        "inlay cache": str(cache_folder()),
    }
    if "toybox" not in ready:
        findings["missing"] = "toybox, the embedded model; reinstall inlay"
    if not segmenters:
        findings["better masks"] = "only GrabCut is here; run: inlay models download sam"
    return findings


def precision(device: torch.device) -> str:
    """The precision that UNets run in there."""
    small, large = (str(pick_dtype("auto", device, size)).removeprefix("torch.") for size in (0, LARGE))
    return small if small == large else f"{small}, large models in {large}"


def memory(device: torch.device) -> str:
    """Free of all, of the device that models would run on."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free on {torch.cuda.get_device_name(device)}"
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows and macOS do not count them so
        return "unknown"
    return f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
