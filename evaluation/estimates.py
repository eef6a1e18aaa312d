"""How sure a mean is, and a difference of means on the same scenes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over scenes, their standard deviation, and the mean's 95 % bootstrap interval (None for one scene)."""

    mean: float
    deviation: float
    low: float | None
    high: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of at least one value; the percentile bootstrap resamples scenes, always the same way."""
    sample = np.asarray(values, dtype=float)
    low = high = None
    if len(sample) > 1:
        interval = bootstrap(
            (sample,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return Estimate(float(sample.mean()), float(sample.std()), low, high, len(sample))
