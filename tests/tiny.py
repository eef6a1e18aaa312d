"""Tiny random models in the shapes of SD 1.x, SD 2.x and SDXL: real modules, real code paths, seconds on a CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "prediction_type": "epsilon",
}

WORDS = [
    *("a", "an", "the", "red", "green", "big", "small", "and", "on", "with", "photo", "of", "in"),
    *("apple", "cup", "cat", "caterpillar", "dog", "grass", "table", "tree", "two"),
]


def tokenizer(folder: Path, length: int = 16, words: Sequence[str] = WORDS) -> Any:
    """A CLIP tokenizer over single letters and `words`."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.'"
    merges: list[tuple[str, str]] = []
    pieces: list[str] = []
    for word in words:
        symbols = [*word[:-1], word[-1] + "</w>"]
        while len(symbols) > 1:
            pair = (symbols[0], symbols[1])
            if pair not in merges:
                merges.append(pair)
                pieces.append("".join(pair))
            symbols = ["".join(pair), *symbols[2:]]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), *dict.fromkeys(pieces)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length)


def parts(kind: str, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Components for `Model.assemble`: kind "sd1", "sd2" (v prediction, linear projection) or "sdxl"."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    names = tokenizer(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(names),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=32,
        bos_token_id=names.bos_token_id,
        eos_token_id=names.eos_token_id,
        pad_token_id=names.pad_token_id,
    )
    large = kind == "sdxl"
    encoders = [CLIPTextModel(text)]
    if large:  # with the end mark that is in the published configuration, and not in its tokenizer
        encoders.append(CLIPTextModelWithProjection(CLIPTextConfig(**{**text.to_dict(), "eos_token_id": 2})))
    shape: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 64 if large else 32,
    }
    if kind == "sdxl":
        shape |= {
            "block_out_channels": (16, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8,
        }
    else:
        shape |= {
            "block_out_channels": (16, 32, 32),
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "attention_head_dim": 2 if kind == "sd1" else (2, 4, 4),
            "use_linear_projection": kind == "sd2",
        }
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.18215,
        mid_block_add_attention=False,
    )
    return {
        "unet": UNet2DConditionModel(**shape),
        "vae": vae,
        "tokenizers": [names] * len(encoders),
        "encoders": encoders,
        "scheduler_config": {**SCHEDULER, "prediction_type": "v_prediction" if kind == "sd2" else "epsilon"},
        "zero_empty": large,
    }


def save(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny model in diffusers layout; returns the folder."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    made = parts(kind, folder / "pieces", seed)
    scheduler = DDIMScheduler.from_config(made["scheduler_config"])
    common = {"vae": made["vae"], "unet": made["unet"], "scheduler": scheduler}
    if kind == "sdxl":
        pipe: Any = StableDiffusionXLPipeline(
            text_encoder=made["encoders"][0],
            text_encoder_2=made["encoders"][1],
            tokenizer=made["tokenizers"][0],
            tokenizer_2=made["tokenizers"][1],
            add_watermarker=False,
            **common,
        )
    else:
        pipe = StableDiffusionPipeline(
            text_encoder=made["encoders"][0],
            tokenizer=made["tokenizers"][0],
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            **common,
        )
    pipe.save_pretrained(folder / "model")
    return folder / "model"


def save_clipseg(folder: Path) -> None:
    """A CLIPSeg model, which finds things by text, with its processor."""
    import transformers as t

    letters = [*"abcdefghijklmnopqrstuvwxyz."]
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = t.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    size = {"height": 32, "width": 32}
    t.CLIPSegProcessor(t.ViTImageProcessor(size=size), tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    common = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    words = {
        "vocab_size": len(pieces), "max_position_embeddings": 77, "eos_token_id": len(pieces) - 1,
        "bos_token_id": len(pieces) - 2, "pad_token_id": len(pieces) - 1,
    }  # fmt: skip
    config = t.CLIPSegConfig(
        text_config={**common, **words}, vision_config={**common, "image_size": 32, "patch_size": 8},
        projection_dim=16, reduce_dim=8, extract_layers=[0, 1], decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )  # fmt: skip
    t.CLIPSegForImageSegmentation(config).save_pretrained(folder)
