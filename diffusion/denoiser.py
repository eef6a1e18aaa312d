"""The UNet as a run sees it: classifier-free guidance, opened attention, gradients to the latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .attention import Edit, Layer, Maps, Opening, SelfEdit, Stop
from .control import Residuals
from .numeric import NumericError as NumericError
from .schedule import Schedule, Step
from .text import Embedding

if TYPE_CHECKING:
    from .model import Model


@dataclass(frozen=True)
class Loss:
    """A differentiable wish about a conditional forward.

    `function(maps, latents, output)` returns one value per sample (b,), in fp32; its sum is differentiated to the
    latents. `output` is the conditional prediction, None where the forward stops before it.
    """

    function: Callable[[Maps, Tensor, Tensor | None], Float[Tensor, " b"]]
    layers: tuple[Layer, ...] = ()
    columns: tuple[int, ...] = ()
    needs_output: bool = False


@dataclass(frozen=True)
class Watch:
    """Reads maps of the forward that predicts, without gradient."""

    receive: Callable[[Maps, Step], None]
    layers: tuple[Layer, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """What one step asks of the conditional forward: score edits, then probability edits, losses and watches; and what
    it asks of self-attention, there or in the unconditional forward, too."""

    scores: tuple[Edit, ...] = ()
    probabilities: tuple[Edit, ...] = ()
    losses: tuple[Loss, ...] = ()
    watches: tuple[Watch, ...] = ()
    self_attention: tuple[SelfEdit, ...] = ()

    def __add__(self, other: Request) -> Request:
        return Request(
            self.scores + other.scores,
            self.probabilities + other.probabilities,
            self.losses + other.losses,
            self.watches + other.watches,
            self.self_attention + other.self_attention,
        )


@dataclass(frozen=True)
class Prediction:
    """The model's output after classifier-free guidance, and the gradient of each of the step's losses, in order."""

    output: Float[Tensor, "b c h w"]
    gradients: tuple[Float[Tensor, "b c h w"], ...] = ()


@dataclass(frozen=True)
class Seam:
    """What joins at the UNet's input beside latents and text.

    `channels` (b, c', h, w) are appended to the latents (9-channel inpainting models); `residuals(source, timestep,
    states, added)` returns further keyword arguments of the UNet (ControlNet's and T2I-Adapter's residuals) for its own
    input, which holds negative and positive prompts one after the other where both are predicted at once; `added` is
    what SDXL is told beside the text. `place` (b, 1, h, w) is how much the picture of the embeddings counts where.
    `surroundings` are cells (b, 1, h, w) and latents (b, c, h, w): those that the UNet sees in place of the run's own
    wherever the cells are off.
    """

    channels: Float[Tensor, "b c h w"] | None = None
    residuals: Residuals | None = None
    place: Float[Tensor, "b 1 h w"] | None = None
    surroundings: tuple[Bool[Tensor, "b 1 h w"], Float[Tensor, "b c h w"]] | None = None


@dataclass(frozen=True)
class Denoiser:
    """Predicts and advances a batch: one prompt, one negative prompt and one generator per sample."""

    model: Model
    schedule: Schedule
    positive: Embedding
    negative: Embedding
    scale: float
    """Guidance scale of CFG (Ho and Salimans 2022); at 1 the unconditional pass is left out."""
    generators: tuple[torch.Generator, ...]
    seam: Seam = field(default_factory=Seam)
    interval: tuple[float, float] = (0.0, 1.0)
    """Where the scale holds, as shares of the timesteps; elsewhere it is 1 (Kynkäänniemi et al. 2024, "Applying
    Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models")."""

    def scale_at(self, step: Step) -> float:
        """The guidance scale of a step."""
        share = float(step.timestep) / self.schedule.scheduler.config.num_train_timesteps
        return self.scale if self.interval[0] <= share <= self.interval[1] else 1.0

    def forward(
        self, latents: Float[Tensor, "b c h w"], step: Step, embedding: Embedding, opening: Opening | None = None
    ) -> Float[Tensor, "b c h w"]:
        """One UNet call, at the latents' precision outside and the model's inside."""
        model = self.model
        source, times = latents, step.timestep.to(latents.device, non_blocking=True)
        if self.seam.surroundings is not None:
            cells, around = (part.repeat(len(latents) // len(part), 1, 1, 1) for part in self.seam.surroundings)
            source = torch.where(cells, latents, around)
        if self.seam.channels is not None:
            channels = self.seam.channels.to(latents)
            source = torch.cat([source, channels.repeat(len(latents) // len(channels), 1, 1, 1)], dim=1)
        source, states = source.to(model.dtype), embedding.states.to(model.device, model.dtype)
        added: dict[str, Any] = {}
        if embedding.pooled is not None:
            added["text_embeds"] = embedding.pooled.to(model.device, model.dtype)
            added["time_ids"] = model.size_condition(latents.shape[-2:], len(latents))
        extra = {} if self.seam.residuals is None else self.seam.residuals(source, times, states, added)
        if embedding.picture is not None:
            added["image_embeds"] = [embedding.picture.to(model.device, model.dtype)]
        told = {"opening": opening, "place": self.seam.place}
        if told := {name: value for name, value in told.items() if value is not None}:
            extra["cross_attention_kwargs"] = told
        if added:
            extra["added_cond_kwargs"] = added
        eager = model.compiled and opening is not None
        with torch.compiler.set_stance("force_eager") if eager else nullcontext():
            return model.unet(source, times, states, return_dict=False, **extra)[0].to(latents.dtype)

    def predict(self, latents: Float[Tensor, "b c h w"], step: Step, request: Request | None = None) -> Prediction:
        """The prediction with CFG.

        One batch of two where nothing needs a gradient; otherwise the unconditional forward runs apart, without one.
        """
        request = request or Request()
        batch, scale = len(latents), self.scale_at(step)
        gradients: tuple[Tensor, ...] = ()
        if request.losses:
            conditional, gradients = self._differentiate(latents, step, request)
            opening = self._open(latents, Request(self_attention=request.self_attention), slice(0, 0))
            unconditional = self.forward(latents, step, self.negative, opening) if scale != 1 else conditional
        elif scale == 1:
            opening = self._open(latents, request, slice(0, batch))
            conditional = unconditional = self.forward(latents, step, self.positive, opening)
            self._show(request, opening, step)
        else:
            opening = self._open(latents, request, slice(batch, 2 * batch))
            both = Embedding.cat([self.negative, self.positive])
            unconditional, conditional = self.forward(torch.cat([latents, latents]), step, both, opening).chunk(2)
            self._show(request, opening, step)
        output = conditional if scale == 1 else unconditional + scale * (conditional - unconditional)
        return Prediction(output, gradients)

    def gradient(
        self, latents: Float[Tensor, "b c h w"], step: Step, loss: Loss, request: Request | None = None
    ) -> Float[Tensor, "b c h w"]:
        """The gradient of one loss over maps: a conditional forward up to the last layer it reads, and its backward."""
        edits = request or Request()
        return self._differentiate(latents, step, replace(edits, losses=(loss,), watches=()), stop=True)[1][0]

    def advance(self, latents: Tensor, output: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """The sampler's step."""
        return self.schedule.advance(latents, output, step, self.generators)

    def _open(self, latents: Tensor, request: Request, rows: slice, stop: bool = False) -> Opening | None:
        readers: tuple[Loss | Watch, ...] = (*request.losses, *request.watches)
        if not (request.scores or request.probabilities or request.self_attention or readers):
            return None
        differentiated = (layer for loss in request.losses for layer in loss.layers)
        last = max(differentiated, key=lambda layer: layer.order, default=None)
        open_end = any(loss.needs_output for loss in request.losses)
        return Opening(
            size=(latents.shape[-2], latents.shape[-1]),
            rows=rows,
            scores=request.scores,
            probabilities=request.probabilities,
            self_attention=request.self_attention,
            columns=tuple(sorted({column for reader in readers for column in reader.columns})),
            layers=frozenset(layer.name for reader in readers for layer in reader.layers),
            last=None if last is None or open_end else last.name,
            stop=stop,
        )

    def _show(self, request: Request, opening: Opening | None, step: Step) -> None:
        if opening is not None and request.watches:
            maps = Maps({name: values.detach() for name, values in opening.maps.items()}, opening.columns)
            for watch in request.watches:
                watch.receive(maps, step)

    def _differentiate(
        self, latents: Tensor, step: Step, request: Request, stop: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The conditional forward (empty if it stopped early) and the gradient of each loss to the latents."""
        output = latents.new_empty(0)
        with torch.enable_grad():
            leaf = latents.detach().requires_grad_()
            opening = self._open(leaf, request, slice(0, len(leaf)), stop)
            assert opening is not None
            with suppress(Stop):
                output = self.forward(leaf, step, self.positive, opening)
            torch.set_grad_enabled(True)  # a capture may have closed the graph behind itself
            maps = Maps(opening.maps, opening.columns)
            gradients = tuple(
                self._backward(
                    loss.function(maps, leaf, None if stop else output).sum(),
                    leaf,
                    keep=len(request.losses) - place > 1,
                )
                for place, loss in enumerate(request.losses)
            )
        self._show(request, opening, step)
        return output.detach(), gradients

    def _backward(self, value: Tensor, leaf: Tensor, keep: bool) -> Float[Tensor, "b c h w"]:
        """d value / d leaf in fp32; scaled through a half-precision UNet so that small entries survive."""
        if not value.requires_grad:
            return torch.zeros_like(leaf)
        powers = (16, 10, 4, 0) if self.model.dtype == torch.float16 else (0,)
        for power in powers:
            final = power == powers[-1]
            (gradient,) = torch.autograd.grad(value * 2.0**power, leaf, retain_graph=keep or not final)
            if final or bool(gradient.isfinite().all()):
                break
        return gradient / 2.0**power


def generators(seeds: Sequence[int]) -> tuple[torch.Generator, ...]:
    """One CPU generator per sample, so that a sample depends on its own seed alone."""
    return tuple(torch.Generator("cpu").manual_seed(seed) for seed in seeds)


def gaussian(
    shape: Sequence[int], sources: Sequence[torch.Generator], like: Tensor | None = None
) -> Float[Tensor, "b c h w"]:
    """Standard normal noise (len(sources), *shape), each sample from its own generator, drawn in fp32 on the CPU."""
    noise = torch.stack([torch.randn(tuple(shape), generator=source) for source in sources])
    return noise if like is None else noise.to(like)
