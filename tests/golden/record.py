"""Record the pictures that the jobs make now as the expected ones: python -m tests.golden.record, then look at them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from . import models
from .inputs import draw
from .jobs import JOBS
from .runs import EXPECTED, run


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "inputs", models.NATIVE)
        kinds = {kind: models.save(kind, folder / "models" / kind) for kind in models.SHAPES}
        os.chdir(folder / "inputs")
        made = {path: samples for job in JOBS for path, (_, samples) in run(job, kinds[job.kind], folder).items()}
        os.chdir(folder.parent)
    np.savez_compressed(EXPECTED, **made)


if __name__ == "__main__":
    main()
