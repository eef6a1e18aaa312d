"""Several methods in one run."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from .base import Guidance, Run, Session


@dataclass(frozen=True)
class Chain(Guidance):
    """Methods that act together, in order; ZestGuide's own default is `Chain((Zest(), PaintWithWords()))`.

    Raises:
        UsageError: no methods, or one of them twice.
    """

    methods: tuple[Guidance, ...]

    def __post_init__(self) -> None:
        if not self.methods:
            raise UsageError("The chain has no methods; give it at least one, or use Guidance() for none.")
        kinds = [type(method).__name__ for method in self.methods if not isinstance(method, Chain)]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise UsageError(f"{twice[0]} stands in the chain twice; name it once, with all its parameters.")

    def begin(self, run: Run) -> Session:
        return Session([member for method in self.methods for member in method.begin(run).members])
