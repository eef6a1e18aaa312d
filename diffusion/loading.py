"""A diffusion model's components by diffusers' and transformers' own loaders; what these let pass is refused."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from ..weights.hub import quiet, told
from ..weights.parts import choose, lacking, read_json, strays

SUPPORTED = "inlay runs SD 1.x, SD 2.x and SDXL models"
CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.", "model_ema.")
"""What a checkpoint in the original layout holds, by the start of its names."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Leaves the garbage collector out: it would walk all that the libraries bring again and again while they come."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@uncollected()
def load_folder(path: Path, dtype: torch.dtype, allow_pickle: bool = False) -> dict[str, Any]:
    """The components of a folder in diffusers layout.

    Raises:
        ModelError: a component is missing or broken, or has weights that its configuration does not know.
    """
    index = read_json(path / "model_index.json")
    pipeline = index.get("_class_name", "")
    if "unet" not in index or not pipeline.startswith("StableDiffusion"):
        raise ModelError(f"{path} holds a {pipeline or 'model of unknown kind'}; {SUPPORTED}.")
    if said := lacking(path, allow_pickle):
        raise ModelError(f"The model in {path} is not whole, it has {said}; fetch or convert it anew.")
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    second, exact = "text_encoder_2" in index, beside(dtype)
    with quiet("diffusers", "transformers"), told(f"The model in {path}"):
        encoders = [read(CLIPTextModel, path / "text_encoder", exact, allow_pickle)]
        if second:
            encoders.append(read(CLIPTextModelWithProjection, path / "text_encoder_2", exact, allow_pickle))
        return {
            "unet": read(UNet2DConditionModel, path / "unet", dtype, allow_pickle),
            "vae": read(AutoencoderKL, path / "vae", dtype, allow_pickle),
            "encoders": encoders,
            "tokenizers": [
                CLIPTokenizer.from_pretrained(path / name) for name in ("tokenizer", "tokenizer_2")[: 1 + second]
            ],
            "scheduler_config": read_json(path / "scheduler" / "scheduler_config.json"),
            "zero_empty": bool(index.get("force_zeros_for_empty_prompt", False)),
        }


def beside(dtype: torch.dtype) -> torch.dtype:
    """What text encoders, which run once, run in beside a UNet of some precision."""
    return torch.float32 if dtype == torch.bfloat16 else dtype


def read(kind: Any, folder: Path, dtype: torch.dtype, allow_pickle: bool) -> Any:
    """One component with exactly the weights that its configuration names.

    Raises:
        ModelError: weights are missing or unexpected, or lie beside those that would be read.
    """
    names = [file.name for file in folder.iterdir()]
    chosen = choose(names, half=dtype == torch.float16, allow_pickle=allow_pickle)
    assert chosen is not None, "a whole model"
    if found := strays(names, chosen):
        raise ModelError(f"{folder} also holds {listed(found)}, which would be ignored; take it out or merge it.")
    precision = {"dtype" if kind.__module__.startswith("transformers") else "torch_dtype": dtype}
    module, info = kind.from_pretrained(
        folder,
        variant=chosen.variant,
        use_safetensors=not chosen.pickled,
        local_files_only=True,
        output_loading_info=True,
        **precision,
    )
    for what, keys in (
        ("lack", info["missing_keys"]),
        ("hold beside what their config.json names", info["unexpected_keys"]),
    ):
        if keys:
            raise ModelError(f"The weights in {folder} {what} {listed(sorted(keys))}; fetch them anew.")
    return module


@uncollected()
def load_file(path: Path, dtype: torch.dtype, config: Path | None, offline: bool) -> dict[str, Any]:
    """The components of a single-file checkpoint in the original layout.

    Raises:
        ModelError: not safetensors, not Stable Diffusion, or its configurations are not at hand.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            keys = sorted(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is no readable .safetensors file; fetch it anew.") from error
    # constants of the sampler have no dot: betas, alphas_cumprod, ...
    if others := [key for key in keys if "." in key and not key.startswith((*CHECKPOINT, "denoiser."))]:
        raise ModelError(f"{path} holds {listed(others)}, which is no part of a Stable Diffusion checkpoint.")
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    large = any(key.startswith("conditioner.embedders.1.") for key in keys)
    options: dict[str, Any] = {"config": str(config)} if config else {}
    try:
        with quiet("diffusers", "transformers"):
            pipe = (StableDiffusionXLPipeline if large else StableDiffusionPipeline).from_single_file(
                str(path),
                torch_dtype=beside(dtype),
                safety_checker=None,
                local_files_only=bool(config) or offline,
                **options,
            )
    except Exception as error:  # the converter raises whatever the missing piece happens to trigger
        hint = (
            "its weights do not fit the configuration"
            if config
            else "its configurations are not here: add --config DIR"
        )
        raise ModelError(f"{path} cannot be loaded as Stable Diffusion; {hint}.") from error
    for start, module in ((CHECKPOINT[0], pipe.unet), (CHECKPOINT[1], pipe.vae)):
        own, wanted = sum(key.startswith(start) for key in keys), len(module.state_dict())
        if own != wanted:
            raise ModelError(f"{path} holds {own} tensors of {start}*, and its configuration names {wanted}.")
    return {
        "unet": torch.nn.Module.to(pipe.unet, dtype),
        "vae": torch.nn.Module.to(pipe.vae, dtype),
        "encoders": [pipe.text_encoder, *([pipe.text_encoder_2] if large else [])],
        "tokenizers": [pipe.tokenizer, *([pipe.tokenizer_2] if large else [])],
        "scheduler_config": dict(pipe.scheduler.config),
        "zero_empty": bool(pipe.config.get("force_zeros_for_empty_prompt", False)),
    }


def listed(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
