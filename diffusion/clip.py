"""CLIP's text encoder (Radford et al. 2021) with the parameter names of transformers' checkpoints.

Here because importing transformers' model classes costs more time than a whole edit on the embedded model; a test holds
it to transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": F.gelu,
}


@dataclass(frozen=True)
class Encoded:
    """What the encoder says of a batch of prompts, under transformers' names."""

    last_hidden_state: Float[Tensor, "b tokens d"]
    hidden_states: tuple[Float[Tensor, "b tokens d"], ...]
    text_embeds: Float[Tensor, "b p"] | None


class TextLayer(nn.Module):
    """Causal self-attention and a feed-forward block, each behind its norm."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, inner, epsilon = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.heads, self.activation = config["num_attention_heads"], ACTIVATIONS[config["hidden_act"]]
        self.self_attn = nn.ModuleDict(
            {name: nn.Linear(width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        )
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)

    def forward(self, states: Float[Tensor, "b tokens d"]) -> Float[Tensor, "b tokens d"]:
        normed = self.layer_norm1(states)
        query, key, value = (
            self.self_attn[name](normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)
        states = states + self.self_attn["out_proj"](mixed)
        return states + self.mlp["fc2"](self.activation(self.mlp["fc1"](self.layer_norm2(states))))


class TextEncoder(nn.Module):
    """Token ids to hidden states; with `projection` also the pooled embedding that SDXL reads.

    Args:
        config: the encoder's config.json.
    """

    def __init__(self, config: dict[str, Any], projection: bool = False) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.end = config["eos_token_id"]
        self.embeddings = nn.ModuleDict(
            {
                # without its random start, which on the meta device loads PyTorch's compiler
                name: nn.Embedding.from_pretrained(torch.empty(config[rows], width))
                for name, rows in (
                    ("token_embedding", "vocab_size"),
                    ("position_embedding", "max_position_embeddings"),
                )
            }
        )
        self.encoder = nn.ModuleDict(
            {"layers": nn.ModuleList(TextLayer(config) for _ in range(config["num_hidden_layers"]))}
        )
        self.final_layer_norm = nn.LayerNorm(width, config["layer_norm_eps"])
        self.text_projection = nn.Linear(width, config["projection_dim"], bias=False) if projection else None

    def forward(self, ids: Int[Tensor, "b tokens"], output_hidden_states: bool = True) -> Encoded:
        embeddings: Any = self.embeddings
        layers: Any = self.encoder["layers"]
        states = [embeddings["token_embedding"](ids) + embeddings["position_embedding"].weight[: ids.shape[1]]]
        for layer in layers:
            states.append(layer(states[-1]))
        last = self.final_layer_norm(states[-1])
        pooled = None
        if self.text_projection is not None:
            # configurations from before transformers 4.31 say 2 and mean the highest id
            ends = ids.argmax(dim=-1) if self.end == 2 else (ids == self.end).int().argmax(dim=-1)
            pooled = self.text_projection(last[torch.arange(len(ids), device=ids.device), ends])
        return Encoded(last, tuple(states), pooled)
