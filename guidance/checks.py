"""Parameters of methods, refused in one sentence where they cannot mean anything."""

from __future__ import annotations

import math
from typing import Any

from ..errors import UsageError


def number(method: object, name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse what is not a finite number from `low` to `high`.

    Raises:
        UsageError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{type(method).__name__}'s {name} is {value!r}; give a number.")
    if not low <= value <= high:
        wanted = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        raise UsageError(f"{type(method).__name__}'s {name} is {value}; give a number {wanted}.")


def share(method: object, name: str, value: Any) -> None:
    """Refuse what is not a number from 0 to 1."""
    number(method, name, value, 0, 1)


def choice(method: object, name: str, value: Any, options: tuple[str, ...]) -> None:
    """Refuse what is none of `options`.

    Raises:
        UsageError: it is not.
    """
    if value not in options:
        raise UsageError(f"{type(method).__name__}'s {name} is {value!r}; choose one of {', '.join(options)}.")
