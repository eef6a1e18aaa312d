"""What a run of the loop costs, counted on the meta device: calls, FLOPs (torch's own), bytes that live at once.

Each kind of call to the denoiser is run and counted once. There are no numbers to look at there: what is asked of them
(finite? where not zero?) is answered yes. Attention is not fused there, so the peak is an upper bound of what tensors
take on a GPU; workspaces of kernels and the driver come on top.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from inlay.diffusion.denoiser import Denoiser, Request
from inlay.diffusion.memory import Live
from inlay.diffusion.model import Model
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Count:
    """UNet forwards (one per sample and call, also where they stop early) and backwards, FLOPs, and the most bytes."""

    forwards: int = 0
    backwards: int = 0
    flops: int = 0
    peak: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.forwards + other.forwards,
            self.backwards + other.backwards,
            self.flops + other.flops,
            max(self.peak, other.peak),
        )


class Witness(TorchFunctionMode):
    """Counts backward passes, and answers for meta tensors what only numbers could tell."""

    def __init__(self) -> None:
        super().__init__()
        self.backwards = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.autograd.grad:
            self.backwards += 1
        if args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            if func is torch.Tensor.__bool__:
                return True
            if func is torch.Tensor.nonzero:
                return torch.ones(args[0].shape).nonzero()
            if func is torch.Tensor.cpu:
                return args[0]
        return func(*args, **(kwargs or {}))


@dataclass
class Meter:
    """Adds up what calls cost; one like an earlier one is not run again."""

    witness: Witness
    unet: Any
    known: dict[Hashable, tuple[Count, Any]] = field(default_factory=dict)
    total: Count = field(default_factory=Count)
    forwards: int = 0
    busy: bool = False

    def __call__(self, kind: Hashable, work: Callable[[], Any]) -> Any:
        if self.busy:  # a call inside of a call
            return work()
        if kind not in self.known:
            self.known[kind] = self._count(work)
        cost, result = self.known[kind]
        self.total += cost
        return result

    def _count(self, work: Callable[[], Any]) -> tuple[Count, Any]:
        forwards, backwards = self.forwards, self.witness.backwards
        hook = self.unet.register_forward_pre_hook(self._forward)
        self.busy = True
        with FlopCounterMode(display=False) as counter:
            result = work()
        self.busy = False
        hook.remove()
        cost = Count(self.forwards - forwards, self.witness.backwards - backwards, counter.get_total_flops())
        return cost, result

    def _forward(self, unet: Any, args: Any) -> None:
        self.forwards += len(args[0])


@dataclass(frozen=True)
class Metered(Denoiser):
    """A denoiser whose calls are metered."""

    meter: Meter = field(kw_only=True)

    def forward(self, latents: Any, step: Any, embedding: Any, opening: Any = None) -> Any:
        return self.meter(("forward", len(latents)), lambda: Denoiser.forward(self, latents, step, embedding, opening))

    def predict(self, latents: Any, step: Any, request: Any = None) -> Any:
        kind = ("predict", len(latents), self.scale_at(step) == 1, request and asks(request))
        return self.meter(kind, lambda: Denoiser.predict(self, latents, step, request))

    def gradient(self, latents: Any, step: Any, loss: Any, request: Any = None) -> Any:
        kind = ("gradient", len(latents), request and asks(request), loss.layers)
        return self.meter(kind, lambda: Denoiser.gradient(self, latents, step, loss, request))


def asks(request: Request) -> Hashable:
    """What decides the cost of a request."""
    losses = tuple((loss.layers, loss.needs_output) for loss in request.losses)
    edits = len(request.scores), len(request.probabilities), tuple(edit.layers for edit in request.self_attention)
    return edits, losses, tuple(watch.layers for watch in request.watches)


def count_run(model: Model, run: Callable[[Callable[[Denoiser], Denoiser]], Callable[[], Any]]) -> Count:
    """What one image costs; `model` is on the meta device, `run` prepares the loop around the denoiser it is given."""
    names = [entry.name for entry in fields(Denoiser)]
    parts = [model.unet, model.vae, *model.prompts.encoders]
    weights = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    with Witness() as witness, Live(weights) as live:
        meter = Meter(witness, model.unet)
        run(lambda denoiser: Metered(**{name: getattr(denoiser, name) for name in names}, meter=meter))()
    return replace(meter.total, peak=live.peak)
