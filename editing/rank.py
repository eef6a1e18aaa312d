"""Rank candidates by how well the place shows what was asked for (Blended Latent Diffusion, section 3.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError


class Ranker(Protocol):
    """Scores pictures: the higher, the more `mask` shows the prompt."""

    name: str

    def __call__(
        self, images: Float[Tensor, "b 3 H W"], mask: Float[Tensor, "H W"], prompt: str
    ) -> tuple[float, ...] | None:
        """One score per image in [0, 1] pixels; None where the prompt is beyond the ranker."""


class ToyboxRanker:
    """Mean probability, inside the mask, of the classes that the prompt names, by toybox's `guide` segmenter."""

    name = "toybox guide"

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "b 3 H W"], mask: Float[Tensor, "H W"], prompt: str
    ) -> tuple[float, ...] | None:
        from ..toybox.segmenter import load_segmenter
        from ..toybox.vocabulary import class_of

        classes = sorted(
            {found for word in prompt.lower().split() if (found := class_of(word.strip(",.!?"))) is not None}
        )
        if not classes:
            return None
        guide = load_segmenter("guide")
        probability = guide(images.float().cpu()).softmax(dim=1)[:, classes].sum(dim=1)
        inside = mask.to(probability)
        return tuple((probability * inside).sum(dim=(1, 2)).div(inside.sum()).tolist())


class ClipRanker:
    """CLIP similarity of the prompt and the masked place, cut out with its bounding box (Radford et al. 2021)."""

    def __init__(self, folder: str | Path, offline: bool = False) -> None:
        """`folder`: a transformers CLIPModel with its processor; a local folder, or a hub id in the cache.

        Raises:
            ModelError: the weights are not at hand.
        """
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        self.name = f"CLIP {folder}"
        options: Any = {"local_files_only": offline or Path(folder).is_dir()}
        try:
            self.model: Any = CLIPModel.from_pretrained(folder, **options).eval()
            self.processor: Any = CLIPImageProcessorPil.from_pretrained(folder, **options)
            self.tokenizer: Any = CLIPTokenizer.from_pretrained(folder, **options)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"The CLIP weights {folder} are not at hand; name a folder that holds a CLIPModel."
            ) from error

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
