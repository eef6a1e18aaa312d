"""LoRAs, textual inversions, another autoencoder and IP-Adapters, by diffusers' own loaders; these warn of what they
leave out, so what does not fit in whole is refused first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..errors import ModelError, extra
from ..weights.adapters import ENCODER, Adapters, Base, Found, Shapes, find, flat, header, kind_at, words_of
from ..weights.hub import quiet, told
from ..weights.parts import read_json
from .loading import listed, read
from .reference import Eye

BEGINS = ("unet", "text_encoder", "text_encoder_2")
"""The parts of a model that a LoRA may change."""


def base_of(name: str, parts: dict[str, Any]) -> Base:
    """A loaded model as what adapters have to fit."""
    modules = dict(zip(BEGINS, (parts["unet"], *parts["encoders"]), strict=False))
    modules["vae"] = parts["vae"]
    shapes = {part: flat(shapes_of(module.state_dict())) for part, module in modules.items()}
    return Base(name, parts["unet"].config, parts["vae"].config, shapes)


def located(
    adapters: Adapters, name: str, path: Path, offline: bool = False, allow_pickle: bool = False, half: bool = False
) -> Found:
    """The files of adapters for the model `name` at `path`, fetched where they are not here, and refused where headers
    and configurations tell already that they do not fit it.

    Raises:
        ModelError: not there, pickled, or for another model.
        UsageError: a name of the catalogue that has no weights for such a model.
    """
    if not adapters:
        return Found()
    found = find(adapters, kind_at(path), offline, allow_pickle, half)
    if base := Base.at(name, path):
        check(found, base)
    return found


def check(found: Found, base: Base) -> None:
    """Refuse what does not fit a model in whole, as far as files tell.

    Raises:
        ModelError: weights for another model, of other shapes, or of no kind that is loaded here.
        InlayError: a LoRA, and peft is not installed.
    """
    for name, file, _ in found.lora:
        with extra("lora"):
            import peft  # noqa: F401 - diffusers loads LoRAs with it
        check_lora(name, file, base)
    for name, file in found.embedding:
        check_embedding(name, file, base)
    if found.vae:
        name, path = found.vae
        if path.is_file():
            check_vae_file(name, header(path), base)
        else:
            check_vae(name, read_json(path / "config.json"), base)
    for name, folder in found.control:
        check_control(name, read_json(folder / "config.json"), base)
    if found.reference:
        check_reference(*found.reference, base)


def check_lora(name: str, file: Path, base: Base) -> None:
    """Each tensor of a LoRA has its module in the model, and fits it.

    A weight (out, in, ...) is changed by A (rank, in, ...) and B (out, rank, ...).
    """
    given = lora_shapes(name, file, base)
    for key, shape in given.items():
        part, _, rest = key.partition(".")
        module, _, kind = rest.rpartition(".lora_")
        weight = base.shapes.get(part, {}).get(f"{module}.weight")
        if weight is None:
            raise unfit(name, f"it has {key}, and the model has no such part", base)
        other = f"{part}.{module}.lora_{'B' if kind[0] == 'A' else 'A'}.weight"
        if kind not in ("A.weight", "B.weight") or other not in given:
            raise ModelError(
                f"{name} holds {key}{'' if other in given else f' and no {other}'}, which is no whole LoRA."
            )
        rank = shape[0] if kind[0] == "A" else given[other][0]
        expected = (rank, *weight[1:]) if kind[0] == "A" else (weight[0], rank, *(1 for _ in weight[2:]))
        if shape != expected:
            raise unfit(name, f"its {key} is {sized(shape)}, and the model takes {sized(expected)}", base)


def lora_shapes(name: str, file: Path, base: Base) -> Shapes:
    """The shapes of a LoRA's tensors, by the names that diffusers gives them: part.module.lora_A.weight."""
    from diffusers import StableDiffusionXLPipeline
    from diffusers.utils.state_dict_utils import (
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )
    from safetensors.torch import load_file

    header(file)  # says in a sentence what is wrong with a file
    raw = load_file(file)
    for sign in ("dora_scale", "lokr_", "hada_"):
        if other := [key for key in raw if sign in key]:
            raise ModelError(f"{name} holds {listed(other)}, which is no plain LoRA; inlay loads these alone.")
    names, shapes = sorted(key for key in raw if not key.endswith(".alpha")), Shapes()
    try:
        with quiet("diffusers"):
            config = SimpleNamespace(layers_per_block=base.unet["layers_per_block"])
            given, _ = StableDiffusionXLPipeline.lora_state_dict(raw, unet_config=config)
        for part in dict.fromkeys(key.partition(".")[0] for key in given):
            own = {key.removeprefix(f"{part}."): value for key, value in given.items() if key.startswith(f"{part}.")}
            if not all(".lora_A." in key or ".lora_B." in key for key in own):
                if part == "unet":
                    own = convert_unet_state_dict_to_peft(own)
                elif part in BEGINS:
                    own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
            shapes |= {f"{part}.{key}": shape for key, shape in flat(shapes_of(own)).items()}
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        held = listed(names) if names else "nothing"
        raise ModelError(f"{name} holds {held}, which diffusers does not take for a LoRA.") from error
    if not names or len(shapes) != len(names):
        raise ModelError(f"diffusers reads {len(shapes)} of the {len(names)} tensors of {name}; choose another LoRA.")
    return shapes


def check_embedding(name: str, file: Path, base: Base) -> None:
    given = header(file)
    large = "text_encoder_2" in base.shapes
    wanted = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"} if large else dict.fromkeys(given, "text_encoder")
    if set(given) != set(wanted) or (not large and (len(given) != 1 or set(given) & {"clip_l", "clip_g"})):
        what = "clip_l and clip_g" if large else "one word"
        raise unfit(name, f"it holds {', '.join(sorted(given))}, and an embedding for it holds {what}", base)
    for key, part in wanted.items():
        width = base.shapes[part]["embeddings.token_embedding.weight"][1]
        if given[key][-1] != width or len(given[key]) > 2:
            raise unfit(name, f"its {key} is {sized(given[key])}, and the model's words are {width} wide", base)


def check_vae(name: str, config: Any, base: Base) -> None:
    for setting in ("latent_channels", "scaling_factor"):
        own, wanted = config.get(setting), base.vae[setting]
        if own is not None and own != wanted:
            raise unfit(name, f"its {setting} is {own}, and that of the model's own autoencoder {wanted}", base)
    if len(config["block_out_channels"]) != len(base.vae["block_out_channels"]):
        raise unfit(name, "its latents are of another size", base)


def check_vae_file(name: str, given: Shapes, base: Base) -> None:
    """A file has no configuration: it has to have the shape of the model's own autoencoder."""
    wanted = base.shapes["vae"]
    if not set(given) & set(wanted):  # the original layout has other names, as many
        if len(given) != len(wanted):
            raise unfit(name, f"it holds {len(given)} tensors, and the model's autoencoder {len(wanted)}", base)
        return
    for what, keys in (("lacks", wanted.keys() - given.keys()), ("also holds", given.keys() - wanted.keys())):
        if keys:
            raise unfit(name, f"it {what} {listed(sorted(keys))}", base)
    for key, shape in given.items():
        if shape != wanted[key]:
            raise unfit(name, f"its {key} is {sized(shape)}, and the model's {sized(wanted[key])}", base)


def check_control(name: str, config: Any, base: Base) -> None:
    kind = config.get("_class_name")
    if kind == "ControlNetModel":
        for setting in ("cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type"):
            own, wanted = (spread(one.get(setting)) for one in (config, base.unet))
            if own != wanted:
                raise unfit(name, f"its {setting} is {own}, and the model's {wanted}", base)
    elif kind == "T2IAdapter":
        large = config["adapter_type"].endswith("xl")
        own, wanted = spread(config["channels"]), spread(base.unet["block_out_channels"])
        if large != ("text_encoder_2" in base.shapes) or own[: len(wanted)] != wanted:
            raise unfit(name, f"its channels are {own} for {config['adapter_type']}, and the model's {wanted}", base)
    else:
        raise ModelError(f"{name} holds a {kind or 'model of unknown kind'}, and is to be a ControlNet or T2I-Adapter.")


def check_reference(name: str, file: Path, base: Base) -> None:
    given = header(file)
    keys = [key for key in given if key.startswith("ip_adapter.")]
    for key in given:
        if not key.startswith("image_proj.") and not key.endswith((".to_k_ip.weight", ".to_v_ip.weight")):
            raise ModelError(f"{name} holds {key}, which is no part of a plain IP-Adapter.")
    for letter in "kv":
        own = sorted(given[key] for key in keys if key.endswith(f"to_{letter}_ip.weight"))
        wanted = sorted(s for key, s in base.shapes["unet"].items() if key.endswith(f"attn2.to_{letter}.weight"))
        if own != wanted:
            raise unfit(name, f"it has {len(own)} layers of other shapes than the model's {len(wanted)}", base)


def shapes_of(tensors: dict[str, Any]) -> Shapes:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def spread(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def sized(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def unfit(name: str, why: str, base: Base) -> ModelError:
    return ModelError(f"{name} is not for {base.name}: {why}; choose one made for this kind of model.")


def dress(
    parts: dict[str, Any],
    found: Found,
    name: str,
    path: Path,
    dtype: torch.dtype,
    config: Path | None,
    allow_pickle: bool,
) -> None:
    """Load adapters onto the components of the model `name` from `path`, in place; LoRAs become part of the weights, so
    that they cost nothing later.

    Raises:
        ModelError: what does not fit, or what diffusers cannot load in whole.
    """
    if found == Found():
        return
    if Base.at(name, path) is None:
        check(found, base_of(name, parts))
    with quiet("diffusers", "transformers"):
        if found.vae:
            parts["vae"] = load_vae(*found.vae, dtype, path if path.is_dir() else config, allow_pickle)
        for number, (lora, file, scale) in enumerate(found.lora):
            with told(lora):
                fuse(lora, pipeline(parts), file, f"lora_{number}", scale)
        for embedding, file in found.embedding:
            with told(embedding):
                add_words(parts, file)
        if found.reference:
            with told(found.reference[0]):
                parts["eye"] = open_eye(parts, found.reference[1], dtype)


def pipeline(parts: dict[str, Any]) -> Any:
    """diffusers' pipeline of a model's components, whose loaders change these."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    common = {"vae": parts["vae"], "unet": parts["unet"]}
    common["scheduler"] = DDIMScheduler.from_config(parts["scheduler_config"])
    names = "text_encoder", "tokenizer"
    for index, (encoder, tokenizer) in enumerate(zip(parts["encoders"], parts["tokenizers"], strict=True)):
        ending = f"_{index + 1}" if index else ""
        common |= {names[0] + ending: encoder, names[1] + ending: tokenizer}
    if len(parts["encoders"]) == 2:
        return StableDiffusionXLPipeline(**common, add_watermarker=False)
    return StableDiffusionPipeline(**common, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def fuse(name: str, pipe: Any, file: Path, mark: str, scale: float) -> None:
    """Add `scale` times a LoRA to the weights of a pipeline's components.

    Raises:
        ModelError: it was not loaded in whole.
    """
    pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=mark)
    parts = [part for part in BEGINS if getattr(pipe, part, None) is not None]
    names = [one for part in parts for one, _ in getattr(pipe, part).named_parameters() if f".{mark}." in one]
    given = [key for key in header(file) if not key.endswith(".alpha")]
    if len(names) != len(given):
        raise ModelError(f"diffusers loads {len(names)} of the {len(given)} tensors of {name}; choose another LoRA.")
    pipe.fuse_lora(components=parts, lora_scale=scale)
    pipe.unload_lora_weights()


def add_words(parts: dict[str, Any], file: Path) -> None:
    """Teach the text encoders the words of a textual inversion."""
    from safetensors.torch import load_file

    pipe, tensors = pipeline(parts), load_file(file)
    (word,) = words_of(file)
    if any(word in tokenizer.get_vocab() for tokenizer in parts["tokenizers"]):
        raise ModelError(f"{file} teaches {word!r}, a word that the model knows already; rename the file or its word.")
    for key, encoder, tokenizer in zip(
        sorted(tensors, reverse=True), parts["encoders"], parts["tokenizers"], strict=True
    ):
        pipe.load_textual_inversion({word: tensors[key]}, token=word, text_encoder=encoder, tokenizer=tokenizer)


def load_vae(name: str, path: Path, dtype: torch.dtype, config: Path | None, allow_pickle: bool) -> Any:
    """Another autoencoder: a folder in diffusers layout, or a file that has the shape of the model's own.

    Raises:
        ModelError: weights are missing or unexpected.
    """
    from diffusers import AutoencoderKL

    if path.is_dir():
        with told(name):
            return read(AutoencoderKL, path, dtype, allow_pickle)
    if config is None:
        raise ModelError(
            f"{name} says nothing of its shape; add --config DIR, a model's folder with its configurations."
        )
    with told(name):
        return AutoencoderKL.from_single_file(
            str(path), config=str(config), subfolder="vae", torch_dtype=dtype, local_files_only=True
        )


def open_eye(parts: dict[str, Any], file: Path, dtype: torch.dtype) -> Eye:
    """Put an IP-Adapter's processors and projection into the UNet, and open what looks at its picture."""
    from diffusers.models.embeddings import ImageProjection
    from transformers import CLIPVisionModelWithProjection

    pipe = pipeline(parts)
    pipe.register_modules(image_encoder=read(CLIPVisionModelWithProjection, file.parent / ENCODER, dtype, False))
    pipe.load_ip_adapter(file.parent, subfolder="", weight_name=file.name, local_files_only=True)
    (projection,) = parts["unet"].encoder_hid_proj.image_projection_layers
    return Eye(pipe.image_encoder, pipe.feature_extractor, not isinstance(projection, ImageProjection))
