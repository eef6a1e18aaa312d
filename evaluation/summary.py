"""From the scores of single images to a table: a row per method, and differences between methods on the same scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from .background import ROUNDED
from .estimates import Estimate, estimate
from .features import frechet_distance
from .overlap import pooled_iou
from .scoring import Score
from .systems import Difference, System, differences


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
class Table:
    """What an evaluation found.

    `facts`: how it was made; `rows`: one per system that has images; `differences`: in mIoU, of every two of them;
    `failures`: for each system, why images were not made or scored.
    """

    facts: Mapping[str, Any]
    rows: Sequence[Row]
    differences: Sequence[Difference]
    failures: Mapping[str, Mapping[str, str]]


def tabulate(
    facts: Mapping[str, Any],
    systems: Mapping[str, System[Score]],
    reference: Float[np.ndarray, "n d"] | None,
    real: str,
) -> Table:
    """The table of systems; `reference` are features of the dataset's own images, which are the system named `real`."""
    failures = {name: system.failed for name, system in systems.items() if system.failed}
    systems = {name: system for name, system in systems.items() if system.made}
    rows = [_row(name, system, None if name == real else reference) for name, system in systems.items()]
    return Table(facts, rows, differences(systems, miou), failures)


def miou(score: Score) -> float:
    """What systems are compared by."""
    return score.miou


def _row(name: str, system: System[Score], reference: Float[np.ndarray, "n d"] | None) -> Row:
    scores = [image.score for image in system.made]
    backgrounds = [score.background for score in scores if score.background]
    class_iou = pooled_iou(score.overlaps for score in scores)
    return Row(
        name,
        len(scores),
        estimate(list(system.over_scenes(miou).values())),
        fmean(class_iou.values()),
        class_iou,
        fmean(score.recall for score in scores),
        _mean([score.apart for score in scores]),
        _frechet(reference, _features(system)),
        _mean([score.clip_score for score in scores]),
        _psnr([background.psnr for background in backgrounds]),
        _mean([background.ssim for background in backgrounds]),
        _mean([score.lpips for score in scores]),
        _mean([background.changed for background in backgrounds]),
        system.cost(lambda cost: cost.seconds),
        system.cost(lambda cost: cost.unet_calls),
    )


def _frechet(real: Float[np.ndarray, "n d"] | None, made: Float[np.ndarray, "m d"]) -> float | None:
    return frechet_distance(real, made) if real is not None and min(len(real), len(made)) > 1 else None


def _features(system: System[Score]) -> Float[np.ndarray, "n d"]:
    return np.stack([image.score.features for image in system.made])


def _psnr(values: Sequence[float]) -> float | None:
    """The mean, to which a background kept exactly adds what rounding to whole grey levels would leave of it; infinite
    where all are exact."""
    return inf if values and min(values) == inf else _mean([min(value, ROUNDED) for value in values])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
