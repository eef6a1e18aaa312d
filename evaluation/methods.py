"""Methods by name: `zest`, with parameters `zest:fraction=0.25:strength=1`, together `zest+paint-with-words`.

A sweep is a method one of whose values is a list: `zest:fraction=0.1,0.25,0.5+paint-with-words`.
"""

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..guidance.base import Guidance


def parse_method(text: str) -> "Guidance":
    """The guidance that a name stands for; `plain` is classifier-free guidance alone.

    Raises UsageError for an unknown method or parameter, or a value of another type than the parameter's default.
    """
    from ..guidance import Chain

    methods = tuple(_parse_one(part) for part in text.split("+"))
    return methods[0] if len(methods) == 1 else Chain(methods)


def expand_sweep(text: str) -> list[str]:
    """The methods of a sweep, in order; UsageError unless exactly one value is a list."""
    lists = re.findall(r"=([^:+]*,[^:+]*)", text)
    if len(lists) != 1:
        raise UsageError(f"The sweep '{text}' has no one list of values; write METHOD:PARAMETER=V1,V2,V3.")
    return [text.replace(lists[0], value, 1) for value in lists[0].split(",")]


def _parse_one(text: str) -> "Guidance":
    from ..guidance import METHODS, Guidance

    name, *assignments = text.split(":")
    methods = {"plain": Guidance, **METHODS}
    if name not in methods:
        raise UsageError(f"There is no method '{name}'; choose from {', '.join(methods)}.")
    method = methods[name]
    parameters = {field.name: field for field in dataclasses.fields(method)}
    values: dict[str, Any] = {}
    for assignment in assignments:
        parameter, _, value = assignment.partition("=")
        if parameter not in parameters:
            known = ", ".join(parameters) or "none"
            raise UsageError(f"{name} has no parameter '{parameter}'; it has {known}.")
        values[parameter] = _value(value)
    return method(**values)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
