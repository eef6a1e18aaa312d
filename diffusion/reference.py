"""Seeing a picture for an IP-Adapter (Ye et al. 2023): its embedding, which the UNet attends to beside the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Eye:
    """An image encoder, what prepares pictures for it, and whether the adapter reads its last layer but one (the "plus"
    kinds) or its embedding."""

    encoder: Any
    extractor: Any
    patches: bool

    @property
    def blank(self) -> Float[Tensor, "1 1 ..."]:
        """The embedding of no picture."""
        return self.see(np.zeros((1, 1, 3), np.uint8))[1]

    @torch.no_grad()
    def see(self, picture: UInt8[np.ndarray, "H W 3"]) -> tuple[Float[Tensor, "1 1 ..."], Float[Tensor, "1 1 ..."]]:
        """The picture's embedding, and that of no picture, for the unconditional prediction."""
        weights = next(self.encoder.parameters())
        pixels = self.extractor(picture, return_tensors="pt").pixel_values.to(weights)
        if self.patches:
            both = torch.cat([pixels, torch.zeros_like(pixels)])
            shown, none = self.encoder(both, output_hidden_states=True).hidden_states[-2].chunk(2)
        else:
            shown = self.encoder(pixels).image_embeds
            none = torch.zeros_like(shown)
        return shown[:, None], none[:, None]
