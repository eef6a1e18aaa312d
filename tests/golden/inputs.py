"""What the jobs are given: photos in several forms, masks and layouts, drawn at a size that suits the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image

LAYOUT = {
    "prompt": "an apple and a cat on grass",
    "regions": [
        {"words": "apple", "box": [0.05, 0.2, 0.45, 0.9], "weight": 1.5},
        {"words": "cat", "polygon": [[0.55, 0.1], [0.95, 0.2], [0.75, 0.9]], "fraction": 0.6},
    ],
}
STROKES = {
    "prompt": "a red apple and a dog",
    "regions": [
        {"words": "red apple", "points": [[0.2, 0.3], [0.4, 0.6]], "radius": 0.18},
        {"words": "dog", "mask": "right.png"},
    ],
}


def draw(folder: Path, native: int) -> None:
    """Write all inputs; photos are 3/2 `native` x `native` pixels, and "wide.png" is so wide that it is split."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = native * 3 // 2, native
    draw_photos(folder, coffee(width, height))
    Image.fromarray(coffee(width * 2, height // 2)).save(folder / "wide.png")
    masks = {
        "disc": disc(width, height, (0.45, 0.5), 0.3),
        "line": box(width, height, (0.2, 0.45, 0.8, 0.52)),
        "ring": disc(width, height, (0.5, 0.5), 0.4) & ~disc(width, height, (0.5, 0.5), 0.2),
        "right": box(width, height, (0.6, 0.1, 0.95, 0.9)),
        "start": box(width * 2, height // 2, (0.02, 0.1, 0.14, 0.9)),
        "end": box(width * 2, height // 2, (0.84, 0.2, 0.97, 0.9)),
    }
    for name, mask in masks.items():
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}.png")
    soft = np.linspace(0, 255, width).astype(np.uint8) * masks["disc"]
    Image.fromarray(soft).save(folder / "soft.png")
    (folder / "layout.json").write_text(json.dumps(LAYOUT))
    (folder / "strokes.json").write_text(json.dumps(STROKES))
    colours = np.full((height, width, 3), 255, np.uint8)
    colours[disc(width, height, (0.3, 0.5), 0.3)] = (255, 0, 0)
    colours[masks["right"]] = (0, 0, 255)
    Image.fromarray(colours).save(folder / "colours.png")


def draw_photos(folder: Path, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    """The same photo as RGB, RGBA, grey, CMYK, 16 bits a sample, and as a JPEG that its EXIF turns."""
    import tifffile

    Image.fromarray(pixels).save(folder / "photo.png")
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:, ::3] = 100
    Image.fromarray(np.dstack([pixels, alpha])).save(folder / "clear.png")
    Image.fromarray(pixels[..., 1].copy()).save(folder / "grey.png")
    ink = np.dstack([255 - pixels, pixels.min(-1) // 4])
    Image.frombytes("CMYK", pixels.shape[1::-1], ink.tobytes()).save(folder / "ink.tif")
    deep = pixels.astype(np.uint16) * 256 + np.arange(pixels.shape[1], dtype=np.uint16)[:, None]
    tifffile.imwrite(folder / "deep.tif", deep, photometric="rgb")
    exif = Image.Exif()
    exif[0x0112] = 6  # stands on its side: to be turned by a quarter
    sideways = np.ascontiguousarray(np.rot90(pixels))
    Image.fromarray(sideways).save(folder / "turned.jpg", quality=100, subsampling=0, exif=exif)


def coffee(width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
    """Scikit-image's cup of coffee by rows and columns left out, so that nothing depends on how a library resamples."""
    from skimage.data import coffee as photo

    pixels = photo()
    rows, columns = (np.arange(side) * full // side for side, full in zip((height, width), pixels.shape, strict=False))
    return np.ascontiguousarray(pixels[rows[:, None], columns])


def box(width: int, height: int, corners: Sequence[float]) -> Bool[np.ndarray, "h w"]:
    """Inside of left, top, right, bottom, in fractions of the picture."""
    left, top, right, bottom = corners
    mask = np.zeros((height, width), bool)
    mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    return mask


def disc(width: int, height: int, centre: tuple[float, float], radius: float) -> Bool[np.ndarray, "h w"]:
    """`centre` in fractions of the picture, `radius` of its height."""
    x, y = np.arange(width) + 0.5 - centre[0] * width, np.arange(height)[:, None] + 0.5 - centre[1] * height
    inside: Shaped[np.ndarray, "h w"] = x**2 + y**2 < (radius * height) ** 2
    return inside
