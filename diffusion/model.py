"""A text-to-image latent diffusion model: weights, and the facts that the weights' own configuration states."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError, UsageError
from .attention import Layer, install
from .clip import TextEncoder
from .numeric import finite
from .startup import import_wholly
from .text import Prompts
from .tokenizer import Tokenizer

_TOYBOX = Path(__file__).parent.parent / "toybox"
EMBEDDED = {"toybox": _TOYBOX / "weights", "toybox-256": _TOYBOX / "weights-256"}
"""Models that ship with the package."""

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")
PARTS = (*WEIGHTED, "tokenizer", "tokenizer_2", "scheduler")
ENDINGS = ["*.json", "*.txt", "*.safetensors"]


@dataclass(frozen=True)
class Model:
    """Frozen weights and what they say of themselves. Never holds the state of a run."""

    name: str
    unet: Any
    vae: Any
    prompts: Prompts
    scheduler_config: dict[str, Any]
    layers: tuple[Layer, ...]
    fingerprint: str
    """Tells one set of weights from another; see `fingerprint`."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """What suits this model best, from an `inlay.json` beside its model_index.json: guidance_scale, methods."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "toybox",
        *,
        device: str = "auto",
        dtype: str = "auto",
        config: Path | None = None,
        offline: bool = False,
        allow_pickle: bool = False,
    ) -> Model:
        """Load `toybox` or `toybox-256`, a folder in diffusers layout, a .safetensors file, or a hub id.

        Args:
            device: "cpu", "cuda", "cuda:1", "mps", or "auto": the first accelerator that is there.
            dtype: "float32", "float16", "bfloat16", "float64", or "auto": float16 on CUDA, float32 elsewhere.
            config: folder with the configurations that a single file lacks (diffusers layout without weights).
            offline: use what is on this machine; never ask the hub.
            allow_pickle: also read a folder's .bin weights where it has no others; tensors only, nothing is run.

        Raises:
            ModelError: weights missing, corrupt, pickled, or of a model that is no SD 1.x, SD 2.x or SDXL.
            UsageError: a device or dtype that is not there.
        """
        place = pick_device(device)
        kind = pick_dtype(dtype, place)
        path = locate(str(name_or_path), offline, allow_pickle)
        parts = load_file(path, kind, config, offline) if path.is_file() else load_folder(path, kind, allow_pickle)
        made = cls.assemble(str(name_or_path), parts, fingerprint(path), place)
        advice = path / "inlay.json"
        return replace(made, defaults=json.loads(advice.read_text())) if advice.is_file() else made

    @classmethod
    def assemble(cls, name: str, parts: dict[str, Any], mark: str = "", device: torch.device | None = None) -> Model:
        """A model from loaded components: `unet`, `vae`, `tokenizers`, `encoders`, `scheduler_config`, `zero_empty`.

        Raises:
            ModelError: the UNet needs conditions that inlay does not give.
        """
        unet, vae, encoders = parts["unet"], parts["vae"], parts["encoders"]
        kind = getattr(unet.config, "addition_embed_type", None)
        other = [
            unet.config.get(option) for option in ("class_embed_type", "time_cond_proj_dim", "encoder_hid_dim_type")
        ]
        if kind not in (None, "text_time") or any(option is not None for option in other):
            raise ModelError(f"The UNet of {name} needs more than text; inlay runs SD 1.x, SD 2.x and SDXL models.")
        for module in (unet, vae, *encoders):
            module.requires_grad_(False).eval().to(device or torch.device("cpu"))
        prompts = Prompts(parts["tokenizers"], encoders, parts.get("zero_empty", False))
        return cls(name, unet, vae, prompts, dict(parts["scheduler_config"]), install(unet), mark)

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the UNet's weights; diffusers' own property walks through all modules, at every step."""
        return next(self.unet.parameters()).dtype

    @property
    def working_dtype(self) -> torch.dtype:
        """Of the loop's latents: at least fp32."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @property
    def factor(self) -> int:
        """Pixels per latent, along each side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def grid(self) -> int:
        """Sizes in pixels that divide by this pass every level of the UNet without rounding."""
        return int(self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the model was trained at."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return height * self.factor, width * self.factor

    @property
    def cross_layers(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.cross)

    def latent_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the latents of a picture of `size` (H, W) pixels."""
        return -(-size[0] // self.factor), -(-size[1] // self.factor)

    def size_condition(self, size: Sequence[int], batch: int) -> Float[Tensor, "b six"]:
        """SDXL's time ids: original = target = the picture's size, crop offset (0, 0)."""
        height, width = size[0] * self.factor, size[1] * self.factor
        return torch.tensor([[height, width, 0, 0, height, width]] * batch, device=self.device, dtype=self.dtype)

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Pixels in [-1, 1] to the mean of their latents, scaled as the UNet wants them, in the working dtype."""
        latents = self._vae_call(lambda vae: vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode())
        return (latents.to(self.device, self.working_dtype) - self._shift) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Latents to pixels in [-1, 1] (clamped), in the working dtype.

        Raises:
            NumericError: NaN or infinity, in fp32 too.
        """
        return finite(self.decode_with_grad(latents)).clamp(-1, 1)

    def decode_with_grad(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """`decode` unclamped and differentiable."""
        source = latents / self.vae.config.scaling_factor + self._shift
        return self._vae_call(lambda vae: vae.decode(source.to(vae.device, vae.dtype), return_dict=False)[0]).to(
            self.device, self.working_dtype
        )

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0

    def _vae_call(self, call: Any) -> Tensor:
        """Run the autoencoder; in fp32 where its configuration asks for it or half precision overflows."""
        vae = self.vae
        half = vae.dtype == torch.float16
        if not (half and getattr(vae.config, "force_upcast", False)):
            result: Tensor = call(vae)
            if not half or bool(result.isfinite().all()):
                return result
        move(vae, dtype=torch.float32)
        try:
            return call(vae)
        finally:
            move(vae, dtype=torch.float16)

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Model:
        """Move the weights, in place."""
        for module in (self.unet, self.vae, *self.prompts.encoders):
            move(module, device, dtype)
        return self

    def offload(self) -> None:
        """Keep only the UNet on its device; text encoders and autoencoder run on the CPU, in fp32."""
        for module in (self.vae, *self.prompts.encoders):
            move(module, torch.device("cpu"), torch.float32)


def move(module: torch.nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
    """Move and cast, in place. diffusers' own `to` warns of every dtype."""
    torch.nn.Module.to(module, device=device, dtype=dtype)


def pick_device(name: str) -> torch.device:
    """Resolve a device name.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(accelerator)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The device {name!r} is not available here; use --device cpu or auto.") from error
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve a dtype name; "auto" is float16 on CUDA and float32 elsewhere.

    Raises:
        UsageError: not a dtype that a model can run in.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
    if name not in kinds:
        raise UsageError(f"There is no dtype {name!r}; choose one of auto, {', '.join(kinds)}.")
    if kinds[name] == torch.float16 and device.type == "cpu":
        raise UsageError("float16 does not run on the CPU; use --dtype float32.")
    return kinds[name]


def locate(name: str, offline: bool, allow_pickle: bool) -> Path:
    """The file or folder behind a model's name, downloaded from the hub if it is an id and not in the cache.

    Raises:
        ModelError: nothing there.
    """
    if name in EMBEDDED:
        if not (EMBEDDED[name] / "model_index.json").exists():
            raise ModelError(f"The embedded model {name} is missing from this installation; reinstall inlay.")
        return EMBEDDED[name]
    path = Path(name).expanduser()
    if path.suffix in PICKLES:
        raise ModelError(f"{name} is a pickle, which can run code when it is opened; convert it to .safetensors first.")
    if path.is_file() or (path / "model_index.json").is_file():
        return path
    if path.exists():
        raise ModelError(f"{name} is no model: a folder in diffusers layout has a model_index.json.")
    if path.suffix == ".safetensors" or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"There is no model at {name}; give a folder, a .safetensors file, a hub id like owner/name, or toybox."
        )
    return from_hub(name, offline, allow_pickle)


def from_hub(name: str, offline: bool, allow_pickle: bool) -> Path:
    """A hub model's folder in the user's cache, where a model that is whole is used without asking the hub.

    Raises:
        ModelError: not here, and not to be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [f"{part}/{ending}" for part in PARTS for ending in ENDINGS + (["*.bin"] if allow_pickle else [])]
    wanted: dict[str, Any] = {"allow_patterns": ["model_index.json", *patterns], "ignore_patterns": ["*non_ema*"]}
    try:
        try:
            folder = Path(snapshot_download(name, local_files_only=True, **wanted))
            if offline or is_whole(folder, allow_pickle):
                return folder
        except LocalEntryNotFoundError:
            if offline:
                raise
        return Path(snapshot_download(name, **wanted))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            f"The model {name} is not on this machine and could not be fetched; "
            f"with a connection run: inlay models download {name}"
        ) from error


def is_whole(folder: Path, allow_pickle: bool) -> bool:
    """Whether every weighted part that a cached model's index names has weights."""
    if not (folder / "model_index.json").is_file():
        return False
    parts = [part for part in WEIGHTED if part in read_json(folder / "model_index.json")]
    endings = ["*.safetensors", *(["*.bin"] if allow_pickle else [])]
    return all(any(any((folder / part).glob(ending)) for ending in endings) for part in parts)


def load_folder(path: Path, dtype: torch.dtype, allow_pickle: bool) -> dict[str, Any]:
    """The components of a folder in diffusers layout.

    Raises:
        ModelError: a component is missing or broken.
    """
    try:
        return _load_folder(path, dtype, allow_pickle)
    except (OSError, ValueError, KeyError, RuntimeError, _safetensors_error()) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"The model in {path} cannot be loaded ({reason}); fetch or convert it anew.") from error


def _load_folder(path: Path, dtype: torch.dtype, allow_pickle: bool) -> dict[str, Any]:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    index = read_json(path / "model_index.json")
    pipeline = index.get("_class_name", "")
    if "unet" not in index or not pipeline.startswith("StableDiffusion"):
        raise ModelError(
            f"{path} holds a {pipeline or 'model of unknown kind'}; inlay runs SD 1.x, SD 2.x and SDXL models."
        )

    def read(make: Callable[[dict[str, Any]], Any], part: str) -> Any:
        with torch.device("meta"):  # no memory, no random weights
            module = make(read_json(path / part / "config.json"))
        return fill(module, read_weights(path / part, allow_pickle), dtype, path / part)

    second = ["2"] if "text_encoder_2" in index else []
    parts = [("tokenizer", "text_encoder"), *((f"tokenizer_{k}", f"text_encoder_{k}") for k in second)]
    return {
        "unet": read(UNet2DConditionModel.from_config, "unet"),
        "vae": read(AutoencoderKL.from_config, "vae"),
        "encoders": [
            read(partial(TextEncoder, projection=place > 0), encoder) for place, (_, encoder) in enumerate(parts)
        ],
        "tokenizers": [Tokenizer(path / tokenizer) for tokenizer, _ in parts],
        "scheduler_config": read_json(path / "scheduler" / "scheduler_config.json"),
        "zero_empty": bool(index.get("force_zeros_for_empty_prompt", False)),
    }


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def read_weights(folder: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """All tensors of a component's folder, in one file or several.

    Raises:
        ModelError: no weights, or pickled ones alone and no leave to open them.
    """
    from safetensors.torch import load_file as load_safetensors

    found = [file for file in folder.glob("*.safetensors") if "non_ema" not in file.name]
    files = [file for file in found if "fp16" not in file.name] or found
    pickled = sorted(folder.glob("*.bin"))
    if not files and not (pickled and allow_pickle):
        what = "only pickled weights, which are refused" if pickled else "no weights"
        raise ModelError(f"{folder} has {what}; get the model's .safetensors files.")
    weights: dict[str, Tensor] = {}
    for file in sorted(files):
        weights |= load_safetensors(file)
    for file in [] if files else pickled:
        try:
            weights |= torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ModelError(f"{file} holds more than tensors, so it is refused; get .safetensors files.") from error
    return weights


def fill(module: Any, weights: dict[str, Tensor], dtype: torch.dtype, folder: Path) -> Any:
    """`module`, made without memory, with its weights.

    Raises:
        ModelError: weights are missing, or of other shapes.
    """
    named = {current_name(name): value.to(dtype) for name, value in weights.items()}
    try:
        missing = module.load_state_dict(named, strict=False, assign=True).missing_keys
    except RuntimeError as error:
        raise ModelError(f"The weights in {folder} do not fit their config.json; fetch them anew.") from error
    if missing:
        raise ModelError(f"The weights in {folder} lack {missing[0]} and {len(missing) - 1} more; fetch them anew.")
    return module


def current_name(name: str) -> str:
    """A parameter's name as diffusers has it now; older autoencoders call their attention otherwise.

    transformers writes its text encoders with and without the prefix `text_model`.
    """
    name = name.removeprefix("text_model.")
    if ".attentions." in name:
        for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
            name = name.replace(f".{old}.", f".{new}.")
    return name


def load_file(path: Path, dtype: torch.dtype, config: Path | None, offline: bool) -> dict[str, Any]:
    """The components of a single-file checkpoint in the original layout.

    Raises:
        ModelError: not safetensors, not Stable Diffusion, or its configurations are not at hand.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            keys = set(file.keys())
    except (OSError, _safetensors_error()) as error:
        raise ModelError(f"{path} is no readable .safetensors file; fetch it anew.") from error
    import_wholly()
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    large = any(key.startswith("conditioner.embedders.1.") for key in keys)
    pipeline_class = StableDiffusionXLPipeline if large else StableDiffusionPipeline
    options: dict[str, Any] = (
        {"config": str(config), "local_files_only": True} if config else {"local_files_only": offline}
    )
    try:
        with quiet_libraries():
            pipe = pipeline_class.from_single_file(str(path), torch_dtype=dtype, safety_checker=None, **options)
    except Exception as error:  # the converter raises whatever the missing piece happens to trigger
        hint = (
            "its weights do not fit the configuration"
            if config
            else "its configurations are not here: add --config DIR"
        )
        raise ModelError(f"{path} cannot be loaded as Stable Diffusion; {hint}.") from error
    encoders = [pipe.text_encoder, *([pipe.text_encoder_2] if large else [])]
    return {
        "unet": pipe.unet,
        "vae": pipe.vae,
        "encoders": encoders,
        "tokenizers": [pipe.tokenizer, *([pipe.tokenizer_2] if large else [])],
        "scheduler_config": dict(pipe.scheduler.config),
        "zero_empty": bool(pipe.config.get("force_zeros_for_empty_prompt", False)),
    }


def fingerprint(path: Path) -> str:
    """16 hex digits that tell weights apart: SHA-256 over each file's size, first and last 64 KiB."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors")) + sorted(path.rglob("*.bin"))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path.parent)} {size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 16))
            stream.seek(max(0, size - (1 << 16)))
            digest.update(stream.read())
    return digest.hexdigest()[:16]


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    error: type[Exception] = SafetensorError
    return error


class quiet_libraries:  # noqa: N801 - reads as a statement
    """Silence the loading chatter of diffusers and transformers; errors still come as exceptions."""

    def __enter__(self) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        self.kept = [(library, library.get_verbosity()) for library in (diffusers_logging, transformers_logging)]
        for library, _ in self.kept:
            library.set_verbosity_error()
            library.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        for library, level in self.kept:
            library.set_verbosity(level)
