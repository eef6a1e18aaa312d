"""Which words the shipped toybox knows, so that the command line can warn of the others. Reads `weights/world.json`."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from .world import World

_FILLERS = "a an the and with next to of in on at by front there is one two three picture photo"
FILLERS: tuple[str, ...] = tuple(_FILLERS.split())
WEIGHTS = Path(__file__).parent / "weights"


def describe(world: World) -> dict[str, Any]:
    """What `world.json` holds: every class's forms, the colours, the grounds, and all known words."""
    nouns = {noun.name: list(noun.forms) for noun in world.nouns}
    grounds = {ground.name: list(ground.phrases) for ground in world.grounds}
    phrases = [phrase for part in (*nouns.values(), *grounds.values()) for phrase in part]
    text = [*FILLERS, *world.colours, *grounds, *phrases]
    return {
        "configuration": world.name,
        "size": world.size,
        "nouns": nouns,
        "colours": list(world.colours),
        "grounds": grounds,
        "words": sorted(set(_words(" ".join(text)))),
    }


@cache
def shipped() -> dict[str, Any]:
    """The world of the weights that ship with the package."""
    return json.loads((WEIGHTS / "world.json").read_text())


def unknown_words(prompt: str) -> list[str]:
    """The words of `prompt` that no caption of the world holds, in order, each once."""
    known = set(shipped()["words"])
    return list(dict.fromkeys(word for word in _words(prompt) if word not in known))


def class_of(word: str) -> int | None:
    """The segmenters' class of a noun, its plural or a synonym (0 is the background); None for any other word."""
    word = " ".join(word.lower().split())
    return next((index + 1 for index, forms in enumerate(shipped()["nouns"].values()) if word in forms), None)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())
