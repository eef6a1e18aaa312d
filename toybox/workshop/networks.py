"""The text encoder and the UNet as one module to train, and their export as a stock Stable Diffusion pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...weights.catalogue import EMBEDDED
from .autoencoder import CHANNELS, FACTOR
from .grounding import Maps, open_cross_attention
from .recipe import Recipe
from .tokens import LENGTH, write_files

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}
"""Stable Diffusion's, noised on: at its own last step, β = 0.012, a picture's mean still shows through the noise.

A network learns to trust what shows, and sampling, which begins with noise alone, misleads it (Lin et al., arXiv
2305.08891). At such noise only velocity is a sensible thing to predict (Salimans & Ho, arXiv 2202.00512).
"""


class Painter(nn.Module):
    """Token ids in, predicted velocity out."""

    def __init__(self, text: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text, self.unet = text, unet
        open_cross_attention(unet)

    @classmethod
    def new(cls, recipe: Recipe, tokenizer: CLIPTokenizer) -> Painter:
        """Untrained, of the widths of `recipe`."""
        width = recipe.text_width
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=LENGTH,
                projection_dim=width,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=recipe.world.size // FACTOR,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            block_out_channels=recipe.widths,
            down_block_types=tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in recipe.attends),
            up_block_types=("CrossAttnUpBlock2D",) * len(recipe.attends),
            only_cross_attention=tuple(not attends for attends in recipe.attends),
            layers_per_block=recipe.layers,
            norm_num_groups=16,
            cross_attention_dim=width,
            attention_head_dim=4,  # diffusers reads this as the number of heads
        )
        return cls(text, unet)

    @classmethod
    def from_pretrained(cls, folder: Path) -> Painter:
        """As an exported folder has it, in fp32."""
        return cls(
            CLIPTextModel.from_pretrained(folder / "text_encoder"),
            UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
        )

    def load(self, folder: Path) -> None:
        """Takes the weights of an exported folder."""
        self.load_state_dict(Painter.from_pretrained(folder).state_dict())

    def forward(
        self,
        latents: Float[Tensor, "b c h w"],
        timesteps: Int[Tensor, "b"],
        ids: Int[Tensor, "b tokens"],
        maps: Maps | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predicted velocity; `maps`, an empty list, gets the head-averaged cross-attention of every layer."""
        words = self.text(ids).last_hidden_state
        return self.unet(latents, timesteps, words, cross_attention_kwargs={"maps": maps}).sample


def noise_levels() -> Float[Tensor, "1000"]:
    """The share of signal variance at every timestep."""
    scheduler: Any = DDPMScheduler(**SCHEDULER)
    return scheduler.alphas_cumprod


def export(painter: Painter, vae: AutoencoderKL, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes a folder that stock diffusers loads: fp16 in shards up to 15 MB, the text encoder in fp32."""
    pipeline: Any = StableDiffusionPipeline(
        vae,
        painter.text,
        tokenizer,
        painter.unet,
        DDPMScheduler(**SCHEDULER),
        None,
        None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    for name, part in (("unet", painter.unet), ("vae", vae)):
        halved: Any = type(part).from_config(part.config)
        halved.load_state_dict(part.state_dict())
        for stale in (folder / name).glob("*.safetensors*"):
            stale.unlink()
        halved.half().save_pretrained(folder / name, max_shard_size="15MB")
    write_files(tokenizer, folder / "tokenizer")
    shutil.copy(EMBEDDED["toybox"] / "inlay.json", folder)  # the tuned advice stays; world.json and guide lie beside it
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
