"""The names of inlay's own methods; known before PyTorch is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import entry_points

from ..errors import UsageError
from .written import HOW

PLUGINS = "inlay.guidance"
"""The group of entry points whose files register methods, too."""

OWN = (
    "attention-swapping",
    "directed-diffusion",
    "masked-attention",
    "multidiffusion",
    "paint-with-words",
    "removal",
    "segmenter",
    "zest",
)
"""Each stands in the file of its name."""


def check_names(names: Iterable[str]) -> None:
    """Refuse what is no method; what a plugin may bring is left to `inlay.guidance.methods`.

    Raises:
        UsageError: an unknown name.
    """
    unknown = [name for name in names if name not in ("plain", *OWN)]
    if unknown and not entry_points(group=PLUGINS):
        raise no_method(unknown[0], OWN)


def no_method(name: str, known: Iterable[str]) -> UsageError:
    if not name or {":", "="} & set(name):
        return UsageError(f"There is no method {name!r}; {HOW}.")
    return UsageError(f"There is no method {name!r}{near(name, known)}")


def near(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; choose from {', '.join(known)}." if known else "; it has none."
