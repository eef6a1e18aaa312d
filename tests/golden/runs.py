"""Runs of the jobs on the tiny models, in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from . import models
from .jobs import Job, decoded

STEPS = 5
EXPECTED = Path(__file__).with_name("expected.npz")


class Classes(torch.nn.Module):
    """A segmentation network over two things, its weights drawn by name."""

    classes = ("nothing", "apple", "cat")

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 2), torch.nn.SiLU(), torch.nn.Conv2d(8, 3, 3))
        models.drawn(self, "classes")

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 _ _"]:
        return self.layers(images)


def run(job: Job, model: Path, folder: Path) -> dict[str, tuple[tuple[str, str], Shaped[np.ndarray, "h w ..."]]]:
    """Form and samples of each picture of a job by its name; the working folder is that of the inputs."""
    from inlay import cli

    if job.name == "segmenter":
        edit_by_network(model, folder / job.output)
    else:
        with patch.object(sys, "argv", ["inlay", *job.command(str(model), STEPS, folder)]):
            try:
                cli.main()
            except SystemExit as end:
                if end.code:
                    raise RuntimeError(f"{job.name} ends with exit code {end.code}") from end
    return {path.name: decoded(path) for path in job.outputs(folder)}


def edit_by_network(model: Path, output: Path) -> None:
    """The job "segmenter" from Python: the command line has no other network than the embedded model's own."""
    import inlay
    from inlay.guidance import SegmenterGuidance
    from skimage.io import imread

    disc = imread("disc.png") > 0
    guidance = SegmenterGuidance(network=Classes(), scale=300.0)
    editor = inlay.Editor.from_pretrained(str(model), device="cpu", dtype="float32")
    prompt = "a red apple"
    result = editor.edit(inlay.Photo.open("photo.png"), disc, prompt, guidance=guidance, words="apple", steps=STEPS)
    result.best.save(output)
