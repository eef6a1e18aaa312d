"""A text-to-image latent diffusion model: weights, and the facts that the weights' own configuration states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError
from ..weights.adapters import Adapters
from ..weights.device import pick_device, pick_dtype
from ..weights.diffusion import Belongings, belongings, fingerprint, locate
from ..weights.parts import weight_bytes
from .adapters import dress, located
from .attention import Layer, install
from .compiled import compile_blocks
from .control import load_controls
from .loading import SUPPORTED, load_file, load_folder
from .numeric import finite
from .reference import Eye
from .text import Prompts


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
    belongings: Belongings = field(default_factory=Belongings)
    """What an `inlay.json` beside its weights names: advised parameters, vocabulary, guide."""
    compiled: bool = False
    """Whether forwards that no method opens run compiled."""
    adapters: Adapters = field(default_factory=Adapters)
    """What was loaded onto it."""
    marks: dict[str, str] = field(default_factory=dict)
    """The fingerprints of its adapters, by name."""
    controls: tuple[Any, ...] = ()
    """ControlNets and T2I-Adapters, in the order of `adapters.control`."""
    eye: Eye | None = None
    """What looks at the picture of an IP-Adapter."""

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
        compile: bool = False,
        adapters: Adapters = Adapters(),
    ) -> Model:
        """Load `toybox`, a folder in diffusers layout, a .safetensors file, or a hub id.

        Args:
            device: "cpu", "cuda", "cuda:1", "mps", or "auto": the first accelerator that is there.
            dtype: "float32", "float16", "bfloat16", "float64", or "auto"; see `pick_dtype`. Beside bfloat16 text
                encoders, which run once, stay in float32.
            config: folder with the configurations that a single file lacks (diffusers layout without weights).
            offline: use what is on this machine; never ask the hub.
            compile: see `compile_blocks`.
            allow_pickle: also read a folder's .bin weights where it has no others; tensors only, nothing is run.
            adapters: what is loaded onto the model; it has to fit it in whole.

        Raises:
            ModelError: weights missing, unexpected, corrupt, pickled, or of no SD 1.x, SD 2.x or SDXL model.
            UsageError: a device or dtype that is not there, nothing to compile with, or a control that inlay knows no
                weights of.
        """
        place, name = pick_device(device), str(name_or_path)
        kind = pick_dtype(dtype, place)
        path = locate(name, offline, allow_pickle, half=kind == torch.float16)
        kind = pick_dtype(dtype, place, weight_bytes(path, allow_pickle))
        found = located(adapters, name, path, offline, allow_pickle, half=kind == torch.float16)
        parts = load_file(path, kind, config, offline) if path.is_file() else load_folder(path, kind, allow_pickle)
        dress(parts, found, name, path, kind, config, allow_pickle)
        model = cls.assemble(name, parts, fingerprint(path), place)
        if compile:
            compile_blocks(model.unet)
        return replace(
            model,
            belongings=belongings(name),
            compiled=compile,
            adapters=adapters,
            marks=found.marks,
            controls=load_controls([folder for _, folder in found.control], kind, place, allow_pickle),
        )

    @classmethod
    def assemble(cls, name: str, parts: dict[str, Any], mark: str = "", device: torch.device | None = None) -> Model:
        """A model from loaded components: `unet`, `vae`, `tokenizers`, `encoders`, `scheduler_config`, `zero_empty`,
        and with an IP-Adapter in the UNet the `eye` that goes with it.

        Raises:
            ModelError: the UNet needs conditions that inlay does not give.
        """
        unet, vae, encoders = parts["unet"], parts["vae"], parts["encoders"]
        kind = getattr(unet.config, "addition_embed_type", None)
        eye: Eye | None = parts.get("eye")
        other = [
            unet.config.get(option)
            for option in ("class_embed_type", "time_cond_proj_dim", *(() if eye else ("encoder_hid_dim_type",)))
        ]
        if kind not in (None, "text_time") or any(option is not None for option in other):
            raise ModelError(f"The UNet of {name} needs more than text; {SUPPORTED}.")
        for module in (unet, vae, *encoders, *([eye.encoder] if eye else [])):
            module.requires_grad_(False).eval().to(device or torch.device("cpu"))
        for module in (unet, vae):
            if module.dtype in (torch.float16, torch.bfloat16):  # convolutions in half precision want it so
                module.to(memory_format=torch.channels_last)
        prompts = Prompts(parts["tokenizers"], encoders, parts.get("zero_empty", False))
        return cls(name, unet, vae, prompts, dict(parts["scheduler_config"]), install(unet), mark, eye=eye)

    @property
    def defaults(self) -> dict[str, Any]:
        """The guidance scale and the methods' parameters that suit this model best, as far as they are known."""
        return self.belongings.defaults

    @property
    def device(self) -> torch.device:
        return place_of(self.unet)[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of the UNet's weights."""
        return place_of(self.unet)[1]

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
        ids = torch.tensor([[height, width, 0, 0, height, width]] * batch, dtype=self.dtype)
        return ids.to(self.device, non_blocking=True)

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
        if torch.is_grad_enabled():  # the backward wants the weights that the forward used
            copy = deepcopy(vae)
            move(copy, dtype=torch.float32)
            return call(copy)
        move(vae, dtype=torch.float32)
        try:
            return call(vae)
        finally:
            move(vae, dtype=torch.float16)

    @property
    def beside(self) -> tuple[Any, ...]:
        """The networks that run before the loop or after it: autoencoder, text encoders, image encoder."""
        return (self.vae, *self.prompts.encoders, *([self.eye.encoder] if self.eye else []))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put back afterwards what saving memory or precision changes inside the block: `to`, `spare`, `offload`."""
        modules = (self.unet, *self.controls, *self.beside)
        places = [place_of(module) for module in modules]
        tiled, recomputed = self.vae.use_tiling, self.unet.is_gradient_checkpointing
        tiles = self.vae.tile_sample_min_size, self.vae.tile_latent_min_size
        try:
            yield
        finally:
            for module, before in zip(modules, places, strict=True):
                if place_of(module) != before:
                    move(module, *before)
            if not tiled:
                self.vae.disable_tiling()
            self.vae.tile_sample_min_size, self.vae.tile_latent_min_size = tiles
            if not recomputed:
                self.unet.disable_gradient_checkpointing()

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Model:
        """Move the weights, in place."""
        for module in (self.unet, *self.controls, *self.beside):
            move(module, device, dtype)
        return self

    def spare(self) -> None:
        """Trade time for memory: gradients recompute the UNet's activations, the autoencoder works in tiles."""
        self.unet.enable_gradient_checkpointing()
        tile(self.vae)

    def offload(self) -> None:
        """Keep only the UNet on its device; text encoders and autoencoder run on the CPU, in fp32."""
        for module in self.beside:
            move(module, torch.device("cpu"), torch.float32)


def tile(vae: Any) -> None:
    """Let an autoencoder work in tiles of half its own size, also at that size; diffusers takes whole ones."""
    vae.enable_tiling()
    vae.tile_sample_min_size //= 2
    vae.tile_latent_min_size //= 2


def place_of(module: torch.nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a network is, and in which precision. diffusers' own properties, asked at every step,
    walk through all of its modules."""
    weight = next(module.parameters())
    return weight.device, weight.dtype


def move(module: torch.nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
    """Move and cast, in place. diffusers' own `to` warns of every dtype."""
    torch.nn.Module.to(module, device=device, dtype=dtype)
