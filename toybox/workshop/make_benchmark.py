"""Writes held-out scenes in COCO format: `python -m inlay.toybox.workshop.make_benchmark --out DIR`.

With `--first-seed` other scenes, on which defaults are chosen; with `--pairs` scenes of two things of one kind; with
`--small` scenes of one thing on about 1 % of the picture.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from .scenes import Renderer, Scenes
from .shop import HELD_OUT
from .sprites import load_atlas
from .world import WORLD

FIRST_SEED = HELD_OUT + 1000
LEAST_SHARE = 0.02
"""Every object of a scene shows on at least this share of the picture."""
SMALL = (0.12, 0.15)
"""Sides of small things, as shares of the picture's."""
GAP = 8
"""Pixels between the two things of a pair: a cell of the latents."""
COUNTS = (0.04, 0.58, 0.28, 0.10)
"""Of the scenes that the mixed one is chosen from, with 0, 1, 2… objects. Training may change its own; this stays."""
PHOTOS = 0.35
"""The share of its scenes on photos, likewise."""
TWINS = 0.12
"""The share of its scenes of several things that are of one kind, likewise."""
SIZES = ((0.25, 0.75), (0.20, 0.50), (0.16, 0.38))
"""(smallest, largest) side of a thing in scenes of 1, 2, 3 things, likewise."""
BATCH = 32


class Chosen(NamedTuple):
    """A row of a batch of scenes, and what drew it."""

    scenes: Scenes
    row: int
    seed: int
    objects: int | None


def write(renderer: Renderer, folder: Path, chosen: Sequence[Chosen]) -> None:
    """The chosen scenes, with every object's visible mask, in COCO format.

    `without/ID.webp` shows what is behind one object of a scene, by its annotation's id: the pixels that would be
    others if it were not there, its shadow's too; all else is transparent.
    """
    for inner in ("images", "without"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    nouns = renderer.world.nouns
    instances: dict[str, Any] = {
        "info": {"description": "inlay toybox benchmark", "version": "2"},
        "licenses": [{"id": 1, "name": "MIT"}],
        "categories": [{"id": index + 1, "name": noun.name} for index, noun in enumerate(nouns)],
        "images": [],
        "annotations": [],
    }
    captions: dict[str, Any] = {"images": instances["images"], "annotations": []}
    for scenes, row, seed, objects in chosen:
        number = len(instances["images"]) + 1
        image = _pixels(scenes.images[row])
        _save(image, folder / "images" / f"{number:06d}.webp")
        size = renderer.world.size
        entry = {"id": number, "file_name": f"{number:06d}.webp", "width": size, "height": size, "license": 1}
        instances["images"].append(entry | {"ground": scenes.grounds[row]})
        captions["annotations"].append({"id": number, "image_id": number, "caption": scenes.captions[row].text})
        removed = number % int((scenes.nouns[row] >= 0).sum())
        for slot, noun in enumerate(scenes.nouns[row].tolist()):
            if noun < 0:
                continue
            identity = len(instances["annotations"]) + 1
            instances["annotations"].append(
                _annotation(scenes.masks[row, slot].cpu().numpy(), identity, number, noun + 1)
            )
            if slot == removed:
                behind = _pixels(renderer(seed, BATCH, objects, without=slot).images[row])
                differs = (behind != image).any(-1, keepdims=True)
                shown = np.concatenate([behind * differs, differs * np.uint8(255)], -1)
                _save(shown, folder / "without" / f"{identity}.webp")
    for name, content in (("instances", instances), ("captions", captions)):
        (folder / f"{name}.json").write_text(json.dumps(content) + "\n")


def _pixels(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return (image.permute(1, 2, 0) * 255).round().byte().cpu().numpy()


def _save(pixels: UInt8[np.ndarray, "h w c"], file: Path) -> None:
    """As lossless WebP at its smallest, two thirds of a PNG."""
    Image.fromarray(pixels).save(file, lossless=True, quality=100, method=6)


def mixed(renderer: Renderer, each: int, seed: int) -> list[Chosen]:
    """`each` scenes with one object and then as many with more; every caption calls its things by their plain names."""
    singles: list[Chosen] = []
    several: list[Chosen] = []
    for found in _suitable(renderer, seed, None):
        (singles if int((found.scenes.nouns[found.row] >= 0).sum()) == 1 else several).append(found)
        if min(len(singles), len(several)) >= each:
            return singles[:each] + several[:each]
    raise AssertionError("seeds do not end")


def pairs(renderer: Renderer, count: int, seed: int) -> list[Chosen]:
    """Scenes of two things of the same kind that stand at least `GAP` pixels apart."""
    found = (one for one in _suitable(renderer, seed, 2) if _twins(one.scenes, one.row))
    return list(itertools.islice(found, count))


def small(renderer: Renderer, count: int, seed: int) -> list[Chosen]:
    """Scenes of one thing, however little of the picture it covers."""
    return list(itertools.islice(_suitable(renderer, seed, 1, 0), count))


def _suitable(renderer: Renderer, seed: int, objects: int | None, least_share: float = LEAST_SHARE) -> Iterator[Chosen]:
    for batch in itertools.count(seed):
        scenes = renderer(batch, BATCH, objects)
        for row in range(len(scenes.images)):
            shares = scenes.masks[row, : int((scenes.nouns[row] >= 0).sum())].float().mean((1, 2))
            if len(shares) and _plain(scenes, row, renderer) and bool((shares >= least_share).all()):
                yield Chosen(scenes, row, batch, objects)


def _twins(scenes: Scenes, row: int) -> bool:
    one, other = scenes.nouns[row, :2].tolist()
    near, far = scenes.masks[row, :2].cpu().numpy()
    return one == other and float(distance_transform_edt(~near)[far].min()) >= GAP


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
    parser = argparse.ArgumentParser(prog="python -m inlay.toybox.workshop.make_benchmark", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sprites", type=Path)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--pairs", action="store_true", help="two things of one kind in every scene")
    parser.add_argument("--small", action="store_true", help="one small thing in every scene")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = replace(WORLD, counts=COUNTS, sizes=SIZES, photos=PHOTOS, twins=TWINS, edits=False, small=0.0, doubles=0.0)
    atlas = load_atlas(world.nouns, world.size, options.sprites)
    if options.small:
        world = replace(world, sizes=(SMALL, SMALL))
    renderer = Renderer(world, atlas)
    if options.pairs or options.small:
        chosen = (pairs if options.pairs else small)(renderer, options.count, options.first_seed)
    else:
        chosen = mixed(renderer, options.count // 2, options.first_seed)
    write(renderer, options.out, chosen)


if __name__ == "__main__":
    main()
