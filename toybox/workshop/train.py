"""Trains toybox: `python -m inlay.toybox.workshop.train --out DIR --minutes N [--resume]`.

Stages: autoencoder, pool of latents, UNet with text encoder, decoder, segmenters. Each has its own checkpoint in DIR,
and `DIR/weights` holds what can be loaded so far.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from ...errors import InlayError
from . import team, tokens
from .autoencoder import train_autoencoder, train_decoder
from .denoising import train_painter
from .pool import Pool
from .recipe import TOYBOX
from .scenes import Renderer
from .segmenters import FIRST_SEED, train_segmenter
from .shop import Workshop
from .sprites import load_atlas, save_atlas
from .world import NOUNS, describe

STAGES = ("autoencoder", "pool", "unet", "decoder", *FIRST_SEED)


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.save_sprites:
        save_atlas(options.save_sprites, NOUNS)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    world = TOYBOX.world
    renderer = Renderer(world, load_atlas(world.nouns, world.size, options.sprites).to(device), options.photos)
    shop = Workshop(
        TOYBOX,
        renderer,
        options.out,
        options.resume,
        options.minutes,
        options.steps,
        options.init_from,
        options.half or device.type == "cuda",
    )
    workers = team.gather(options.out, options.workers, options.rank)
    train(shop, options.stages.split(","))
    for worker in workers:
        worker.wait()


def train(shop: Workshop, stages: list[str]) -> None:
    """Runs `stages` in their order; a stage that is left out must be finished, and is taken from its checkpoint."""
    for kind in FIRST_SEED:
        if kind in stages:
            train_segmenter(shop, kind)
    if {"autoencoder", "pool", "unet", "decoder"} & set(stages):
        vae = train_autoencoder(shop, finished="autoencoder" not in stages)
    (shop.folder / "weights").mkdir(exist_ok=True)
    described = json.dumps(describe(shop.recipe.world), indent=1)
    (shop.folder / "weights" / "world.json").write_text(described + "\n")
    if {"pool", "unet"} & set(stages):
        tokenizer = tokenizer_of(shop)
        count, shard = shop.recipe.pool // shop.recipe.shard, shop.recipe.shard
        pool = Pool(shop.renderer, vae, tokenizer, shop.folder / "pool", shard, count, shop.half)
    if "pool" in stages:
        for number in range(pool.count)[team.rank() :: team.size()]:
            pool.ready(number)
    if "unet" in stages:
        train_painter(shop, pool)
    if "decoder" in stages:
        vae = train_decoder(shop, vae)
        vae.half().save_pretrained(shop.folder / "weights" / "vae")


def tokenizer_of(shop: Workshop) -> CLIPTokenizer:
    """The one that the weights or the pool at hand were made with, else a new one."""
    place = shop.folder / "tokenizer"
    if team.rank() == 0 and not place.exists():
        if shop.init_from is not None:
            shutil.copytree(shop.init_from / "tokenizer", place)
        else:
            tokens.build(place)
    team.wait()
    return CLIPTokenizer.from_pretrained(place)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m inlay.toybox.workshop.train", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and weights")
    parser.add_argument("--minutes", type=float, default=180.0, help="for all stages together")
    parser.add_argument("--steps", type=int, default=0, help="per stage, instead of minutes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that share the work, of --threads each")
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--half", action="store_true", help="bfloat16 on a CPU too; pays where it has avx512_bf16")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in --out")
    parser.add_argument(
        "--init-from",
        type=Path,
        help="begin UNet and segmenters with these weights; take the autoencoder too if its stage is left out",
    )
    parser.add_argument("--sprites", type=Path, help="one file of decoded sprites, for a machine without npm")
    parser.add_argument("--photos", type=Path, help="folder of .jpg photos that are grounds too")
    parser.add_argument("--save-sprites", type=Path, help="write that file and stop")
    parser.add_argument("--stages", default="autoencoder,unet,guide,judge", help="which of " + ", ".join(STAGES))
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except InlayError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
