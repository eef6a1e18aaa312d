"""The attention processor: fused where nobody asks, open where a method edits or reads cross-attention.

`install` puts one `Processor` on every attention layer, once, when a model is loaded. What happens in
a forward travels with that call as an `Opening` in `cross_attention_kwargs`; nothing stays on the modules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError


@dataclass(frozen=True)
class Layer:
    """One attention layer of a UNet, in the order of execution."""

    name: str
    order: int
    depth: int
    """Times the latent grid is halved (rounding up) before this layer."""
    heads: int
    cross: bool

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of this layer for latents of `size` (H, W)."""
        height, width = size
        for _ in range(self.depth):
            height, width = -(-height // 2), -(-width // 2)
        return height, width


Edit = Callable[[Float[Tensor, "b heads h w tokens"], Layer], Float[Tensor, "b heads h w tokens"]]
"""Changes the scores QK^T (before scaling) or the probabilities of one cross-attention layer, conditional rows only."""


@dataclass(frozen=True)
class SelfEdit:
    """A change of the self-attention of chosen layers that a fused kernel takes: softmax(scale * QK^T + bias) V.

    `function(layer, grid)` gives the bias, (b, heads, queries, keys) or broadcast to it, which is -inf where nothing
    may be read, and the scale, (b, heads, queries, 1) or broadcast to it; None leaves either. b counts samples.
    """

    layers: frozenset[Layer]
    function: Callable[[Layer, tuple[int, int]], tuple[Tensor | None, Tensor | None]]
    both: bool = False
    """Whether the unconditional rows are edited, too."""


class Stop(Exception):  # noqa: N818 - a signal, not an error
    """Leaves a forward behind the last layer that it was run for."""


@dataclass(frozen=True)
class Maps:
    """Captured attention: per layer, the columns that were asked for.

    `layers[name]` has shape (b, heads, h, w, len(columns)): probabilities after score edits and before probability
    edits, fp32 (fp64 in a double model).
    """

    layers: dict[str, Tensor]
    columns: tuple[int, ...]

    def positions(self, tokens: Sequence[int]) -> list[int]:
        """Where token indices stand among the kept columns."""
        return [self.columns.index(token) for token in tokens]


@dataclass
class Opening:
    """What one forward opens: lives for that call only.

    `rows` are the conditional samples of the batch; edits and captures see these alone, but for `SelfEdit.both`.
    """

    size: tuple[int, int]
    rows: slice = field(default_factory=lambda: slice(None))
    scores: tuple[Edit, ...] = ()
    probabilities: tuple[Edit, ...] = ()
    self_attention: tuple[SelfEdit, ...] = ()
    columns: tuple[int, ...] = ()
    layers: frozenset[str] = frozenset()
    """Names of the layers whose maps are captured."""
    last: str | None = None
    """Behind this layer no graph is built (or, with `stop`, nothing is run)."""
    stop: bool = False
    maps: dict[str, Tensor] = field(default_factory=dict)

    @property
    def unconditional(self) -> Opening:
        """What is open to the other samples: edits of self-attention that are meant for both."""
        return Opening(self.size, self_attention=tuple(edit for edit in self.self_attention if edit.both))

    def concerns(self, layer: Layer) -> bool:
        if not layer.cross:
            return any(layer in edit.layers for edit in self.self_attention)
        return bool(self.scores or self.probabilities or layer.name in self.layers)


class Processor(torch.nn.Module):
    """Attention of the transformer blocks of Stable Diffusion's UNets, with an optional `opening`.

    `shown` is diffusers' processor of an IP-Adapter, whose keys and values of a picture are attended to beside the
    text's. What a picture adds leaves the text's scores and probabilities, which an opening edits and captures, alone.
    """

    def __init__(self, layer: Layer, shown: Any = None) -> None:
        super().__init__()
        self.layer, self.shown = layer, shown

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "b p c"],
        encoder_hidden_states: Float[Tensor, "b tokens d"] | tuple[Tensor, list[Tensor]] | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        opening: Opening | None = None,
        place: Float[Tensor, "b 1 h w"] | None = None,
    ) -> Float[Tensor, "b p c"]:
        """`place` is how much the picture beside the text counts in each cell of the latents; without it, nowhere."""
        picture = None
        if isinstance(encoder_hidden_states, tuple):
            encoder_hidden_states, (picture,) = encoder_hidden_states
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for states in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        bias = self._bias(attn, attention_mask, context.shape[1], len(hidden_states))
        if opening is None or not opening.concerns(self.layer):
            mixed = fused(attn, query, key, value, bias)
        else:
            start, stop, _ = opening.rows.indices(len(query))
            parts = [(slice(0, start), False), (slice(start, stop), True), (slice(stop, len(query)), False)]
            mixed = torch.cat(
                [
                    self._part(
                        attn,
                        opening if conditional else opening.unconditional,
                        query[rows],
                        key[rows],
                        value[rows],
                        None if bias is None else bias[rows],
                    )
                    for rows, conditional in parts
                    if rows.stop > rows.start
                ]
            )
        if picture is not None and place is not None:
            mixed = mixed + self._seen(query, picture, place)
        out = attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))
        return out / attn.rescale_output_factor

    def _seen(
        self, query: Float[Tensor, "b heads p d"], picture: Float[Tensor, "b images tokens c"], place: Tensor
    ) -> Float[Tensor, "b heads p d"]:
        """What a picture adds (Ye et al. 2023, "IP-Adapter", equation 5)."""
        key, value = (
            layer[0](picture.flatten(1, 2)).unflatten(-1, (query.shape[1], -1)).transpose(1, 2)
            for layer in (self.shown.to_k_ip, self.shown.to_v_ip)
        )
        grid = self.layer.grid((place.shape[-2], place.shape[-1]))
        share = F.interpolate(place, grid, mode="area").flatten(2)[..., None].to(query)
        return share.repeat(len(query) // len(share), 1, 1, 1) * F.scaled_dot_product_attention(query, key, value)

    @staticmethod
    def _bias(attn: Any, mask: Tensor | None, tokens: int, batch: int) -> Tensor | None:
        if mask is None:
            return None
        prepared = attn.prepare_attention_mask(mask, tokens, batch)
        return prepared.view(batch, attn.heads, -1, prepared.shape[-1])

    def _part(
        self, attn: Any, opening: Opening, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None
    ) -> Float[Tensor, "b heads p d"]:
        """Attention of the conditional or of the other rows."""
        if not opening.concerns(self.layer):
            return fused(attn, query, key, value, bias)
        if self.layer.cross:
            return self._opened(attn, opening, query, key, value, bias)
        for edit in opening.self_attention:
            if self.layer in edit.layers:
                more, scale = edit.function(self.layer, self.layer.grid(opening.size))
                query = query if scale is None else query * scale.to(query)
                bias = more if bias is None else bias if more is None else bias + more
        return fused(attn, query, key, value, bias)

    def _opened(
        self, attn: Any, opening: Opening, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None
    ) -> Float[Tensor, "b heads p d"]:
        exact = torch.promote_types(query.dtype, torch.float32)
        if attn.upcast_attention:
            query, key = query.to(exact), key.to(exact)
        grid = self.layer.grid(opening.size)
        scores = (query @ key.transpose(-1, -2)).to(exact).unflatten(2, grid)
        for edit in opening.scores:
            scores = edit(scores, self.layer)
        scaled = scores.flatten(2, 3) * attn.scale
        probabilities = (scaled if bias is None else scaled + bias).softmax(dim=-1).unflatten(2, grid)
        if self.layer.name in opening.layers:
            opening.maps[self.layer.name] = probabilities[..., list(opening.columns)]
            if self.layer.name == opening.last:
                if opening.stop:
                    raise Stop
                torch.set_grad_enabled(False)  # the caller's `enable_grad` block restores it
        for edit in opening.probabilities:
            probabilities = edit(probabilities, self.layer)
        return probabilities.flatten(2, 3).to(value.dtype) @ value


def fused(attn: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Float[Tensor, "b heads p d"]:
    """Scaled dot-product attention in one kernel, in fp32 where the model asks for upcasting."""
    kind = value.dtype
    if attn.upcast_attention:
        exact = torch.promote_types(kind, torch.float32)
        query, key, value = query.to(exact), key.to(exact), value.to(exact)
    mask = None if bias is None else bias.to(query)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attn.scale).to(kind)


def install(unet: Any) -> tuple[Layer, ...]:
    """Put our processor on every attention layer of a `UNet2DConditionModel`; returns the layers in running order.

    Those of an IP-Adapter's projection, which see no text, stay as they are.

    Raises:
        ModelError: the UNet uses attention other than that of Stable Diffusion's transformer blocks.
    """
    levels = len(unet.config.block_out_channels)
    running: list[tuple[int, str, Any]] = []
    for name, module in unet.named_modules():
        if not hasattr(module, "set_processor") or name.startswith("encoder_hid_proj"):
            continue
        if module.added_kv_proj_dim is not None or module.norm_cross or module.norm_q is not None:
            raise ModelError(
                f"The UNet's attention layer {name} is of a kind that inlay cannot open; use an SD or SDXL UNet."
            )
        place, _, rest = name.partition(".")
        block = int(rest.split(".")[0]) if place != "mid_block" else 0
        depth = {"down_blocks": block, "mid_block": levels - 1, "up_blocks": levels - 1 - block}[place]
        running.append(({"down_blocks": 0, "mid_block": 1, "up_blocks": 2}[place], name, (module, depth)))
    running.sort(key=lambda entry: entry[0])  # stable: named_modules runs in order within each place
    layers = tuple(
        Layer(name, order, depth, module.heads, cross=module.is_cross_attention)
        for order, (_, name, (module, depth)) in enumerate(running)
    )
    stock = {name.removesuffix(".processor"): one for name, one in unet.attn_processors.items()}
    shown = {name: one for name, one in stock.items() if hasattr(one, "to_k_ip")}
    ours = {f"{layer.name}.processor": Processor(layer, shown.get(layer.name)) for layer in layers}
    unet.set_attn_processor(unet.attn_processors | ours)
    return layers
