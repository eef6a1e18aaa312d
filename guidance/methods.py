"""Methods by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from ..errors import UsageError
from .attention_swapping import AttentionSwapping
from .base import Guidance
from .chain import Chain
from .directed_diffusion import DirectedDiffusion
from .masked_attention import MaskedAttention
from .multidiffusion import MultiDiffusion
from .paint_with_words import PaintWithWords
from .segmenter import SegmenterGuidance
from .zest import Zest

METHODS: dict[str, type[Guidance]] = {
    "plain": Guidance,
    "masked-attention": MaskedAttention,
    "attention-swapping": AttentionSwapping,
    "zest": Zest,
    "paint-with-words": PaintWithWords,
    "directed-diffusion": DirectedDiffusion,
    "multidiffusion": MultiDiffusion,
    "segmenter": SegmenterGuidance,
}

WRITTEN = "write zest:fraction=0.3:strength=1+paint-with-words, or in Python method('zest', fraction=0.3, strength=1)"
"""How methods and their parameters are said."""


def method(name: str, **parameters: Any) -> Guidance:
    """The method of a name; names joined by + make a `Chain`, in order.

        method("zest", fraction=0.3)
        method("zest+paint-with-words", strength=0.5, **{"zest.fraction": 0.3})

    A parameter goes to every method of the chain that has it; "zest.fraction" (by dictionary) to that method alone.

    Raises:
        UsageError: an unknown method or parameter, or a value that it cannot have.
    """
    names = [part.strip() for part in name.split("+")]
    for part in names:
        if not part or {":", "="} & set(part):
            raise UsageError(f"There is no method {part!r}; {WRITTEN}.")
        if part not in METHODS:
            raise UsageError(f"There is no method {part!r}{near(part, METHODS)}")
    own: list[dict[str, Any]] = [{} for _ in names]
    for parameter, value in parameters.items():
        target, _, bare = (part.strip() for part in parameter.rpartition("."))
        value = value.strip() if isinstance(value, str) else value
        if isinstance(value, str) and "=" in value:
            raise UsageError(f"The {bare} of {name} cannot be {value!r}; {WRITTEN}.")
        takers = [
            values
            for part, values in zip(names, own, strict=True)
            if target in ("", part) and bare in parameters_of(part)
        ]
        if not takers:
            known = sorted({known for part in names for known in parameters_of(part)})
            raise UsageError(f"{name} has no parameter {parameter!r}{near(bare, known)}")
        for values in takers:
            values[bare] = value
    made = [METHODS[part](**values) for part, values in zip(names, own, strict=True)]
    return made[0] if len(made) == 1 else Chain(tuple(made))


def parameters_of(name: str) -> list[str]:
    """Names of a method's parameters."""
    return [field.name for field in fields(METHODS[name])]


def near(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; choose from {', '.join(known)}." if known else "; it has none."
