"""Adapters for the tiny models, random, written by the savers of diffusers, transformers and peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def pipeline(kind: str, folder: Path) -> Any:
    """diffusers' own pipeline of a saved tiny model."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    pipe = (
        StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
        if kind == "sdxl"
        else StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def lora(kind: str, folder: Path, to: Path, *, kohya: bool = False, convolutions: bool = False, seed: int = 1) -> Path:
    """A LoRA of attention and text encoders in diffusers' format as its training scripts write it, or one of
    convolutions, too, in kohya's.

    With `convolutions` and not `kohya`, the file has names of two formats, and diffusers overlooks those of one.
    """
    from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(seed)
    pipe = pipeline(kind, folder)
    targets = ["to_q", "to_k", "to_v", "to_out.0", *(("conv1", "time_emb_proj") if kohya or convolutions else ())]
    projections = ["q_proj", "k_proj", "v_proj", "out_proj", *(("fc1", "fc2") if kohya else ())]
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name in ("unet", "text_encoder", "text_encoder_2")[: 2 + (kind == "sdxl")]:
        own = targets if name == "unet" else projections
        module = getattr(pipe, name)
        inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=own, init_lora_weights=False), module)
        layers[name] = get_peft_model_state_dict(module)
    if kohya:
        tensors = {}
        for name, own in layers.items():
            start = "" if name == "unet" else "text_model."  # transformers 5 leaves it out, and kohya does not
            tensors |= {f"{name}.{start}{key.removeprefix(start)}": value for key, value in own.items()}
        save_file(convert_state_dict_to_kohya(tensors), to / "kohya.safetensors")
        return to / "kohya.safetensors"
    converted = {f"{name}_lora_layers": convert_state_dict_to_diffusers(own) for name, own in layers.items()}
    type(pipe).save_lora_weights(to, **converted)
    return to / "pytorch_lora_weights.safetensors"


def embedding(kind: str, to: Path, vectors: int = 2) -> Path:
    """A textual inversion of the word <thing>; for SDXL, which names it by its file, of `thing`."""
    torch.manual_seed(3)
    if kind == "sdxl":
        save_file({"clip_g": torch.randn(vectors, 32), "clip_l": torch.randn(vectors, 32)}, to / "<thing>.safetensors")
        return to / "<thing>.safetensors"
    save_file({"<thing>": torch.randn(vectors, 32)}, to / "learned_embeds.safetensors")
    return to / "learned_embeds.safetensors"


def controlnet(kind: str, folder: Path, to: Path) -> Path:
    from diffusers import ControlNetModel

    torch.manual_seed(4)
    net = ControlNetModel.from_unet(pipeline(kind, folder).unet, conditioning_embedding_out_channels=(8, 8, 16))
    for convolution in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        torch.nn.init.normal_(convolution.weight, std=0.3)
    torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.3)
    net.save_pretrained(to)
    return to


def t2i_adapter(kind: str, to: Path, in_channels: int = 3) -> Path:
    from diffusers import T2IAdapter

    torch.manual_seed(5)
    shape: dict[str, Any] = {"channels": [16, 32, 32], "adapter_type": "full_adapter", "downscale_factor": 4}
    if kind == "sdxl":
        shape = {"channels": [16, 32], "adapter_type": "full_adapter_xl", "downscale_factor": 8}
    T2IAdapter(num_res_blocks=1, in_channels=in_channels, **shape).save_pretrained(to)
    return to


def ip_adapter(kind: str, folder: Path, to: Path, plus: bool = False) -> Path:
    """An IP-Adapter in the format of its authors, with a tiny image encoder beside it; `plus` reads all of its last
    layer but one."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(6)
    unet = pipeline(kind, folder).unet
    width = unet.config.cross_attention_dim
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    config.projection_dim = 16
    CLIPVisionModelWithProjection(config).save_pretrained(to / "image_encoder")
    shapes = resampler(width) if plus else {"proj.weight": (4 * width, 16), "proj.bias": (4 * width,), **norm(width)}
    tensors = {f"image_proj.{name}": torch.randn(shape) for name, shape in shapes.items()}
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            shape = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape
            tensors |= {f"ip_adapter.{number}.to_{letter}_ip.weight": torch.randn(shape) for letter in "kv"}
    save_file(tensors, to / "ip-adapter.safetensors")
    return to / "ip-adapter.safetensors"


def norm(width: int, name: str = "norm") -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def resampler(width: int) -> dict[str, tuple[int, ...]]:
    """The shapes of an IP-Adapter plus's projection: 4 queries, 16 channels, and one head of 64 in each of 4 layers."""
    shapes: dict[str, tuple[int, ...]] = {"latents": (1, 4, 16), **norm(width, "norm_out")}
    shapes |= {"proj_in.weight": (16, 16), "proj_in.bias": (16,)}
    shapes |= {"proj_out.weight": (width, 16), "proj_out.bias": (width,)}
    for layer in (f"layers.{number}." for number in range(4)):
        shapes |= norm(16, layer + "0.norm1") | norm(16, layer + "0.norm2") | norm(16, layer + "1.0")
        weights = {"0.to_q": (64, 16), "0.to_kv": (128, 16), "0.to_out": (16, 64), "1.1": (64, 16), "1.3": (16, 64)}
        shapes |= {f"{layer}{name}.weight": shape for name, shape in weights.items()}
    return shapes
