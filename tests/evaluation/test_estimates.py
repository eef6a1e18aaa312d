"""Means with their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from inlay.evaluation.estimates import estimate


def test_mean_deviation_and_interval() -> None:
    sample = np.random.default_rng(0).normal(5, 2, 400)
    found = estimate(list(sample))
    assert found.mean == pytest.approx(sample.mean())
    assert found.deviation == pytest.approx(sample.std())
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / 400**0.5, rel=0.15)
    assert found.low < 5 < found.high
    assert estimate(list(sample)) == found


def test_one_value_has_no_interval_and_equal_values_a_point() -> None:
    assert (estimate([0.4]).low, estimate([0.4]).count) == (None, 1)
    assert (estimate([0.4, 0.4]).low, estimate([0.4, 0.4]).high) == (0.4, 0.4)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [estimate(list(rng.uniform(0, 1, 60))) for _ in range(60)]
    assert sum(one.low < 0.5 < one.high for one in found) >= 52  # type: ignore[operator]
