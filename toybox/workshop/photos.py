"""Crops of the real photos in scikit-image's wheel, as grounds and for the autoencoder.

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

NAMES = (
    "astronaut.png", "motorcycle_left.png", "motorcycle_right.png", "rocket.jpg", "camera.png", "coins.png",
    "retina.jpg", "clock_motion.png",
)  # fmt: skip
COMMON = 4
"""The first photos show everyday places; they fill half of the bank."""


def photo_folder() -> Path | None:
    """scikit-image's data folder, or None where it is not installed."""
    found = find_spec("skimage")
    return Path(found.origin).parent / "data" if found and found.origin else None


@cache
def photo_bank(size: int, count: int = 1200) -> UInt8[Tensor, "n 3 s s"]:
    """`count` square crops of `size`, the same on every call; an empty bank where scikit-image is not installed."""
    folder = photo_folder()
    if folder is None:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    photos = [Image.open(folder / name).convert("RGB") for name in NAMES]
    random = np.random.default_rng(0)
    crops = []
    for _ in range(count):
        photo = photos[random.integers(COMMON if random.random() < 0.5 else len(photos))]
        side = int(min(photo.size) * random.uniform(0.3, 1.0))
        left, top = (int(random.integers(length - side + 1)) for length in photo.size)
        crop = photo.resize(
            (size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side), reducing_gap=3
        )
        crops.append(np.asarray(crop))
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def to_unit(pixels: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
    return pixels.float() / 255
