"""Methods with their parameters in one word: `zest:fraction=0.25+paint-with-words:strength=0.2`.

A sweep is a method one of whose values is a list: `zest:fraction=0.1,0.25,0.5+paint-with-words`.
"""

import re
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from ..guidance.base import Guidance


def parse_method(text: str) -> "Guidance":
    """The guidance that a word stands for; see `inlay.guidance.METHODS` for the names.

    Raises UsageError for an unknown method or parameter, or a value that it cannot have.
    """
    from ..guidance.methods import chained
    from ..guidance.written import parse

    return chained(parse(text))


def expand_sweep(text: str) -> list[str]:
    """The methods of a sweep, in order; UsageError unless exactly one value is a list."""
    lists = re.findall(r"=([^:+]*,[^:+]*)", text)
    if len(lists) != 1:
        raise UsageError(f"The sweep '{text}' has no one list of values; write METHOD:PARAMETER=V1,V2,V3.")
    return [text.replace(lists[0], value, 1) for value in lists[0].split(",")]
