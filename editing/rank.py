"""Rank candidates by how well the place shows what was asked for (Blended Latent Diffusion, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.model import Model
from ..weights.hub import from_pretrained
from .composite import ring_around
from .crop import bounds


class Ranker(Protocol):
    """Scores pictures: the higher, the more `mask` shows the prompt."""

    @property
    def name(self) -> str:
        """What `Facts.ranker` says."""

    def __call__(
        self, images: Float[Tensor, "b 3 H W"], mask: Float[Tensor, "H W"], prompt: str
    ) -> tuple[float, ...] | None:
        """One score per image in [0, 1] pixels; None where the prompt is beyond the ranker."""


@dataclass(frozen=True)
class GuideRanker:
    """Mean probability, inside the mask, of the classes that the prompt names, by the model's own guide."""

    model: Model

    @property
    def name(self) -> str:
        return f"{self.model.name} guide"

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "b 3 H W"], mask: Float[Tensor, "H W"], prompt: str
    ) -> tuple[float, ...] | None:
        vocabulary, guide = self.model.belongings.vocabulary, self.model.belongings.guide
        assert vocabulary is not None
        words = [word.strip(",.!?") for word in prompt.lower().split()]
        classes = sorted({vocabulary.classes[word] for word in words if word in vocabulary.classes})
        if not classes:
            return None
        place = next(guide.parameters()).device
        probability = guide(images.float().to(place)).softmax(dim=1)[:, classes].sum(dim=1)
        inside = mask.to(probability)
        return tuple((probability * inside).sum(dim=(1, 2)).div(inside.sum()).tolist())


class SurroundingsRanker:
    """How like its surroundings the place is, for things that were taken away: 1 - how far colours and their slopes in
    the place are from those in the ring around it.

    The distance is Wasserstein's first between the two distributions, by channel (CIELAB, and the size of Sobel's
    slopes in each), as a share of the range, the mean over channels. A segmenter would be asked where nothing is:
    GrabCut then cuts whatever its box encloses, alike in all candidates.
    """

    name = "likeness to the surroundings"

    def __call__(
        self, images: Float[Tensor, "b 3 H W"], mask: Float[Tensor, "H W"], prompt: str
    ) -> tuple[float, ...] | None:
        place = (mask > 0).cpu().numpy()
        ring = ring_around(place)
        if not ring.any() or not place.any():
            return None
        pictures = images.float().cpu().clamp(0, 1).permute(0, 2, 3, 1).numpy()
        return tuple(1 - distance(*(looks(picture)[where] for where in (place, ring))) for picture in pictures)


def looks(picture: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 6"]:
    """CIELAB of a picture in [0, 1], and the size of the slope of each channel, all as shares of lightness's range."""
    import cv2

    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB) / 100
    slopes = np.hypot(cv2.Sobel(lab, -1, 1, 0), cv2.Sobel(lab, -1, 0, 1)) / 4
    return np.concatenate([lab, slopes], axis=-1)


def distance(one: Float[np.ndarray, "n d"], other: Float[np.ndarray, "m d"]) -> float:
    """The mean over columns of the distance between two samples of numbers: between their quantiles."""
    shares = np.linspace(0, 1, 33)
    return float(np.abs(np.quantile(one, shares, axis=0) - np.quantile(other, shares, axis=0)).mean())


class ClipRanker:
    """CLIP similarity of the prompt and the masked place, cut out with its bounding box (Radford et al. 2021)."""

    def __init__(self, folder: str | Path, offline: bool = False) -> None:
        """`folder`: a transformers CLIPModel with its processor; a local folder, or a hub id.

        Raises:
            ModelError: the weights are not at hand.
        """
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        self.name, name = f"CLIP {folder}", str(folder)
        self.model: Any = from_pretrained(CLIPModel, name, offline).eval()
        self.processor: Any = from_pretrained(CLIPImageProcessorPil, name, offline)
        self.tokenizer: Any = from_pretrained(CLIPTokenizer, name, offline)

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "b 3 H W"], mask: Float[Tensor, "H W"], prompt: str
    ) -> tuple[float, ...] | None:
        rows, columns = bounds((mask > 0).cpu().numpy()).slices
        window = images[:, :, rows, columns].float().cpu()
        pixels = [picture.permute(1, 2, 0).mul(255).round().byte().numpy() for picture in window]
        inputs = self.processor(images=pixels, return_tensors="pt")
        words = self.tokenizer([prompt], truncation=True, return_tensors="pt")
        out = self.model(**inputs, **words)
        return tuple(torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds).tolist())
