"""What says where things are in an image that was made: a label map per image.

toybox's own, any transformers model for semantic, instance or panoptic segmentation, or maps made elsewhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int, UInt8

from ..errors import ModelError, PhotoError
from ..photos.mask_files import load_labels
from ..weights.catalogue import SEGMENTERS, embedded_segmenter
from ..weights.hub import fetch, quiet

NOTHING = -1


class Segmenter(Protocol):
    """Finds classes in images."""

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> Mapping[str, int]:
        """Ids in the maps by lower-case name."""
        ...

    def label(self, image: UInt8[np.ndarray, "h w 3"], file: str) -> Int[np.ndarray, "h w"]:
        """The class id of every pixel; `file` is the image's path below its folder."""
        ...


def load_segmenter(name: str, categories: Mapping[str, int]) -> Segmenter:
    """`judge` or `guide` of toybox, a folder of label maps (ids as in the dataset's `categories`), or a transformers
    model by id or folder.

    Raises ModelError if weights are missing or of another kind.
    """
    if name in SEGMENTERS:
        return ToyboxSegmenter(name)
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        return LabelMaps(folder, categories)
    return TransformersSegmenter(name)


class ToyboxSegmenter:
    """One of toybox's own: the judge, for reports, or the guide, for what must not be chosen by the judge."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.network = embedded_segmenter(SEGMENTERS[name])
        self.classes = {name: index for index, name in enumerate(self.network.classes) if index > 0}

    def label(self, image: UInt8[np.ndarray, "h w 3"], file: str) -> Int[np.ndarray, "h w"]:
        with torch.no_grad():
            logits = self.network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
        return logits[0].argmax(dim=0).numpy()


class TransformersSegmenter:
    """A segmentation model of transformers with its image processor."""

    def __init__(self, name: str) -> None:
        from transformers import (
            AutoConfig,
            AutoImageProcessor,
            AutoModelForSemanticSegmentation,
            AutoModelForUniversalSegmentation,
        )

        folder = fetch(name, offline=True)
        self.name = name
        try:
            with quiet("transformers"):
                self.processor: Any = AutoImageProcessor.from_pretrained(folder)
                config = AutoConfig.from_pretrained(folder)
                self.semantic = type(config) in AutoModelForSemanticSegmentation._model_mapping
                family = AutoModelForSemanticSegmentation if self.semantic else AutoModelForUniversalSegmentation
                self.network: Any = family.from_pretrained(folder).eval()
        except (OSError, ValueError) as error:
            raise ModelError(f"{name} is not a segmentation model of transformers; name another.") from error
        self.classes = {label.lower(): index for index, label in self.network.config.id2label.items()}

    def label(self, image: UInt8[np.ndarray, "h w 3"], file: str) -> Int[np.ndarray, "h w"]:
        with torch.no_grad():
            found = self.network(**self.processor(images=image, return_tensors="pt"))
        size = image.shape[:2]
        if self.semantic:
            return self.processor.post_process_semantic_segmentation(found, target_sizes=[size])[0].numpy()
        things = self.processor.post_process_panoptic_segmentation(found, label_ids_to_fuse=set(), target_sizes=[size])
        segments, labels = things[0]["segmentation"].numpy(), np.full(size, NOTHING)
        for segment in things[0]["segments_info"]:
            labels[segments == segment["id"]] = segment["label_id"]
        return labels


class LabelMaps:
    """Maps made elsewhere: a single-channel PNG of category ids per image, at the image's path below `folder`."""

    def __init__(self, folder: Path, categories: Mapping[str, int]) -> None:
        self.name, self.folder = str(folder), folder
        self.classes = {name.lower(): number for name, number in categories.items()}

    def label(self, image: UInt8[np.ndarray, "h w 3"], file: str) -> Int[np.ndarray, "h w"]:
        path = (self.folder / file).with_suffix(".png")
        if not path.is_file():
            raise PhotoError(f"There is no label map {path}; make one per image, named as the image is.")
        return load_labels(path)
