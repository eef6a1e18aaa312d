"""Several methods in one run."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Guidance, Run, Session


@dataclass(frozen=True)
class Chain(Guidance):
    """Methods that act together, in order; ZestGuide's own default is `Chain((Zest(), PaintWithWords()))`."""

    methods: tuple[Guidance, ...] = ()

    def begin(self, run: Run) -> Session:
        return Session([member for method in self.methods for member in method.begin(run).members])
