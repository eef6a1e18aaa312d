"""Crops of real photos, as grounds and for the autoencoder: scikit-image's, and those of a folder if one is given.

`coffee` and `chelsea` never enter: they are the demo photos.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

EVERYDAY = ("astronaut.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg")
OTHER = ("camera.png", "coins.png", "retina.jpg", "clock_motion.png")


def photo_files(folder: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Photos of everyday places, those of `folder` among them, and others; none of scikit-image's without it."""
    found = find_spec("skimage")
    packed = Path(found.origin).parent / "data" if found and found.origin else None
    everyday = [packed / name for name in EVERYDAY] if packed else []
    given = sorted(folder.glob("*.jpg")) if folder else []
    return everyday + given, [packed / name for name in OTHER] if packed else []


@cache
def photo_bank(size: int, count: int = 1200, folder: Path | None = None) -> UInt8[Tensor, "n 3 s s"]:
    """`count` square crops of `size`, the same on every call, five of six everyday; none where there are no photos."""
    files = photo_files(folder)
    kinds = [[Image.open(file).convert("RGB") for file in part] for part in files]
    if not kinds[0]:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    random = np.random.default_rng(0)
    crops = []
    for _ in range(count):
        kind = kinds[int(bool(kinds[1]) and random.random() < 1 / 6)]
        photo = kind[random.integers(len(kind))]
        side = int(min(photo.size) * random.uniform(0.3, 1.0))
        left, top = (int(random.integers(length - side + 1)) for length in photo.size)
        crop = photo.resize(
            (size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side), reducing_gap=3
        )
        crops.append(np.asarray(crop))
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def to_unit(pixels: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
    """Bytes to [0, 1]."""
    return pixels.float() / 255
