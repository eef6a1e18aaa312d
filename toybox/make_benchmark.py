"""Writes `toybox/benchmark`: held-out scenes in COCO format. `python -m inlay.toybox.make_benchmark --out DIR`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from .config import config
from .scenes import Renderer, Scenes
from .sprites import load_atlas
from .train import HELD_OUT

FIRST_SEED = HELD_OUT + 1000
LEAST_SHARE = 0.02
"""Every object of a scene shows on at least this share of the picture."""


def write(renderer: Renderer, folder: Path, each: int = 60) -> None:
    """`each` scenes with one object and as many with more; every caption calls its things by their plain names."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    nouns = renderer.world.nouns
    instances: dict[str, Any] = {
        "info": {"description": f"inlay toybox benchmark, world {renderer.world.name!r}", "version": "1"},
        "licenses": [{"id": 1, "name": "MIT"}],
        "categories": [{"id": index + 1, "name": noun.name} for index, noun in enumerate(nouns)],
        "images": [],
        "annotations": [],
    }
    captions: dict[str, Any] = {"images": instances["images"], "annotations": []}
    for scenes, row in _chosen(renderer, each):
        number = len(instances["images"]) + 1
        image = (scenes.images[row].permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        Image.fromarray(image).save(folder / "images" / f"{number:06d}.png", optimize=True)
        size = renderer.world.size
        entry = {"id": number, "file_name": f"{number:06d}.png", "width": size, "height": size, "license": 1}
        instances["images"].append(entry | {"ground": scenes.grounds[row]})
        captions["annotations"].append({"id": number, "image_id": number, "caption": scenes.captions[row].text})
        for mask, noun in zip(scenes.masks[row].cpu().numpy(), scenes.nouns[row].tolist(), strict=True):
            if noun >= 0:
                identity = len(instances["annotations"]) + 1
                instances["annotations"].append(_annotation(mask, identity, number, noun + 1))
    for name, content in (("instances", instances), ("captions", captions)):
        (folder / f"{name}.json").write_text(json.dumps(content) + "\n")


def _chosen(renderer: Renderer, each: int) -> list[tuple[Scenes, int]]:
    """Scenes with their rows: first those with one object, then those with two, three…"""
    singles: list[tuple[Scenes, int]] = []
    several: list[tuple[Scenes, int]] = []
    seed = FIRST_SEED
    while len(singles) < each or len(several) < each:
        scenes = renderer(seed, 32)
        seed += 1
        for row in range(len(scenes.images)):
            objects = int((scenes.nouns[row] >= 0).sum())
            shares = scenes.masks[row, :objects].float().mean((1, 2))
            if objects and _plain(scenes, row, renderer) and bool((shares >= LEAST_SHARE).all()):
                (singles if objects == 1 else several).append((scenes, row))
    return singles[:each] + several[:each]


def _plain(scenes: Scenes, row: int, renderer: Renderer) -> bool:
    caption = scenes.captions[row]
    nouns = [renderer.world.nouns[noun] for noun in scenes.nouns[row].tolist() if noun >= 0]
    return all(
        caption.words[place] in (nouns[objects[0]].name, nouns[objects[0]].plural) for place, objects in caption.names
    )


def _annotation(mask: np.ndarray, identity: int, image: int, category: int) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {
        "id": identity,
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "area": int(mask.sum()),
        "bbox": [float(number) for number in coco_mask.toBbox(rle)],
        "iscrowd": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m inlay.toybox.make_benchmark", description=__doc__)
    parser.add_argument("--config", default="mini")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sprites", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = config(options.config).world
    write(Renderer(world, load_atlas(world.nouns, world.size, options.sprites)), options.out)


if __name__ == "__main__":
    main()
