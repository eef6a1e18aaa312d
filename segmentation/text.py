"""Masks by text: Grounding DINO boxes given to a segmenter, or CLIPSeg's own maps, through transformers.

Liu et al.: "Grounding DINO", 2023. Lüddecke, Ecker: "Image Segmentation Using Text and Image Prompts", 2022 (CLIPSeg).
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ..errors import ModelError, UsageError
from ..weights.catalogue import DETECTORS
from ..weights.device import pick_device
from ..weights.hub import cached, fetch, from_pretrained
from ..weights.parts import lacking
from . import masks
from .backends import load
from .protocol import Masks, Prompts, Segmenter


def find(
    pixels: UInt8[np.ndarray, "H W 3"],
    text: str,
    *,
    detector: str = "auto",
    backend: str | Path | Segmenter = "auto",
    least_score: float = 0.3,
    offline: bool = False,
    device: str = "auto",
) -> Masks:
    """Every instance of what `text` says, best first, with scores in [0, 1].

    `detector` is a hub id or local folder of a Grounding DINO or CLIPSeg model, or "auto" for the first of `DETECTORS`
    on this machine. Grounding DINO's boxes become masks by `backend`; CLIPSeg's map is cut at `least_score` into its
    connected parts. Raises UsageError, naming the best score, if none reaches `least_score`; ModelError if the weights
    are not at hand.
    """
    phrase = text.strip().lower().rstrip(".")
    if not phrase:
        raise UsageError("The text to select by is empty; say what to look for.")
    kind, processor, model = load_detector(detector, offline, device)
    if kind == "clipseg":
        return _by_map(pixels, phrase, processor, model, least_score)
    boxes, scores = _boxes(pixels, phrase, processor, model)
    keep = scores >= least_score
    if not keep.any():
        raise _nothing(text, scores, least_score)
    encoded = load(backend, offline, device).encode(pixels)
    found = [encoded.predict(Prompts(box=box)) for box in boxes[keep]]
    order = np.argsort(-scores[keep], kind="stable")
    return Masks(
        np.stack([found[k].best for k in order]), scores[keep][order], found[0].backend, (phrase,) * len(found)
    )


def load_detector(name: str = "auto", offline: bool = False, device: str = "auto") -> tuple[str, Any, Any]:
    """Its kind ("grounding-dino" or "clipseg"), processor and model; "auto" sees what was fetched meanwhile.

    Raises:
        ModelError: weights that cannot be had, or of another kind.
    """
    if name == "auto":
        here = (one.name for one in DETECTORS if (folder := cached(one.name)) and not lacking(folder))
        name = next(here, "")
        if not name:
            raise ModelError(
                f"No model to select by text is on this machine; run: inlay models download {DETECTORS[1].name}"
            )
    return _open(fetch(name, offline=offline), str(pick_device(device)))


@lru_cache(maxsize=1)
def _open(folder: Path, device: str) -> tuple[str, Any, Any]:
    import transformers

    config = from_pretrained(transformers.AutoConfig, str(folder), True)
    if config.model_type not in ("grounding-dino", "clipseg"):
        raise ModelError(f"{folder} is a {config.model_type} model; a text needs Grounding DINO or CLIPSeg.")
    kind = {
        "grounding-dino": transformers.GroundingDinoForObjectDetection,
        "clipseg": transformers.CLIPSegForImageSegmentation,
    }[config.model_type]
    processor = from_pretrained(transformers.AutoProcessor, str(folder), True)
    model = from_pretrained(kind, str(folder), True).eval().requires_grad_(False).to(device)
    return config.model_type, processor, model


def _boxes(
    pixels: UInt8[np.ndarray, "H W 3"], phrase: str, processor: Any, model: Any
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"]]:
    """Grounding DINO's boxes in the photo, doubles dropped, and their scores."""
    import torch
    from torchvision.ops import nms

    height, width = pixels.shape[:2]
    entry = processor(images=pixels, text=f"{phrase}.", return_tensors="pt").to(model.device)
    with torch.no_grad():
        answer = model(**entry)
    (found,) = processor.post_process_grounded_object_detection(
        answer, entry["input_ids"], threshold=0.0, text_threshold=0.0, target_sizes=[(height, width)]
    )
    keep = nms(found["boxes"], found["scores"], 0.7)
    boxes = found["boxes"][keep].clamp(min=0).cpu().numpy().astype(np.float32)
    boxes = np.minimum(boxes, np.array([width, height, width, height], np.float32))
    large = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    return boxes[large], found["scores"][keep].cpu().numpy()[large]


def _by_map(pixels: UInt8[np.ndarray, "H W 3"], phrase: str, processor: Any, model: Any, least_score: float) -> Masks:
    """CLIPSeg's map cut into connected parts, each scored by its peak."""
    import cv2
    import torch

    entry = processor(images=[pixels], text=[phrase], padding=True, return_tensors="pt").to(model.device)
    with torch.no_grad():
        logits = model(**entry).logits
    low = torch.sigmoid(logits).reshape(logits.shape[-2:]).cpu().numpy()
    chance = cv2.resize(low, (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_LINEAR)
    if not (chance >= least_score).any():
        raise _nothing(phrase, chance, least_score)
    parts = masks.components(masks.drop_specks(chance >= least_score))
    scores = np.array([chance[part].max() for part in parts], np.float32)
    order = np.argsort(-scores, kind="stable")
    return Masks(parts[order], scores[order], "clipseg", (phrase,) * len(parts))


def _nothing(text: str, scores: Float[np.ndarray, "..."], least_score: float) -> UsageError:
    best = f"{scores.max():.2f}" if scores.size else "none"
    return UsageError(f"Nothing like {text!r} is found: the best score is {best}, and {least_score:g} is needed.")
