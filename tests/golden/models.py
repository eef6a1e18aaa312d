"""Tiny models in the shapes of SD 1.x and SDXL, with the same weights on every machine and for every library version.

Each weight is drawn by NumPy from its own name, so neither the order in which a library makes its modules nor its way
of initialising them matters.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inlay.tests.tiny import SCHEDULER, tokenizer
from jaxtyping import Float

WORDS = ("a", "an", "the", "red", "and", "on", "of", "photo", "apple", "banana", "cat", "cup", "dog", "grass", "tree")
LENGTH = 16
"""Tokens of a prompt."""

NATIVE = 64
"""Side in pixels of the pictures that the models make."""

SHAPES: dict[str, dict[str, Any]] = {
    "sd1": {
        "cross_attention_dim": 32,
        "block_out_channels": (16, 32, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
    },
    "sdxl": {
        "cross_attention_dim": 64,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2),
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    },
}
"""Of the UNets, by kind."""


def save(kind: str, folder: Path) -> Path:
    """Write the model of a kind, "sd1" or "sdxl", in diffusers layout; returns the folder."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    names = tokenizer(folder / "vocabulary", LENGTH, WORDS)
    parts: dict[str, Any] = {"vae": autoencoder(), "unet": unet(kind), "scheduler": DDIMScheduler(**SCHEDULER)}
    parts |= {"text_encoder": encoder(names, "first"), "tokenizer": names}
    if kind == "sdxl":
        parts |= {"text_encoder_2": encoder(names, "second"), "tokenizer_2": names, "add_watermarker": False}
        pipeline: Any = StableDiffusionXLPipeline(**parts)
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(**parts)
    pipeline.save_pretrained(folder / kind)
    return folder / kind


def unet(kind: str) -> Any:
    from diffusers import UNet2DConditionModel

    common = {"sample_size": NATIVE // 4, "in_channels": 4, "out_channels": 4, "layers_per_block": 1}
    return drawn(UNet2DConditionModel(**common, norm_num_groups=8, **SHAPES[kind]), kind)


def autoencoder() -> Any:
    from diffusers import AutoencoderKL

    made = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=NATIVE,
        scaling_factor=0.5,
        mid_block_add_attention=False,
    )
    made = drawn(made, "vae")
    with torch.no_grad():
        made.decoder.conv_out.weight *= 0.3  # pictures of full contrast would hide differences where they saturate
    return made


def encoder(names: Any, which: str) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(names),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=32,
        bos_token_id=names.bos_token_id,
        eos_token_id=names.eos_token_id,
        pad_token_id=names.pad_token_id,
    )
    kind = CLIPTextModelWithProjection if which == "second" else CLIPTextModel
    return drawn(kind(config), which)


@torch.no_grad()
def drawn(module: Any, salt: str) -> Any:
    """The module with every weight drawn from `salt` and its name."""
    for name, weight in module.named_parameters():
        name = name.removeprefix("text_model.")  # some versions of transformers have it, some do not
        weight.copy_(torch.from_numpy(values(f"{salt} {name}", tuple(weight.shape))))
    return module


def values(name: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Uniform values: 1 / inputs is their variance in a matrix or kernel; gains of norms are near 1, biases near 0."""
    uniform = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).random(shape) * 2 - 1
    if len(shape) > 1:
        uniform *= 1 if name.endswith(("token_embedding.weight", "position_embedding.weight")) else spread(shape)
    else:
        uniform = uniform * 0.1 + (1 if "norm" in name and name.endswith("weight") else 0)
    return uniform.astype(np.float32)


def spread(shape: tuple[int, ...]) -> float:
    """The half width at which uniform weights keep the variance of what goes through them."""
    return float(np.sqrt(3 / np.prod(shape[1:])))
