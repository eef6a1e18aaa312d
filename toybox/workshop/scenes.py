"""The world that toybox learns: seed -> pictures, captions, one exact mask per object, class maps.

Layouts and textures are drawn from one CPU generator, pixels on the device of the atlas: a seed gives the same scenes
everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor

from .captions import Caption, write
from .grounds import paint
from .photos import photo_bank, to_unit
from .world import EDITED, OFF_CENTRE, PHOTO, SMALLEST, Ground, World

LEVELS = 3
"""Blurred copies of each sprite, one per halving, so that small objects do not alias."""


@dataclass(frozen=True)
class Scenes:
    """`masks[i, k]` shows where object k of scene i is seen; `classes` 0 is the ground, else 1 + the noun's index."""

    images: Float[Tensor, "b 3 s s"]
    masks: Bool[Tensor, "b k s s"]
    classes: Int[Tensor, "b s s"]
    nouns: Int[Tensor, "b k"]
    """The noun's index, −1 where a scene has fewer objects."""
    captions: tuple[Caption, ...]
    grounds: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Where the objects stand: centres, sides and stretch as shares of the picture, rotation in radians."""

    nouns: Int[Tensor, "b k"]
    centre: Float[Tensor, "b k 2"]
    side: Float[Tensor, "b k"]
    stretch: Float[Tensor, "b k"]
    rotation: Float[Tensor, "b k"]
    light: Float[Tensor, "b k"]


class Renderer:
    """Draws scenes of `world` with the sprites of `atlas`, on the atlas's device."""

    def __init__(self, world: World, atlas: Float[Tensor, "nouns 4 s s"], photos: Path | None = None) -> None:
        self.world = world
        self.device = atlas.device
        self.pyramid = torch.stack([_blurred(atlas, level) for level in range(LEVELS)])
        self.photo_folder = photos

    @cached_property
    def photos(self) -> UInt8[Tensor, "n 3 s s"]:
        """Grounds that are photos; cutting them takes seconds, so only who draws pays for it."""
        return photo_bank(self.world.size, folder=self.photo_folder)

    def __call__(
        self,
        seed: int,
        count: int,
        objects: int | None = None,
        photos: float | None = None,
        without: int | None = None,
    ) -> Scenes:
        """`count` scenes of `seed`; `objects` fixes how many stand in each, `photos` the share on real photos.

        `without`: leave out this object of every scene, and nothing else; captions differ.
        """
        random, words = Generator().manual_seed(seed), Random(seed)
        layout = self._layout(random, count, objects)
        images, grounds = self._grounds(random, count, self.world.photos if photos is None else photos)
        lit = torch.tensor([ground is PHOTO for ground in grounds])
        edited = lit & self.world.edits
        _frame(layout, edited, random)
        if without is not None:
            layout.nouns[:, without] = -1
        alphas = []
        shadow = torch.tensor([ground.shadow for ground in grounds])
        for slot in range(layout.nouns.shape[1]):
            images, alpha = self._place(images, layout, slot, shadow, lit)
            alphas.append(alpha)
        masks = _visible(torch.cat(alphas, 1))
        classes = (masks * (layout.nouns.to(self.device) + 1)[:, :, None, None]).sum(1)
        captions = []
        for row, ground, placed in zip(layout.nouns.tolist(), grounds, (~edited).tolist(), strict=True):
            present = [self.world.nouns[noun] for noun in row if noun >= 0]
            captions.append(write(words, present, ground, placed=placed))
        names = tuple(ground.name for ground in grounds)
        return Scenes(images.clamp(0, 1), masks, classes, layout.nouns, tuple(captions), names)

    def _layout(self, random: Generator, count: int, objects: int | None) -> Layout:
        world, most = self.world, len(self.world.counts) - 1
        shape = (count, most)

        def uniform(low: float, high: float, *sizes: int) -> Tensor:
            return torch.rand(*sizes, generator=random) * (high - low) + low

        number = torch.multinomial(torch.tensor(world.counts), count, replacement=True, generator=random)
        number = number if objects is None else torch.full_like(number, objects)
        ranges = torch.tensor([world.sizes[0], *world.sizes])[number]
        if world.small:
            small = (number == 1) & (uniform(0, 1, count) < world.small)
            ranges[small] = torch.tensor([SMALLEST, world.sizes[0][0]])
        side = ranges[:, :1] + (ranges[:, 1:] - ranges[:, :1]) * uniform(0, 1, *shape)
        nouns = torch.randint(len(world.nouns), shape, generator=random)
        twins = torch.rand(count, generator=random) < world.twins
        nouns[twins] = nouns[twins, :1]
        if world.doubles:
            doubles = uniform(0, 1, count) < world.doubles
            nouns[doubles, 1] = nouns[doubles, 0]
        nouns[torch.arange(most) >= number[:, None]] = -1
        room = 0.5 - 0.45 * side
        tries = uniform(-1, 1, 12, count, most, 2) * room[..., None] + 0.5
        return Layout(
            nouns,
            _apart(tries, side, world.occlusion),
            side,
            1 + uniform(-world.stretch, world.stretch, *shape),
            uniform(-1, 1, *shape) * math.radians(world.rotation),
            uniform(0.9, 1.08, *shape),
        )

    def _grounds(self, random: Generator, count: int, share: float) -> tuple[Tensor, list[Ground]]:
        world = self.world
        kinds = torch.randint(len(world.grounds), (count,), generator=random)
        kinds[torch.rand(count, generator=random) < (share if len(self.photos) else 0.0)] = -1
        images = torch.empty(count, 3, world.size, world.size, device=self.device)
        for kind in sorted(set(kinds.tolist())):
            rows = (kinds == kind).nonzero().flatten()
            if kind < 0:
                chosen = self.photos[torch.randint(len(self.photos), (len(rows),), generator=random)]
                images[rows.to(self.device)] = to_unit(chosen).to(self.device)
            else:
                name = world.grounds[kind].name
                images[rows.to(self.device)] = paint(name, len(rows), world.size, random, self.device)
        mirrored = (torch.rand(count, generator=random) < 0.5).to(self.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return images, [PHOTO if kind < 0 else world.grounds[kind] for kind in kinds.tolist()]

    def _place(self, images: Tensor, layout: Layout, slot: int, shadow: Tensor, lit: Tensor) -> tuple[Tensor, Tensor]:
        """Draws the `slot`-th object of every scene; returns the pictures and the object's alpha (b, 1, s, s)."""
        size = self.world.size
        alpha = torch.zeros(len(images), 1, size, size, device=self.device)
        rows = (layout.nouns[:, slot] >= 0).nonzero().flatten()
        if not len(rows):
            return images, alpha
        nouns = layout.nouns[rows, slot]
        centre, side, stretch, rotation, light = (
            getattr(layout, name)[rows, slot].to(self.device)
            for name in ("centre", "side", "stretch", "rotation", "light")
        )
        level = (self.pyramid.shape[-1] / (side * size)).log2().round().clamp(0, LEVELS - 1).long()
        sprites = self.pyramid[level, nouns.to(self.device)]
        width, height = side * stretch.clamp(max=1), side / stretch.clamp(min=1)
        cos, sin = rotation.cos(), rotation.sin()
        # From the picture's [-1, 1] to the sprite's: shift, rotate, scale.
        theta = torch.stack(
            [
                torch.stack([cos / width, sin / width], -1),
                torch.stack([-sin / height, cos / height], -1),
            ],
            1,
        )
        shift = -(theta @ (centre * 2 - 1)[..., None])
        grid = F.affine_grid(torch.cat([theta, shift], -1), [len(rows), 4, size, size], align_corners=False)
        drawn = F.grid_sample(sprites, grid, align_corners=False)
        below = images[rows.to(self.device)]
        shadow, lit = (flags[rows].to(self.device).view(-1, 1, 1, 1) for flags in (shadow, lit))
        colour = torch.where(lit, _light(below, centre, side), 1.0) * light.view(-1, 1, 1, 1)
        below = below * (1 - 0.45 * _shadow(centre, width, height, size) * shadow)
        below = below * (1 - drawn[:, 3:]) + (drawn[:, :3] * colour).clamp(max=1)
        rows = rows.to(self.device)
        return images.index_copy(0, rows, below), alpha.index_copy(0, rows, drawn[:, 3:])


def _blurred(atlas: Tensor, level: int) -> Tensor:
    small = F.interpolate(atlas, scale_factor=0.5**level, mode="bilinear", antialias=True) if level else atlas
    return F.interpolate(small, atlas.shape[-2:], mode="bilinear") if level else atlas


def _apart(tries: Float[Tensor, "t b k 2"], side: Float[Tensor, "b k"], overlap: float) -> Float[Tensor, "b k 2"]:
    """Per scene the first of the tries whose objects overlap little enough, else that with the least overlap."""
    gaps = torch.full(tries.shape[:2], math.inf)
    for one in range(side.shape[1]):
        for other in range(one):
            reach = (side[:, one] + side[:, other]) / 2
            distance = (tries[:, :, one] - tries[:, :, other]).norm(dim=-1)
            gaps = torch.minimum(gaps, distance / reach - (1 - overlap))
    fits = gaps >= 0
    chosen = torch.where(fits.any(0), fits.int().argmax(0), gaps.argmax(0))
    return tries[chosen, torch.arange(tries.shape[1])]


def _frame(layout: Layout, edited: Bool[Tensor, "b"], random: Generator) -> None:
    """Puts what stands alone in an edited scene into the middle, of a size that its mask holds."""
    alone = edited & ((layout.nouns >= 0).sum(1) == 1)
    low, high = EDITED
    layout.side[alone] = low + (high - low) * torch.rand(layout.side.shape, generator=random)[alone]
    off = torch.rand(layout.centre.shape, generator=random) * 2 - 1
    layout.centre[alone] = 0.5 + OFF_CENTRE * off[alone]


def _shadow(centre: Tensor, width: Tensor, height: Tensor, size: int) -> Float[Tensor, "n 1 s s"]:
    """A soft flat ellipse under the object, in [0, 1]."""
    x, y = _beside(centre[:, 0], centre[:, 1] + 0.46 * height, size)
    x, y = x / (0.46 * width[:, None, None]), y / (0.11 * width[:, None, None])
    return torch.exp(-((x * x + y * y) ** 1.5))[:, None]


def _light(ground: Float[Tensor, "n 3 s s"], centre: Tensor, side: Tensor) -> Float[Tensor, "n 3 1 1"]:
    """How bright a thing there is in each channel, by a ground of middling light: as its surroundings, half as much."""
    x, y = (distance / side[:, None, None] for distance in _beside(centre[:, 0], centre[:, 1], ground.shape[-1]))
    near = torch.exp(-(x**2) - y**2)[:, None]
    mean = (ground * near).sum((2, 3), keepdim=True) / near.sum((2, 3), keepdim=True)
    return (mean / 0.5).sqrt().clamp(0.5, 1.2)


def _beside(x: Tensor, y: Tensor, size: int) -> tuple[Float[Tensor, "n 1 s"], Float[Tensor, "n s 1"]]:
    """How far every column lies right of `x`, and every row below `y`, in shares of the picture."""
    axis = (torch.arange(size, device=x.device) + 0.5) / size
    return axis.view(1, 1, -1) - x[:, None, None], axis.view(1, -1, 1) - y[:, None, None]


def _visible(alphas: Float[Tensor, "b k s s"]) -> Bool[Tensor, "b k s s"]:
    """A pixel belongs to the topmost object that covers more than half of it."""
    solid = alphas > 0.5
    above = solid.flip(1).cumsum(1).flip(1) - solid.int()
    return solid & (above == 0)
