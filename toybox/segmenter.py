"""Two small segmenters of the world's classes: `guide` for guidance and ranking, `judge` for reports only.

They differ in architecture and seed, so that what pleases the guide need not please the judge.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import ModelError

WEIGHTS = Path(__file__).parent / "weights"


def _block(inputs: int, outputs: int, stride: int = 1, dilation: int = 1, groups: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.SiLU(),
    )


class Hourglass(nn.Module):
    """The guide: a U-shaped network with skips by concatenation, down to 1/16."""

    def __init__(self, classes: int, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        steps = list(zip((3, *widths[:-1]), widths, strict=True))
        self.down = nn.ModuleList(nn.Sequential(_block(i, o, stride=2), _block(o, o)) for i, o in steps)
        self.up = nn.ModuleList(
            _block(low + high, high) for low, high in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        features = [images * 4 - 2]
        for layer in self.down:
            features.append(layer(features[-1]))
        top = features.pop()
        for layer in self.up:
            skip = features.pop()
            top = layer(torch.cat([F.interpolate(top, skip.shape[-2:], mode="bilinear"), skip], 1))
        return F.interpolate(self.head(top), images.shape[-2:], mode="bilinear")


class Dilated(nn.Module):
    """The judge: one resolution (1/4), residual blocks of growing dilation, and a global context vector."""

    def __init__(self, classes: int, width: int = 48, dilations: tuple[int, ...] = (1, 2, 4, 8, 2, 1)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), _block(48, width))
        self.layers = nn.ModuleList(_block(width, width, dilation=dilation) for dilation in dilations)
        self.context = nn.Linear(width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        states = self.stem(padded * 4 - 2)
        for layer in self.layers:
            states = states + layer(states)
        states = states + self.context(states.mean((2, 3)))[:, :, None, None]
        logits = F.interpolate(self.head(states), padded.shape[-2:], mode="bilinear")
        return logits[:, :, :height, :width]


KINDS: dict[str, type[Hourglass] | type[Dilated]] = {"guide": Hourglass, "judge": Dilated}


class Segmenter(nn.Module):
    """Images (b, 3, h, w) in [0, 1] to logits (b, classes, h, w); `classes[0]` is the background.

    The network looks at images brought to `scale` of their size: half is enough to tell the things of a large one.
    """

    def __init__(self, kind: str, classes: list[str], scale: float = 1.0) -> None:
        super().__init__()
        self.kind, self.classes, self.scale = kind, classes, scale
        self.network = KINDS[kind](len(classes))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        if self.scale == 1:
            return self.network(images)
        sides = [math.ceil(side * self.scale) for side in images.shape[-2:]]
        logits = self.network(F.interpolate(images, sides, mode="bilinear", antialias=True))
        return F.interpolate(logits, images.shape[-2:], mode="bilinear")

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"kind": self.kind, "scale": self.scale, "classes": self.classes}
        (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n")
        save_file(
            {name: part.half().contiguous() for name, part in self.state_dict().items()}, folder / "model.safetensors"
        )


def load_segmenter(name: str, folder: Path = WEIGHTS) -> Segmenter:
    """The segmenter `guide` or `judge`, in fp32, frozen. Raises ModelError if it is not there."""
    place = folder / name
    if not (place / "config.json").exists():
        raise ModelError(f"{place} has no segmenter; toybox ships {' and '.join(KINDS)}.")
    settings = json.loads((place / "config.json").read_text())
    segmenter = Segmenter(settings["kind"], settings["classes"], settings["scale"])
    segmenter.load_state_dict({name: part.float() for name, part in load_file(place / "model.safetensors").items()})
    return segmenter.eval().requires_grad_(False)
