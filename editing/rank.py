"""Rank candidates by how well the place shows what was asked for (Blended Latent Diffusion, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.model import Model
from ..segmentation import segment
from ..weights.hub import from_pretrained
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


@dataclass(frozen=True)
class AbsenceRanker:
    """How little a segmenter still finds of a thing that was taken away: 1 - the intersection over union of the mask
    and of what it finds in the mask's box."""

    segmenter: str

    @property
    def name(self) -> str:
        return f"absence to {self.segmenter}"

    def __call__(
        self, images: Float[Tensor, "b 3 H W"], mask: Float[Tensor, "H W"], prompt: str
    ) -> tuple[float, ...] | None:
        place = (mask >= 0.5).cpu().numpy()
        if not place.any() or place.all():
            return None
        box = bounds(place)
        scores = []
        for picture in images.float().cpu().clamp(0, 1):
            pixels = picture.permute(1, 2, 0).mul(255).round().byte().numpy()
            found = segment(pixels, boxes=[box], backend=self.segmenter).best
            scores.append(1 - float((found & place).sum() / (found | place).sum()))
        return tuple(scores)


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
        rows, columns = (mask > 0).any(1).nonzero().flatten(), (mask > 0).any(0).nonzero().flatten()
        window = images[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].float().cpu()
        pixels = [picture.permute(1, 2, 0).mul(255).round().byte().numpy() for picture in window]
        inputs = self.processor(images=pixels, return_tensors="pt")
        words = self.tokenizer([prompt], truncation=True, return_tensors="pt")
        out = self.model(**inputs, **words)
        return tuple(torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds).tolist())
