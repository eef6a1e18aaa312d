"""What a pass takes of a device's memory, counted beforehand on the meta device, where tensors have shapes alone.

Counted are the bytes of tensors that live at once, with attention in one kernel, as it runs where no method opens it.
Workspaces of kernels and what the driver holds come on top.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.checkpoint import checkpoint

from .attention import install
from .control import Hint, steering
from .model import Model, tile


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that live at once, from those of `held` on, and the most that did."""

    def __init__(self, held: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.known: set[int] = set()
        self.bytes = self.peak = 0
        for tensor in held:
            self._note(tensor.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in tree_iter(result):
            if isinstance(made, torch.Tensor):
                self._note(made.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.bytes += size
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.known.remove(key)
        self.bytes -= size


class Kernel(torch.autograd.Function):
    """Attention in one kernel, as far as memory sees it: it keeps what it was given, and no scores."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        return torch.empty_like(query)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return tuple(torch.empty_like(one) for one in ctx.saved_tensors)


class Fused(TorchFunctionMode):
    """The meta device knows attention by its scores alone; within, it is one kernel."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return Kernel.apply(*args[:3])
        if (
            func is torch.autograd.grad
        ):  # a mode rests while it handles a call, and recomputation asks for attention, too
            with Fused():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Level:
    """How a pass is run: so many samples at once, with `Model.spare`, and with `Model.offload`."""

    rows: int
    spared: bool = False
    offloaded: bool = False


def levels(model: Model, samples: int) -> Iterator[Level]:
    """From the fastest to that which takes least; on the CPU there is nowhere to offload to."""
    rows = samples
    while rows > 1:
        yield Level(rows)
        rows = -(-rows // 2)
    yield Level(1)
    yield Level(1, spared=True)
    if model.device.type != "cpu":
        yield Level(1, spared=True, offloaded=True)


def needed(model: Model, level: Level, size: tuple[int, int], gradients: bool) -> int:
    """The most bytes of tensors during a pass at `size` (H, W) pixels, the weights' own included."""
    loop = max(above(model, level, size, False), above(model, level, size, True) if gradients else 0)
    return weights(model, level) + (loop if level.offloaded else max(loop, decoding(model, level, size)))


def weights(model: Model, level: Level) -> int:
    """Bytes of the weights that stay on the device."""
    modules = [model.unet, *model.controls, *(() if level.offloaded else model.beside)]
    return sum(weight.numel() * weight.element_size() for module in modules for weight in module.parameters())


def shadow(module: Any) -> Any:
    """A module of diffusers without its numbers."""
    with torch.device("meta"):
        made = type(module).from_config(module.config)
    return torch.nn.Module.to(made, module.dtype).requires_grad_(False).eval()


def recomputed(module: Any, *given: Any) -> Any:
    """Gradient checkpointing whose recomputation has its attention in one kernel, too."""
    return checkpoint(module.__call__, *given, use_reentrant=False, context_fn=lambda: (nullcontext(), Fused()))


def above(model: Model, level: Level, size: tuple[int, int], gradients: bool) -> int:
    """Bytes that UNet and controls take above their weights: both rows of guidance, or one with its gradient."""
    unet, config = shadow(model.unet), model.unet.config
    controls = [shadow(net) for net in model.controls]
    install(unet)
    if level.spared:
        unet.enable_gradient_checkpointing(recomputed)
    rows = level.rows * (1 if gradients else 2)
    kind: dict[str, Any] = {"device": "meta", "dtype": model.dtype}
    added: dict[str, Any] = {}
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        texts, ids = torch.empty(rows, pooled, **kind), torch.empty(rows, 6, **kind)
        added = {"text_embeds": texts, "time_ids": ids}
    source = torch.empty(rows, config.in_channels, *model.latent_size(size), **kind).requires_grad_(gradients)
    states = torch.empty(rows, model.prompts.limit + 2, config.cross_attention_dim, **kind)
    time, pixels = torch.empty((), device="meta"), [side * model.factor for side in model.latent_size(size)]
    networks = chain.from_iterable(module.parameters() for module in (unet, *controls))
    with Live(networks) as live, nullcontext() if gradients else torch.no_grad():
        held = live.bytes
        hints = [Hint(torch.empty(level.rows, 3, *pixels, **kind), torch.empty(level.rows, **kind)) for _ in controls]
        with Fused():
            residuals = steering(controls, hints, model.latent_channels)
            joined = residuals(source, time, states, added) if residuals else {}
            output = unet(source, time, states, return_dict=False, added_cond_kwargs=added, **joined)[0]
        if gradients:
            torch.autograd.grad(output.sum(), source)
    return live.peak - held


@torch.no_grad()
def decoding(model: Model, level: Level, size: tuple[int, int]) -> int:
    """Bytes that decoding takes above the weights: of all samples at once, or of one tile and pictures of tiles."""
    vae, (height, width), pictures = shadow(model.vae), model.latent_size(size), 0
    if level.spared:
        tile(vae)
        pictures = 3 * level.rows * 3 * size[0] * size[1] * 4
        height, width = (min(side, vae.tile_latent_min_size) for side in (height, width))
    latents = torch.empty(level.rows, model.latent_channels, height, width, device="meta", dtype=vae.dtype)
    if vae.dtype == torch.float16 and vae.config.force_upcast:
        vae, latents = vae.float(), latents.float()
    with Live(vae.parameters()) as live, Fused():
        held = live.bytes
        vae.decode(latents)
    return live.peak - held + pictures


def last(model: Model) -> Level:
    """What takes least."""
    return [*levels(model, 1)][-1]


def fitting(model: Model, samples: int, size: tuple[int, int], gradients: bool, budget: float) -> Level | None:
    """The fastest level that takes at most `budget` bytes; None if there is none."""
    for level in levels(model, samples):
        if weights(model, level) <= budget and needed(model, level, size, gradients) <= budget:
            return level
    return None
