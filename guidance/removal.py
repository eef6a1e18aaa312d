"""Removal without a prompt: Attentive Eraser, "Attentive Eraser: Unleashing Diffusion Model's Object Removal Potential
via Self-Attention Redirection Guidance" (Sun, Dong, Cui and Tang, AAAI 2025; arXiv 2412.12974), and its authors' code.

Two predictions are made with the same prompt, which may be empty: one plain, one whose self-attention in the decoder
reads nothing from the thing (section 3.2) and, in the first steps, hardly copies what is like it (similarity
suppression). The step follows what tells the second from the first (section 3.3). Used while a photo is edited, with
the thing and its shadow under the mask: strength .8, 50 steps, and a calm filling of the hole to start from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..diffusion.attention import Layer, SelfEdit
from ..diffusion.denoiser import Denoiser, Prediction, Request
from ..diffusion.model import Model
from ..diffusion.schedule import Step
from .base import Guidance, Hooks, Run
from .layers import Layers, choose
from .parameters import number, share
from .regions import Place, on_grid


def redirected(
    hidden: Bool[Tensor, "b cells"], suppression: float = 1.0
) -> tuple[Float[Tensor, "b 1 1 cells"], Float[Tensor, "b 1 cells 1"]]:
    """What makes softmax(scale * QK^T + bias) the paper's self-attention: (bias, scale).

    No query reads a hidden cell; scores of the hidden cells' own queries are multiplied by `suppression`. Where all
    cells of a sample are hidden there is nothing else to read, and its bias is 0.
    """
    readable = ~hidden | hidden.all(dim=1, keepdim=True)
    bias = torch.zeros(hidden.shape, device=hidden.device).masked_fill(~readable, -torch.inf)
    scale = torch.where(hidden, suppression, 1.0)
    return bias[:, None, None], scale[:, None, :, None]


@dataclass(frozen=True)
class Removal(Guidance, name="removal"):
    """Attentive Eraser.

    The words of regions say nothing to it, and there need be none; what may come into the hole can be said by the
    prompt. In the steps that are edited, classifier-free guidance's scale and the negative prompt are not used.

    Args:
        scale: s of eps = eps_plain + s (eps_edited - eps_plain), >= 0; 0 is off. None takes the model's advice, else 9.
        suppression: factor of the scores of queries inside the mask in the first steps, 0 to 1; 1 suppresses nothing.
        suppressed: for how many steps, as a share of the whole schedule's; the authors' 10 of 50, at any strength.
        fraction: share of the steps that are edited, from the first.
        layers: depths and names of self-attention layers, or "all"; None takes the decoder's on its two finest grids:
            the authors' layers 10 to 15 of Stable Diffusion 1 and 2, and 34 to 69 of SDXL.
    """

    scale: float | None = number(None, 0)
    suppression: float = share(0.3)
    suppressed: float = share(0.2)
    fraction: float = share(1.0)
    layers: Layers | None = None

    paper = MappingProxyType({"scale": 9.0})

    def hooks(self, run: Run) -> Hooks[Removal] | None:
        return Erasing(self, run) if self.scale and run.guides(self.fraction) else None


class Erasing(Hooks[Removal]):
    predicts = True
    needs_words = False

    def __init__(self, method: Removal, run: Run) -> None:
        super().__init__(method, run)
        chosen = decoder(run.model) if method.layers is None else choose(run.model, method.layers, cross=False)
        self.edited = frozenset(chosen)
        self._hidden: dict[tuple[tuple[tuple[Place, ...], ...], tuple[int, int]], Bool[Tensor, "b cells"]] = {}

    def request(self, step: Step) -> Request:
        active, schedule = self.active(step), self.run.schedule
        if not any(active):
            return Request()
        early = step.index - schedule.first < round(self.method.suppressed * schedule.count)

        def edit(layer: Layer, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
            if (active, grid) not in self._hidden:
                rows = [covered(places, grid).flatten() for places in active]
                self._hidden[active, grid] = torch.stack(rows).to(self.like.device)
            bias, scale = redirected(self._hidden[active, grid], self.method.suppression)
            return bias, scale if early else None

        return Request(self_attention=(SelfEdit(self.edited, edit),))

    def predict(self, latents: Tensor, step: Step, denoiser: Denoiser, request: Request) -> Prediction:
        """Classifier-free guidance between two rows of one prompt, of which the conditional one is edited."""
        if any(self.active(step)):
            assert self.method.scale is not None
            denoiser = replace(denoiser, negative=denoiser.positive, scale=self.method.scale, interval=(0.0, 1.0))
        return denoiser.predict(latents, step, request)


def covered(places: tuple[Place, ...], grid: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """Cells that hold any of the places' pixels: what the thing shows in must not be read, however little it is."""
    hidden = torch.zeros(grid, dtype=torch.bool)
    for place in places:
        pixels = place.mask >= 0.5 * place.mask.max()
        hidden |= on_grid(pixels[None].float(), grid)[0] > 0
    return hidden


def decoder(model: Model) -> tuple[Layer, ...]:
    """The self-attention layers of the UNet's second half on its two finest grids that have any."""
    layers = [layer for layer in model.layers if not layer.cross and layer.name.startswith("up_blocks.")]
    finest = sorted({layer.depth for layer in layers})[:2]
    return tuple(layer for layer in layers if layer.depth in finest)
