"""Which words the shipped toybox knows, so that the command line can warn of the others. Reads `weights/world.json`."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parent / "weights"


@cache
def shipped() -> dict[str, Any]:
    """The world of the weights that ship with the package."""
    return json.loads((WEIGHTS / "world.json").read_text())


def unknown_words(prompt: str) -> list[str]:
    """The words of `prompt` that no caption of the world holds, in order, each once."""
    known = set(shipped()["words"])
    return list(dict.fromkeys(word for word in words_of(prompt) if word not in known))


def class_of(word: str) -> int | None:
    """The segmenters' class of a noun, its plural or a synonym (0 is the background); None for any other word."""
    word = " ".join(word.lower().split())
    return next((index + 1 for index, forms in enumerate(shipped()["nouns"].values()) if word in forms), None)


def words_of(text: str) -> list[str]:
    """The words of `text` in small letters, without digits and punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())
