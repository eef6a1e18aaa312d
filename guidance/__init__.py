"""Guidance methods: one file per method of the papers, a table of their names, regions that they serve, and layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention_swapping import AttentionSwapping as AttentionSwapping
    from .base import Chain as Chain
    from .base import Guidance as Guidance
    from .directed_diffusion import DirectedDiffusion as DirectedDiffusion
    from .masked_attention import MaskedAttention as MaskedAttention
    from .methods import METHODS as METHODS
    from .methods import method as method
    from .multidiffusion import MultiDiffusion as MultiDiffusion
    from .paint_with_words import PaintWithWords as PaintWithWords
    from .regions import Region as Region
    from .removal import Removal as Removal
    from .segmenter import SegmenterGuidance as SegmenterGuidance
    from .zest import Zest as Zest

_HOME = {
    "AttentionSwapping": "attention_swapping",
    "Chain": "base",
    "DirectedDiffusion": "directed_diffusion",
    "Guidance": "base",
    "METHODS": "methods",
    "MaskedAttention": "masked_attention",
    "MultiDiffusion": "multidiffusion",
    "PaintWithWords": "paint_with_words",
    "Region": "regions",
    "Removal": "removal",
    "SegmenterGuidance": "segmenter",
    "Zest": "zest",
    "method": "methods",
}
_FILES = {*_HOME.values(), "attention_pictures"}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in _FILES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_HOME, *_FILES]
