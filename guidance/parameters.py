"""Parameters of methods: a field says its default and what it may be, and the base class refuses anything else."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any

from ..errors import UsageError


def number(default: float | None, low: float, high: float = math.inf) -> Any:
    """A finite number from `low` to `high`; None, where it is the default, leaves it to the model."""
    wanted = f" from {low:g} to {high:g}" if high < math.inf else f" of at least {low:g}"

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"{name} is {value!r}; give a number.")
        if not low <= value <= high:
            raise UsageError(f"{name} is {value}; give a number{wanted}.")

    return field(default=default, metadata={"check": check})


def whole(default: int | None, low: int) -> Any:
    """A whole number of at least `low`; None, where it is the default, leaves it to the model."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise UsageError(f"{name} is {value!r}; give a whole number of at least {low}.")

    return field(default=default, metadata={"check": check})


def flag(default: bool) -> Any:
    """True or false."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise UsageError(f"{name} is {value!r}; give true or false.")

    return field(default=default, metadata={"check": check})


def share(default: float | None) -> Any:
    """A number from 0 to 1; see `number`."""
    return number(default, 0, 1)


def choice(default: str | None, *options: str) -> Any:
    """One of `options`; None, where it is the default, leaves it to the model."""

    def check(name: str, value: Any) -> None:
        if value not in options:
            raise UsageError(f"{name} is {value!r}; choose one of {', '.join(options)}.")

    return field(default=default, metadata={"check": check})
