"""What is compared in a table: methods and systems elsewhere, each with the images that it made of the scenes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track

from ..errors import InlayError, PhotoError, UsageError
from ..photos.photo import Photo
from .estimates import Estimate, estimate
from .making import Cost, Maker, Source, image_name
from .protocols import Scene


class Scored(Protocol):
    """A score knows what it is of."""

    @property
    def scene(self) -> str: ...

    @property
    def seed(self) -> int: ...


ScoreT = TypeVar("ScoreT", bound=Scored)
Score = Callable[[Scene, int, UInt8[np.ndarray, "h w 3"], str], ScoreT]
"""Scores an image of a scene for a seed; the last is the image's name below the folders of images and label maps."""


@dataclass(frozen=True)
class Made(Generic[ScoreT]):
    """An image and what it cost; None where it was made elsewhere."""

    score: ScoreT
    file: Path
    cost: Cost | None


@dataclass(frozen=True)
class System(Generic[ScoreT]):
    """What a method, or a system elsewhere, made of the scenes, and why it did not make the rest."""

    made: list[Made[ScoreT]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def over_scenes(self, value: Callable[[ScoreT], float]) -> dict[str, float]:
        """A value by scene, the mean over its seeds."""
        by_scene: dict[str, list[float]] = {}
        for image in self.made:
            by_scene.setdefault(image.score.scene, []).append(value(image.score))
        return {scene: fmean(values) for scene, values in by_scene.items()}

    def cost(self, value: Callable[[Cost], float]) -> float | None:
        """The mean over the images that were made here."""
        costs = [value(image.cost) for image in self.made if image.cost]
        return fmean(costs) if costs else None


@dataclass(frozen=True)
class Difference:
    """How much higher `method` scores than `against`, over the scenes that both have."""

    method: str
    against: str
    gain: Estimate


def collect(
    sources: Mapping[str, Source],
    scenes: Sequence[Scene],
    seeds: Sequence[int],
    score: Score[ScoreT],
    progress: bool,
) -> dict[str, System[ScoreT]]:
    """Get and score every image; what fails for a reason that can be told is counted, the rest goes on."""
    systems: dict[str, System[ScoreT]] = {name: System() for name in sources}
    runs = [(scene, seed, name) for scene in scenes for seed in seeds for name in sources]
    for scene, seed, name in track(runs, "images", console=Console(stderr=True), disable=not progress):
        if seed != seeds[0] and not isinstance(sources[name], Maker):
            continue
        try:
            file, cost = sources[name](scene, seed)
            scored = score(scene, seed, Photo.open(file).pixels, image_name(name, seed, scene))
        except (UsageError, PhotoError) as error:
            systems[name].failed[f"{scene.name}, seed {seed}"] = str(error)
        else:
            systems[name].made.append(Made(scored, file, cost))
    return systems


def differences(systems: Mapping[str, System[ScoreT]], value: Callable[[ScoreT], float]) -> list[Difference]:
    """Every two systems that share scenes, the later against the earlier."""
    found = []
    for (earlier, before), (later, after) in combinations(systems.items(), 2):
        old, new = before.over_scenes(value), after.over_scenes(value)
        gains = [new[scene] - old[scene] for scene in new if scene in old]
        if gains:
            found.append(Difference(later, earlier, estimate(gains)))
    return found


def refuse_nothing(systems: Mapping[str, System[ScoreT]]) -> None:
    """Raises InlayError, with the first reason, where no system has an image."""
    if not any(system.made for system in systems.values()):
        reason = next(reason for system in systems.values() for reason in system.failed.values())
        raise InlayError(f"No image could be made or scored; the first that failed: {reason}")
