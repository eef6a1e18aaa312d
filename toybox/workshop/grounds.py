"""Procedural backgrounds: low-frequency, cheap, batched. Nothing is finer than about 1/16 of the side, edges apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

Picture = Float[Tensor, "n 3 s s"]
Plane = Float[Tensor, "n 1 s s"]


class Canvas:
    """Draws random planes for `n` pictures of side `size`: all numbers come from one CPU generator."""

    def __init__(self, n: int, size: int, random: Generator, device: torch.device) -> None:
        self.n, self.size, self.random, self.device = n, size, random, device
        axis = (torch.arange(size, device=device) + 0.5) / size
        self.x = axis.view(1, 1, 1, -1).expand(n, 1, size, size)
        self.y = axis.view(1, 1, -1, 1).expand(n, 1, size, size)

    def number(self, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "n 1 1 1"]:
        return (torch.rand(self.n, 1, 1, 1, generator=self.random) * (high - low) + low).to(self.device)

    def noise(self, rows: int, columns: int) -> Plane:
        """Smooth noise in about [-1, 1] with that many waves."""
        coarse = torch.randn(self.n, 1, rows + 2, columns + 2, generator=self.random).to(self.device)
        fine = F.interpolate(coarse, (self.size, self.size), mode="bicubic", align_corners=True)
        return (fine * 0.5).clamp(-1, 1)

    def cells(self, rows: int, columns: int) -> Plane:
        """One value in [0, 1] per cell."""
        coarse = torch.rand(self.n, 1, rows, columns, generator=self.random).to(self.device)
        return F.interpolate(coarse, (self.size, self.size), mode="nearest")


def mix(share: Plane, first: tuple[float, float, float], second: tuple[float, float, float]) -> Picture:
    one, two = (torch.tensor(colour, device=share.device).view(1, 3, 1, 1) / 255 for colour in (first, second))
    return one + (two - one) * share.clamp(0, 1)


def grass(c: Canvas) -> Picture:
    return mix(0.5 + 0.3 * c.noise(4, 4) + 0.25 * c.noise(14, 10) + 0.3 * (c.y - 0.5), (150, 200, 90), (52, 128, 48))


def sand(c: Canvas) -> Picture:
    dunes = torch.sin(6.28 * (c.number(3, 5) * c.y + 0.5 * c.noise(3, 2) + c.number()))
    return mix(0.5 + 0.22 * dunes + 0.2 * c.noise(5, 5), (246, 224, 172), (212, 172, 108))


def snow(c: Canvas) -> Picture:
    return mix(0.35 + 0.4 * c.noise(3, 2) + 0.15 * c.noise(8, 6), (252, 254, 255), (196, 216, 238))


def water(c: Canvas) -> Picture:
    waves = torch.sin(6.28 * (c.number(4, 7) * c.y + 0.35 * c.noise(4, 3) + c.number()))
    return mix(0.5 + 0.2 * waves + 0.25 * c.noise(6, 3) + 0.3 * (c.y - 0.5), (104, 196, 226), (22, 94, 168))


def sky(c: Canvas) -> Picture:
    clouds = ((c.noise(5, 3) + 0.5 * c.noise(10, 6) - c.number(0.0, 0.5)) * 2).clamp(0, 1)
    blue = mix(c.y + 0.1 * c.noise(2, 2), (70, 140, 228), (176, 216, 248))
    return blue + (1 - blue) * clouds * 0.85


def night(c: Canvas) -> Picture:
    dark = mix(c.y + 0.2 * c.noise(3, 3), (10, 14, 44), (44, 44, 92))
    moon = (1.2 - 16 * ((c.x - c.number()) ** 2 + (c.y - c.number(0, 0.4)) ** 2).sqrt()).clamp(0, 1)
    return dark + (torch.tensor([0.96, 0.94, 0.8], device=c.device).view(1, 3, 1, 1) - dark) * moon


def brick(c: Canvas) -> Picture:
    rows, columns = 7, 4
    row = (c.y * rows).floor()
    across = c.x * columns + 0.5 * (row % 2)
    joint = ((c.y * rows % 1 < 0.13) | (across % 1 < 0.07)).float()
    tone = torch.sin(37.0 * row + 91.0 * across.floor() + 6.28 * c.number()) * 0.3 + 0.5
    wall = mix(tone + 0.2 * c.noise(4, 4), (196, 104, 80), (146, 62, 50))
    return wall + (mix(joint, (206, 196, 184), (206, 196, 184)) - wall) * joint


def wood(c: Canvas) -> Picture:
    planks = 5
    across = c.y * planks + c.number()
    tone = torch.sin(53.0 * across.floor() + 6.28 * c.number()) * 0.25
    gap = (across % 1 < 0.07).float()
    boards = mix(0.5 + tone + 0.25 * c.noise(14, 2), (206, 154, 98), (142, 92, 52))
    return boards * (1 - 0.45 * gap)


PAINTERS: dict[str, Callable[[Canvas], Picture]] = {
    painter.__name__: painter for painter in (grass, sand, snow, water, sky, night, brick, wood)
}


def paint(name: str, n: int, size: int, random: Generator, device: torch.device) -> Picture:
    """`n` pictures (n, 3, size, size) in [0, 1] of the ground `name`, of varied brightness."""
    canvas = Canvas(n, size, random, device)
    return (PAINTERS[name](canvas) * canvas.number(0.88, 1.08)).clamp(0, 1)
