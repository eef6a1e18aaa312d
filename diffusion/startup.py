"""Quick start for a process of our own: diffusers' UNet and autoencoder without what they import and never use.

Importing them costs twice what PyTorch itself does, nearly all for compilers, trainers, statistics and other networks
that no edit touches. The command line calls `import_lightly` first; a library user's process is left alone, since
diffusers' own pipelines would miss what is hidden here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

UNUSED = ("accelerate", "peft", "scipy", "torch._dynamo", "torchvision", "transformers")
CROWDED = ("diffusers.models.autoencoders", "diffusers.models.transformers", "diffusers.models.unets")
"""Packages that import a hundred other networks beside the one that is asked for."""
MODULES = ("diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl")


def import_lightly() -> None:
    """Import diffusers' UNet and autoencoder alone, as if the packages of `UNUSED` were not installed.

    Where a version of diffusers cannot do without one of them, it is imported as always.
    """
    if "diffusers" in sys.modules:
        return
    try:
        with absent(*UNUSED), uncompiled():
            for package in CROWDED:
                without_contents(package)
            for module in MODULES:
                importlib.import_module(module)
    except Exception:  # whatever the missing package happens to trigger
        forget_diffusers()


def import_wholly() -> None:
    """Undo `import_lightly` for what needs all of diffusers: its pipelines, or the samplers that use scipy."""
    if "diffusers" in sys.modules:
        believed: Any = importlib.import_module("diffusers.utils")
        if not believed.is_transformers_available():
            forget_diffusers()


def without_contents(package: str) -> None:
    """Let modules of a package be imported without running its `__init__`."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    sys.modules[package] = importlib.util.module_from_spec(spec)


def forget_diffusers() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "diffusers"]:
        del sys.modules[name]


@contextmanager
def absent(*packages: str) -> Iterator[None]:
    """Inside the block, packages that are not imported yet look as if they were not installed."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None stands for "not to be found"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside the block, `torch.compiler.disable` leaves functions as they are: marking them loads the compiler."""

    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        return (lambda decorated: decorated) if function is None else function

    compiler: Any = importlib.import_module("torch.compiler")
    kept = compiler.disable
    compiler.disable = disable
    try:
        yield
    finally:
        compiler.disable = kept
