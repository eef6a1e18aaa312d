"""Trains toybox from scratch: `python -m inlay.toybox.workshop.train --config mini --out DIR --minutes N [--resume]`.

Stages: tokenizer, autoencoder, pool of latents, UNet with text encoder, segmenters. Each has its own checkpoint in DIR,
and `DIR/weights` holds what can be loaded so far.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn
from transformers import CLIPTokenizer

from ...errors import InlayError, UsageError
from ..segmenter import Segmenter
from . import autoencoder, team, tokens
from .config import Config, config
from .denoising import Denoising, attention_auc
from .networks import Painter, export, noise_levels
from .photos import photo_bank
from .pool import Pool, encode
from .scenes import Renderer, Scenes
from .sprites import load_atlas, save_atlas
from .stage import M, Plan, Stage
from .world import NOUNS, World, describe

HELD_OUT = 1_000_000_000
"""Seeds from here on are never trained on."""
STAGES = ("autoencoder", "pool", "unet", "decoder", "guide", "judge")


@dataclass(frozen=True)
class Workshop:
    """What every stage needs."""

    name: str
    recipe: Config
    renderer: Renderer
    folder: Path
    resume: bool
    minutes: float
    steps: int
    init_from: Path | None
    half: bool = False
    """Whether the larger networks compute in bfloat16."""

    def stage(self, name: str, model: M, share: float, **plan: float) -> Stage[M]:
        """A stage that takes `share` of the minutes, resumed if that is wanted."""
        stage = Stage(Plan(name, self.name, minutes=self.minutes * share, steps=self.steps, **plan), model, self.folder)  # type: ignore[arg-type]
        if self.resume:
            stage.resume()
        return stage


def train_autoencoder(shop: Workshop, finished: bool = False) -> AutoencoderKL:
    """The autoencoder with whitened latents; if it is `finished`, as its checkpoint or `--init-from` has it.

    Raises:
        UsageError: neither has it.
    """
    torch.manual_seed(1)
    recipe, renderer = shop.recipe, shop.renderer
    model = autoencoder.build(recipe.world.size, recipe.autoencoder_widths)
    nn.Module.to(model, renderer.device)
    stage = shop.stage(
        "autoencoder", model, recipe.shares[0], learning_rate=recipe.autoencoder_rate, decay=0.4, ema=0.99
    )
    if finished and not stage.resume():
        if shop.init_from is None:
            raise UsageError(f"{shop.folder} has no autoencoder; name its stage too, or give --init-from.")
        taken = AutoencoderKL.from_pretrained(shop.init_from / "vae", torch_dtype=torch.float32)
        nn.Module.to(taken, renderer.device)
        return taken.eval()
    if not finished and stage.progress < 1:
        learn_pictures(shop, stage)
    vae = stage.averaged.eval()
    autoencoder.whiten(vae, torch.cat([renderer(seed, 64).images for seed in range(100, 108)]) * 2 - 1)
    return vae


def train_decoder(shop: Workshop, vae: AutoencoderKL) -> AutoencoderKL:
    """The same latents, better decoded: the encoder stays, so this can run beside or after the UNet's training."""
    torch.manual_seed(3)
    vae.requires_grad_(True)
    vae.encoder.requires_grad_(False)
    vae.get_submodule("quant_conv").requires_grad_(False)
    stage = shop.stage("decoder", vae, shop.recipe.shares[2], learning_rate=1e-3, decay=0.6, ema=0.99)
    learn_pictures(shop, stage)
    return stage.averaged.eval()


def learn_pictures(shop: Workshop, stage: Stage[AutoencoderKL]) -> None:
    """Runs `stage`, a training of the autoencoder or of a part of it."""
    renderer, size, batch = shop.renderer, shop.recipe.world.size, shop.recipe.autoencoder_batch
    first = 5_000 if stage.plan.name == "decoder" else 0
    scenes = torch.cat([(renderer(first + seed, 64).images * 255).byte() for seed in range(24)])
    photos = photo_bank(size).to(renderer.device)
    held_out = renderer(HELD_OUT, 32).images

    def loss(model: AutoencoderKL, random: Generator) -> Tensor:
        pictures = crops(random, scenes, photos, batch)
        with torch.autocast(renderer.device.type, torch.bfloat16, enabled=shop.half):
            return autoencoder.loss(model, pictures)

    stage.run(loss, lambda stage: f"PSNR {autoencoder.reconstruction(stage.averaged, held_out):.2f} dB")


def crops(
    random: Generator, scenes: UInt8[Tensor, "n 3 s s"], photos: UInt8[Tensor, "m 3 s s"], batch: int
) -> Float[Tensor, "b 3 h h"]:
    """Half-size crops in [-1, 1] for the autoencoder, a quarter of them of photos."""
    half = scenes.shape[-1] // 2
    parts = []
    for _ in range(batch):
        source = photos if len(photos) and torch.rand((), generator=random) < 0.25 else scenes
        picture = int(torch.randint(len(source), (), generator=random))
        top, left = torch.randint(half + 1, (2,), generator=random).tolist()
        parts.append(source[picture, :, top : top + half, left : left + half])
    return torch.stack(parts[team.share(batch)]).float() / 127.5 - 1


def train_painter(shop: Workshop, pool: Pool) -> Painter:
    """The UNet and its text encoder, averaged over the last steps."""
    torch.manual_seed(2)
    recipe, device = shop.recipe, shop.renderer.device
    painter = Painter(recipe, pool.tokenizer).to(device).to(memory_format=torch.channels_last)
    if shop.init_from is not None:
        painter.load(shop.init_from)
    stage = shop.stage("unet", painter, recipe.shares[1], learning_rate=recipe.rate, warmup=200, decay=0.25)
    empty = torch.tensor(pool.tokenizer("", padding="max_length").input_ids)
    loss = Denoising(pool, recipe.batch, noise_levels().to(device), empty, shop.half)
    held_out = encode(pool.renderer(HELD_OUT, 16), pool.vae, pool.tokenizer)
    held_out = {name: part.to(device) for name, part in held_out.items()}

    def watch(stage: Stage[Painter]) -> str:
        export(stage.averaged, pool.vae, pool.tokenizer, shop.folder / "weights")
        scores = [f"{attention_auc(stage.averaged, held_out, timestep):.3f}" for timestep in (300, 600, 850)]
        return "attention AUC " + " / ".join(scores)

    def before(stage: Stage[Painter]) -> None:
        pool.grow(min(pool.count, 1 + stage.step // recipe.grow_every))

    stage.run(loss, watch, before)
    export(stage.averaged, pool.vae, pool.tokenizer, shop.folder / "weights")
    return stage.averaged


def train_segmenter(shop: Workshop, kind: str) -> Segmenter:
    """The segmenter `kind`, on scenes rendered as it goes, dirtied so that generated pictures are not foreign."""
    torch.manual_seed(3 + STAGES.index(kind))
    recipe, renderer = shop.recipe, shop.renderer
    classes = ["background", *(noun.name for noun in recipe.world.nouns)]
    stage = shop.stage(
        kind, Segmenter(kind, classes).to(renderer.device), recipe.shares[2], learning_rate=3e-3, decay=0.5
    )
    first = 10_000_000 * (1 + STAGES.index(kind))
    held_out = renderer(HELD_OUT, 64)

    def loss(model: Segmenter, random: Generator) -> Tensor:
        scenes = renderer(first + int(torch.randint(1_000_000, (), generator=random)), recipe.segmenter_batch)
        return F.cross_entropy(model(dirtied(scenes.images, random)), scenes.classes)

    stage.run(loss, lambda stage: f"mIoU {mean_iou(stage.averaged, held_out):.3f}")
    stage.averaged.save(shop.folder / "weights" / kind)
    return stage.averaged


def dirtied(images: Float[Tensor, "b 3 h w"], random: Generator) -> Float[Tensor, "b 3 h w"]:
    """Softened by a random share and with a little noise, as decoded latents are."""
    share = torch.rand(len(images), 1, 1, 1, generator=random).to(images.device)
    soft = F.interpolate(F.avg_pool2d(images, 4), images.shape[-2:], mode="bilinear")
    noise = torch.randn(images.shape, generator=random).to(images.device) * 0.03
    return (images + share * (soft - images) + noise).clamp(0, 1)


@torch.no_grad()
def mean_iou(segmenter: Segmenter, scenes: Scenes) -> float:
    """Mean over the classes that the scenes hold, of intersection over union over all their pixels."""
    segmenter.eval()
    found = torch.cat([segmenter(part).argmax(1) for part in scenes.images.split(16)])
    count = len(segmenter.classes)
    table = torch.bincount((scenes.classes * count + found).flatten().cpu(), minlength=count**2).view(count, count)
    union = table.sum(0) + table.sum(1) - table.diag()
    present = table.sum(1) > 0
    return float((table.diag() / union.clamp(min=1))[present].mean())


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    recipe = config(options.config)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.save_sprites:
        save_atlas(options.save_sprites, NOUNS)
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def renderer(world: World) -> Renderer:
        return Renderer(world, load_atlas(world.nouns, world.size, options.sprites).to(device), options.photos)

    shop = Workshop(
        options.config,
        recipe,
        renderer(recipe.world),
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
    for kind in ("guide", "judge"):
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
        for number in range(pool.count):
            pool.ready(number)
    if "unet" in stages:
        train_painter(shop, pool)
    if "decoder" in stages:
        vae = train_decoder(shop, vae)
        vae.half().save_pretrained(shop.folder / "weights" / "vae")


def tokenizer_of(shop: Workshop) -> CLIPTokenizer:
    """The one that the weights or the pool at hand were made with, else a new one."""
    place = shop.folder / "tokenizer"
    if shop.init_from is not None and not place.exists():
        shutil.copytree(shop.init_from / "tokenizer", place)
    return CLIPTokenizer.from_pretrained(place) if place.exists() else tokens.build(place)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m inlay.toybox.workshop.train", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config",
        default="mini",
        help="toybox (256×256) or mini (128×128, what the weights that ship were begun with)",
    )
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
        help="start the UNet from these weights with a fresh optimizer, and without its stage take their autoencoder",
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
