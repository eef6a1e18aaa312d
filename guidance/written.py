"""Methods as text: `zest:fraction=0.25:strength=1+paint-with-words`. Knows the form alone, not the methods."""

from __future__ import annotations

import re
from typing import Any

from ..errors import UsageError

HOW = "write zest:fraction=0.3:strength=1+paint-with-words, or in Python method('zest', fraction=0.3, strength=1)"
"""How methods and their parameters are said."""

Written = tuple[tuple[str, dict[str, Any]], ...]
"""Methods that act together, in order: names, with the parameters that differ from their defaults."""


def parse(text: str) -> Written:
    """Methods by name, with parameters, joined by +; `plain` alone, or beside others, adds nothing.

    A value is a number, true, false, or text; between commas, as in `zest:layers=1,2`, they are a list.

    Raises:
        UsageError: a parameter without a value, or with two.
    """
    return tuple(_parse_one(part) for part in text.split("+") if part.strip() != "plain")


def _parse_one(text: str) -> tuple[str, dict[str, Any]]:
    name, *assignments = (part.strip() for part in text.split(":"))
    pairs = [assignment.partition("=") for assignment in assignments]
    if wrong := [parameter for parameter, equals, _ in pairs if not equals]:
        raise UsageError(f"The parameter {wrong[0]!r} of {name} has no value; write {name}:{wrong[0] or 'NAME'}=VALUE.")
    if wrong := [assignment for assignment, (_, _, value) in zip(assignments, pairs, strict=True) if "=" in value]:
        raise UsageError(f"{name} cannot have {wrong[0]!r}; {HOW}.")
    return name, {parameter.strip(): _value(value.strip()) for parameter, _, value in pairs}


def _value(text: str) -> Any:
    if "," in text:
        return tuple(_value(part.strip()) for part in text.split(",") if part.strip())
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def written(methods: Written) -> str:
    """The text that `parse` reads as these methods."""
    return "+".join(":".join([name, *(f"{key}={_text(value)}" for key, value in own.items())]) for name, own in methods)


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_text, value)) + ("," if len(value) == 1 else "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def between_commas(text: str, names: set[str]) -> list[str]:
    """Methods between commas, as in `plain,zest:layers=1,2,multidiffusion`.

    A comma belongs to a value where no method of `names` follows it.
    """
    parts: list[str] = []
    for part in text.split(","):
        in_value = parts and "=" in re.split(r"[:+]", parts[-1])[-1]
        if in_value and re.split(r"[:+]", part)[0].strip() not in names:
            parts[-1] += f",{part}"
        elif part.strip():
            parts.append(part.strip())
    return parts
