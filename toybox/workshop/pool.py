"""The pool of encoded scenes that the UNet trains on, in shards on disk.

A shard is a function of its number; the trainer makes those that are missing, and a second process
(`--stage pool`) can make them ahead of it.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor
from transformers import CLIPTokenizer

from . import team
from .autoencoder import FACTOR
from .captions import Caption
from .scenes import Renderer, Scenes
from .tokens import LENGTH

FIRST_SEED = 10_000
BATCH = 32
MENTIONS = 3


class Pool:
    """`latents` (n, c, h, w), `ids` (n, tokens), and per mention its tokens and its objects' cover of the grid.

    `doubled` (n) says which scenes hold a noun more than once.

    `count` shards of `shard` scenes each, when it is full.
    """

    def __init__(
        self,
        renderer: Renderer,
        vae: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        folder: Path,
        shard: int,
        count: int,
        half: bool = False,
    ) -> None:
        self.renderer, self.vae, self.tokenizer, self.folder = renderer, vae, tokenizer, folder
        self.shard, self.count, self.half = shard, count, half
        self.shards: list[dict[str, Tensor]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def stored(self) -> int:
        """How many shards lie there already."""
        return len(list(self.folder.glob("*.safetensors")))

    def grow(self, shards: int) -> None:
        """Holds that many shards, made here if no file has them."""
        wanted = range(len(self.shards), shards)
        if not wanted:
            return
        for number in wanted[team.rank() :: team.size()]:
            self.ready(number)
        team.wait()
        for number in wanted:
            shard = load_file(self.ready(number))
            self.shards.append({name: part.to(self.renderer.device) for name, part in shard.items()})

    def ready(self, number: int) -> Path:
        """The file of shard `number`."""
        file = self.folder / f"{number:04d}.safetensors"
        if not file.exists():
            batches = self.shard // BATCH
            seeds = range(FIRST_SEED + number * batches, FIRST_SEED + (number + 1) * batches)
            parts = [encode(self.renderer(seed, BATCH), self.vae, self.tokenizer, self.half) for seed in seeds]
            partial = file.with_suffix(f".{torch.randint(1 << 30, ()).item()}.part")
            save_file({name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}, partial)
            partial.replace(file)
        return file

    def batch(self, random: Generator, size: int) -> dict[str, Tensor]:
        """This worker's share of `size` scenes drawn from all shards."""
        chosen = torch.randint(len(self.shards) * self.shard, (size,), generator=random)[team.share(size)].tolist()
        return {
            name: torch.stack([self.shards[index // self.shard][name][index % self.shard] for index in chosen])
            for name in self.shards[0]
        }


@torch.no_grad()
def encode(scenes: Scenes, vae: AutoencoderKL, tokenizer: CLIPTokenizer, half: bool = False) -> dict[str, Tensor]:
    """Latents (computed in bfloat16 if `half`), token ids and mentions of `scenes`, in small types."""
    with torch.autocast(scenes.images.device.type, torch.bfloat16, enabled=half):
        latents = torch.cat([vae.encode(part * 2 - 1).latent_dist.mean for part in scenes.images.split(16)])
    cover = F.avg_pool2d(scenes.masks.float(), FACTOR)
    count, (height, width) = len(scenes.captions), cover.shape[-2:]
    ids = torch.empty(count, LENGTH, dtype=torch.int16)
    words = torch.zeros(count, MENTIONS, LENGTH, dtype=torch.bool)
    masks = torch.zeros(count, MENTIONS, height, width, dtype=torch.uint8)
    doubled = torch.tensor([any(len(objects) > 1 for _, objects in caption.names) for caption in scenes.captions])
    for row, caption in enumerate(scenes.captions):
        row_ids, spans = tokenize(caption, tokenizer)
        ids[row] = row_ids
        for mention, ((_, objects), (start, stop)) in enumerate(zip(caption.names, spans, strict=True)):
            words[row, mention, start:stop] = True
            masks[row, mention] = (cover[row, list(objects)].sum(0).clamp(max=1) * 255).round().byte().cpu()
    return {"latents": latents.half(), "ids": ids, "words": words, "masks": masks, "doubled": doubled}


def tokenize(caption: Caption, tokenizer: CLIPTokenizer) -> tuple[Int[Tensor, "tokens"], list[tuple[int, int]]]:
    """Padded ids with BOS and EOS, and where each mention's tokens stand."""
    pieces = [tokenizer(word, add_special_tokens=False).input_ids for word in caption.words]
    starts = [1 + sum(len(part) for part in pieces[:place]) for place in range(len(pieces))]
    flat = [piece for part in pieces for piece in part][: LENGTH - 2]
    padding = [tokenizer.pad_token_id] * (LENGTH - 2 - len(flat))
    ids = torch.tensor([tokenizer.bos_token_id, *flat, tokenizer.eos_token_id, *padding])
    return ids, [(starts[place], starts[place] + len(pieces[place])) for place, _ in caption.names]
