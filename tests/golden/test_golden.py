"""Twelve jobs make the pictures that they have always made."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import models
from .inputs import draw
from .jobs import JOBS, Job, alike, difference
from .runs import EXPECTED, run


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of photos, masks and layouts."""
    folder = tmp_path_factory.mktemp("golden")
    draw(folder, models.NATIVE)
    return folder


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the tiny models, by kind."""
    return {kind: models.save(kind, tmp_path_factory.mktemp(kind)) for kind in models.SHAPES}


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    with np.load(EXPECTED) as file:
        return dict(file)


@pytest.fixture(autouse=True)
def quiet_place(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work beside the inputs, without what this machine has cached; the command line sets a signal handler."""
    monkeypatch.chdir(inputs)
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "cache"))
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_the_same_pictures(job: Job, kinds: dict[str, Path], expected: dict[str, Any], tmp_path: Path) -> None:
    made = run(job, kinds[job.kind], tmp_path)
    assert len(made) == job.images
    for name, (form, samples) in made.items():
        assert form == job.form
        assert samples.shape == expected[name].shape
        apart = "up to {:.2f} grey levels, in {:.3%} of the values".format(*difference(samples, expected[name]))
        assert alike(samples, expected[name], job), f"{name} is not as expected: {apart}"
