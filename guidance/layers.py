"""Which attention layers a method reads or edits."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ..diffusion.attention import Layer
from ..diffusion.model import Model
from ..errors import ModelError, UsageError

Layers = str | int | Sequence[int | str]
"""Attention layers: "all", or depths (times the latent grid is halved) and names, also as "1,2"."""


def choose(model: Model, wanted: Layers, cross: bool = True) -> tuple[Layer, ...]:
    """The model's layers of cross-attention, or else self-attention, that `wanted` names, in running order.

    A depth that the model does not have chooses nothing, as long as another one does.

    Raises:
        ModelError: the model has no cross-attention.
        UsageError: no layer is chosen, or a name is unknown.
    """
    layers = tuple(layer for layer in model.layers if layer.cross == cross)
    if cross and not layers:
        raise ModelError(f"The model {model.name} has no cross-attention, so words cannot be guided to places.")
    if wanted == "all":
        return layers
    items = wanted.split(",") if isinstance(wanted, str) else wanted if isinstance(wanted, Sequence) else [wanted]
    keys = {int(item) if str(item).strip().isdigit() else str(item).strip() for item in items}
    kind, names = "cross-attention" if cross else "self-attention", [layer.name for layer in layers]
    for key in keys:
        if isinstance(key, str) and key not in names:
            near = difflib.get_close_matches(key, names, n=2, cutoff=0.3)
            raise UsageError(
                f"There is no {kind} layer {key!r}; give depths, or names like {', '.join(near or names[:2])}."
            )
    chosen = tuple(layer for layer in layers if layer.depth in keys or layer.name in keys)
    if not chosen:
        depths = sorted({layer.depth for layer in layers})
        raise UsageError(
            f"The layers {wanted!r} choose nothing; {model.name} has {kind} at depths {', '.join(map(str, depths))}."
        )
    return chosen
