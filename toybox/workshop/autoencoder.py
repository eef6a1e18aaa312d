"""The autoencoder (a small `AutoencoderKL`, f8, 8 channels), trained with L1, squares, a Laplacian pyramid and KL.

Stock decoding knows no per-channel statistics, so whitening is folded into `quant_conv` and `post_quant_conv`: latents
have mean 0, variance 1 and a scaling factor of 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from ...errors import UsageError
from . import team
from .photos import photo_bank
from .shop import HELD_OUT, Workshop
from .stage import Stage

CHANNELS = 8
FACTOR = 8


def build(size: int, widths: tuple[int, int, int, int] = (16, 32, 64, 128)) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=size,
        scaling_factor=1.0,
        force_upcast=False,
        mid_block_add_attention=False,
    )


def loss(vae: AutoencoderKL, images: Float[Tensor, "b 3 h w"]) -> Tensor:
    """L1 + Laplacian pyramid + squares (of pixels, and of 8×8 means, so that colour comes early) + KL; [-1, 1]."""
    posterior = vae.encode(images).latent_dist
    decoded = vae.decode(posterior.sample()).sample.float()
    error = decoded - images
    squares = 4 * error.square().mean() + 8 * F.avg_pool2d(error, FACTOR).square().mean()
    divergence = posterior.kl().mean() / posterior.mean[0].numel()
    return error.abs().mean() + 0.5 * _laplacian(error) + squares + 1e-4 * divergence


def _laplacian(error: Float[Tensor, "b 3 h w"]) -> Tensor:
    """Mean absolute band-pass error over three octaves: the pyramid is linear, so it is taken of the error itself."""
    total = error.new_zeros(())
    for octave in range(3):
        coarse = F.avg_pool2d(error, 2)
        total = total + 2**octave * (error - F.interpolate(coarse, scale_factor=2.0, mode="nearest")).abs().mean()
        error = coarse
    return total / 3


@torch.no_grad()
def whiten(vae: AutoencoderKL, images: Float[Tensor, "n 3 h w"], batch: int = 16) -> None:
    """Folds the latents' mean and deviation over `images` (in [-1, 1]) into the two 1×1 convolutions, in place."""
    latents = torch.cat([vae.encode(part).latent_dist.mean.cpu() for part in images.split(batch)])
    mean, deviation = latents.mean((0, 2, 3)).to(vae.device), latents.std((0, 2, 3)).to(vae.device)
    quant, post = vae.get_submodule("quant_conv"), vae.get_submodule("post_quant_conv")
    assert isinstance(quant, nn.Conv2d)
    assert isinstance(post, nn.Conv2d)
    assert quant.bias is not None
    assert post.bias is not None
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= deviation.view(1, -1, 1, 1)
    quant.weight[:CHANNELS] /= deviation.view(-1, 1, 1, 1)
    quant.bias[:CHANNELS] = (quant.bias[:CHANNELS] - mean) / deviation
    quant.bias[CHANNELS:] -= 2 * deviation.log()


def psnr(decoded: Float[Tensor, "b 3 h w"], images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Decibels per picture; both in [-1, 1]."""
    return -10 * ((decoded.clamp(-1, 1) - images) / 2).square().mean((1, 2, 3)).log10()


@torch.no_grad()
def reconstruction(vae: AutoencoderKL, images: Float[Tensor, "b 3 h w"]) -> float:
    """Mean PSNR in dB over `images` in [0, 1]."""
    vae.eval()
    signed = images * 2 - 1
    decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in signed.split(16)])
    return float(psnr(decoded, signed).mean())


def train_autoencoder(shop: Workshop, finished: bool = False) -> AutoencoderKL:
    """The autoencoder with whitened latents; if it is `finished`, as its checkpoint or `--init-from` has it.

    Raises:
        UsageError: neither has it.
    """
    torch.manual_seed(1)
    recipe, renderer = shop.recipe, shop.renderer
    model = build(recipe.world.size, recipe.autoencoder_widths)
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
    whiten(vae, torch.cat([renderer(seed, 64).images for seed in range(100, 108)]) * 2 - 1)
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

    def error(model: AutoencoderKL, random: Generator) -> Tensor:
        pictures = crops(random, scenes, photos, batch)
        with torch.autocast(renderer.device.type, torch.bfloat16, enabled=shop.half):
            return loss(model, pictures)

    stage.run(error, lambda stage: f"PSNR {reconstruction(stage.averaged, held_out):.2f} dB")


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
