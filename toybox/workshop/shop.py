"""What every stage of training needs at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .recipe import Recipe
from .scenes import Renderer
from .stage import M, Plan, Stage

HELD_OUT = 1_000_000_000
"""Seeds from here on are never trained on."""


@dataclass(frozen=True)
class Workshop:
    """What every stage needs."""

    recipe: Recipe
    renderer: Renderer
    folder: Path
    resume: bool
    minutes: float
    steps: int
    init_from: Path | None
    half: bool = False
    """Whether the larger networks compute in bfloat16."""

    def stage(self, name: str, model: M, share: float, **plan: float) -> Stage[M]:
        """A stage that takes `share` of the minutes, resumed if that is wanted."""
        stage = Stage(Plan(name, minutes=self.minutes * share, steps=self.steps, **plan), model, self.folder)  # type: ignore[arg-type]
        if self.resume:
            stage.resume()
        return stage
