"""Training of the two segmenters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from ..segmenter import Segmenter, load_segmenter
from .scenes import Scenes
from .shop import HELD_OUT, Workshop

FIRST_SEED = {"guide": 50_000_000, "judge": 60_000_000}
"""Where each one's scenes begin: they never see the same."""

SEEN = 128
"""Side of the pictures that a segmenter's network looks at, at most."""


def train_segmenter(shop: Workshop, kind: str) -> Segmenter:
    """The segmenter `kind`, on scenes rendered as it goes, dirtied so that generated pictures are not foreign."""
    torch.manual_seed(FIRST_SEED[kind])
    recipe, renderer = shop.recipe, shop.renderer
    classes = ["background", *(noun.name for noun in recipe.world.nouns)]
    segmenter = Segmenter(kind, classes, scale=min(1.0, SEEN / recipe.world.size))
    if shop.init_from is not None and (shop.init_from / kind).exists():
        segmenter.load_state_dict(load_segmenter(kind, shop.init_from).state_dict())
    stage = shop.stage(kind, segmenter.to(renderer.device), recipe.shares[2], learning_rate=3e-3, decay=0.5)
    first = FIRST_SEED[kind]
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
