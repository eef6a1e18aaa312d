"""A tiny world with drawn sprites: what the tests of toybox train on, without npm."""

from __future__ import annotations

from dataclasses import replace

import torch
from inlay.toybox.workshop.recipe import TOYBOX, Recipe
from inlay.toybox.workshop.scenes import Renderer
from inlay.toybox.workshop.world import GROUNDS, NOUNS, World
from torch import Tensor

WORLD = World(
    size=32,
    nouns=NOUNS[:3],
    grounds=GROUNDS[:4],
    counts=(0.1, 0.5, 0.4),
    sizes=((0.4, 0.7), (0.3, 0.5)),
    stretch=0.1,
    rotation=10.0,
    small=0.0,
    twins=0.12,
    doubles=0.0,
    photos=0.0,
    edits=True,
    occlusion=0.25,
)
LARGE = replace(WORLD, size=64)
COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.2, 0.9), (0.9, 0.8, 0.1))


def atlas(size: int = 32) -> Tensor:
    """A red disc, a blue square and a yellow triangle, premultiplied RGBA."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    x, y = axis.view(1, -1).expand(size, size), axis.view(-1, 1).expand(size, size)
    shapes = (x**2 + y**2 < 0.8, (x.abs() < 0.8) & (y.abs() < 0.8), (y < 0.8) & (y > 2 * x.abs() - 0.8))
    return torch.stack(
        [
            torch.cat([torch.tensor(colour).view(3, 1, 1) * shape, shape[None].float()])
            for colour, shape in zip(COLOURS, shapes, strict=True)
        ]
    )


def renderer(world: World = WORLD) -> Renderer:
    return Renderer(world, atlas())


def recipe() -> Recipe:
    """Toybox's, as narrow as it goes."""
    return replace(
        TOYBOX,
        world=WORLD,
        autoencoder_widths=(8, 8, 8, 8),
        autoencoder_batch=4,
        widths=(16, 16, 32),
        text_width=16,
        batch=8,
        rate=2e-3,
        pool=64,
        shard=64,
        segmenter_batch=4,
    )
