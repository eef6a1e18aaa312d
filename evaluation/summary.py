"""From the scores of single images to a table: a row per method, and differences between methods on the same scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from .estimates import Estimate, estimate
from .features import frechet_distance
from .making import Cost
from .overlap import pooled_iou
from .scoring import Score


@dataclass(frozen=True)
class Made:
    """An image and what it cost; None where it was made elsewhere."""

    score: Score
    file: Path
    cost: Cost | None


@dataclass(frozen=True)
class System:
    """What a method, or a system elsewhere, made of the scenes, and why it did not make the rest."""

    made: list[Made] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def scene_scores(self) -> dict[str, float]:
        """The mIoU of each scene, the mean over its seeds."""
        by_scene: dict[str, list[float]] = {}
        for image in self.made:
            by_scene.setdefault(image.score.scene, []).append(image.score.miou)
        return {scene: fmean(values) for scene, values in by_scene.items()}


@dataclass(frozen=True)
class Row:
    """A method's line of the table.

    `miou`: over scenes, each the mean over its classes (and seeds); `pooled_miou`: the mean of `class_iou`, whose
    pixels are pooled over all images; `apart`: the share of images with several instances of a class in which they are
    kept apart; `frechet`: None where there are too few images.
    """

    method: str
    images: int
    miou: Estimate
    pooled_miou: float
    class_iou: Mapping[str, float]
    recall: float
    apart: float | None
    frechet: float | None
    clip_score: float | None
    psnr: float | None
    ssim: float | None
    lpips: float | None
    changed: float | None
    seconds: float | None
    unet_calls: float | None


@dataclass(frozen=True)
class Difference:
    """How much higher `method` scores in mIoU than `against`, over the scenes that both have."""

    method: str
    against: str
    miou: Estimate


@dataclass(frozen=True)
class Table:
    """What an evaluation found.

    `facts`: how it was made; `rows`: one per system that has images; `differences`: of every two of them; `failures`:
    for each system, why images were not made or scored.
    """

    facts: Mapping[str, Any]
    rows: Sequence[Row]
    differences: Sequence[Difference]
    failures: Mapping[str, Mapping[str, str]]


def tabulate(
    facts: Mapping[str, Any], systems: Mapping[str, System], reference: Float[np.ndarray, "n d"] | None, real: str
) -> Table:
    """The table of systems; `reference` are features of the dataset's own images, which are the system named `real`."""
    failures = {name: system.failed for name, system in systems.items() if system.failed}
    systems = {name: system for name, system in systems.items() if system.made}
    rows = [_row(name, system, None if name == real else reference) for name, system in systems.items()]
    return Table(facts, rows, _differences(systems), failures)


def _row(name: str, system: System, reference: Float[np.ndarray, "n d"] | None) -> Row:
    scores = [image.score for image in system.made]
    costs = [image.cost for image in system.made if image.cost]
    backgrounds = [score.background for score in scores if score.background]
    class_iou = pooled_iou(score.overlaps for score in scores)
    return Row(
        name,
        len(scores),
        estimate(list(system.scene_scores().values())),
        fmean(class_iou.values()),
        class_iou,
        fmean(score.recall for score in scores),
        _mean([score.apart for score in scores]),
        _frechet(reference, _features(system)),
        _mean([score.clip_score for score in scores]),
        _mean([background.psnr for background in backgrounds]),
        _mean([background.ssim for background in backgrounds]),
        _mean([score.lpips for score in scores]),
        _mean([background.changed for background in backgrounds]),
        _mean([cost.seconds for cost in costs]),
        _mean([cost.unet_calls for cost in costs]),
    )


def _frechet(real: Float[np.ndarray, "n d"] | None, made: Float[np.ndarray, "m d"]) -> float | None:
    return frechet_distance(real, made) if real is not None and min(len(real), len(made)) > 1 else None


def _features(system: System) -> Float[np.ndarray, "n d"]:
    return np.stack([image.score.features for image in system.made])


def _differences(systems: Mapping[str, System]) -> list[Difference]:
    """Every two systems that share scenes, the later against the earlier."""
    found = []
    for (earlier, before), (later, after) in combinations(systems.items(), 2):
        old, new = before.scene_scores(), after.scene_scores()
        gains = [new[scene] - old[scene] for scene in new if scene in old]
        if gains:
            found.append(Difference(later, earlier, estimate(gains)))
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
