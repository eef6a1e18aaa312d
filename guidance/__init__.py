"""Guidance methods: one file per method of the papers, a table of their names, and regions that they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention_swapping import AttentionSwapping as AttentionSwapping
    from .base import Guidance as Guidance
    from .chain import Chain as Chain
    from .directed_diffusion import DirectedDiffusion as DirectedDiffusion
    from .masked_attention import MaskedAttention as MaskedAttention
    from .methods import METHODS as METHODS
    from .methods import method as method
    from .multidiffusion import MultiDiffusion as MultiDiffusion
    from .paint_with_words import PaintWithWords as PaintWithWords
    from .regions import Region as Region
    from .segmenter import SegmenterGuidance as SegmenterGuidance
    from .zest import Zest as Zest

_HOME = {
    "AttentionSwapping": "attention_swapping",
    "Chain": "chain",
    "DirectedDiffusion": "directed_diffusion",
    "Guidance": "base",
    "METHODS": "methods",
    "MaskedAttention": "masked_attention",
    "MultiDiffusion": "multidiffusion",
    "PaintWithWords": "paint_with_words",
    "Region": "regions",
    "SegmenterGuidance": "segmenter",
    "Zest": "zest",
    "method": "methods",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
