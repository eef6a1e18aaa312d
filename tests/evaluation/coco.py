"""Small datasets in COCO format for the evaluation's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 60)
CATEGORIES = ("cat", "hot dog", "dog", "knife", "person")


def box(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    """A polygon for the pixels left … right - 1, top … bottom - 1."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Uncompressed RLE, written by hand: run lengths down the columns, zeros first."""
    counts, value, run = [], False, 0
    for pixel in mask.T.ravel():
        if bool(pixel) != value:
            counts.append(run)
            value, run = not value, 0
        run += 1
    return {"counts": [*counts, run], "size": list(mask.shape)}


def thing(category: str, segmentation: Any, **extra: Any) -> dict[str, Any]:
    return {"category_id": CATEGORIES.index(category) + 1, "segmentation": segmentation, **extra}


def write(
    folder: Path, pictures: list[tuple[list[dict[str, Any]], list[str]]], images: bool = True, captions: bool = True
) -> Path:
    """A dataset folder of pictures, each its annotations and captions; image k is `k.png`, grey noise."""
    (folder / "images").mkdir(parents=True)
    instances: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    for number, (things, captions_of_it) in enumerate(pictures, start=1):
        instances += [{"iscrowd": 0, "image_id": number, **found} for found in things]
        texts += [{"image_id": number, "caption": caption} for caption in captions_of_it]
        if images:
            noise = np.random.default_rng(number).integers(90, 110, (*SIZE, 3))
            Image.fromarray(noise.astype(np.uint8)).save(folder / "images" / f"{number}.png")
    listed = [
        {"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]}
        for number in range(1, len(pictures) + 1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)]
    annotations = {"images": listed, "annotations": instances, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(annotations))
    if captions:
        (folder / "captions.json").write_text(json.dumps({"annotations": texts}))
    return folder
