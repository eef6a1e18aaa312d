"""The world of the shipped toybox, from `weights/world.json`."""

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


def words_of(text: str) -> list[str]:
    """The words of `text` in small letters, without digits and punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())
