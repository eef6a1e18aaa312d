"""The recipe by which toybox is trained."""

from __future__ import annotations

from dataclasses import dataclass

from .world import WORLD, World


@dataclass(frozen=True)
class Recipe:
    """Widths, batches and learning rates; shares of the training time per stage."""

    world: World
    autoencoder_widths: tuple[int, int, int, int]
    autoencoder_batch: int
    autoencoder_rate: float
    widths: tuple[int, int, int]
    layers: tuple[int, int, int]
    """A block's, on each of the UNet's levels, the finest first."""
    attends: tuple[bool, bool, bool]
    """Which levels have all attention: at 32×32 it would take two thirds of a step on a CPU.

    In the others the way up looks at the words and no more, for guidance works where words have places.
    """
    text_width: int
    batch: int
    rate: float
    pool: int
    """Scenes rendered and encoded for the UNet."""
    shard: int
    grow_every: int
    """Steps until one more shard of the pool is needed; the first steps need little variety."""
    segmenter_batch: int
    shares: tuple[float, float, float]
    """Of `--minutes`: autoencoder, UNet, each of the two segmenters."""


TOYBOX = Recipe(
    world=WORLD,
    autoencoder_widths=(16, 32, 48, 64),
    autoencoder_batch=8,
    autoencoder_rate=2e-3,
    widths=(64, 96, 128),
    layers=(1, 2, 3),
    attends=(False, True, True),
    text_width=128,
    batch=24,
    rate=6e-4,
    pool=49_152,
    shard=512,
    grow_every=170,
    segmenter_batch=16,
    shares=(0.14, 0.72, 0.07),
)
