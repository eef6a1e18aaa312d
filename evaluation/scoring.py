"""The score of one image that was made for a scene."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from ..photos.photo import Photo
from .background import BackgroundFidelity, background_fidelity, keep_background
from .features import Clip, FeatureNetwork, Lpips
from .overlap import Overlap, class_overlap, kept_apart
from .protocols import Scene
from .segmenters import Segmenter

FOUND = 0.25
"""Share of the area asked for that a class must cover, wherever, to count as found."""


@dataclass(frozen=True)
class Score:
    """What was measured on one image; None where a metric does not apply or its weights are not at hand.

    `recall`: the share of the classes asked for that were found, wherever; `apart`: whether the instances of each class
    that was asked for more than once are objects of their own.
    """

    scene: str
    seed: int
    overlaps: Mapping[str, Overlap]
    recall: float
    apart: bool | None
    features: Float[np.ndarray, " d"]
    clip_score: float | None = None
    background: BackgroundFidelity | None = None
    lpips: float | None = None

    @property
    def miou(self) -> float:
        """The mean over the classes that were asked for in this image."""
        return float(np.mean([overlap.iou for overlap in self.overlaps.values()]))


@dataclass(frozen=True)
class Scorer:
    """Everything that looks at images; the same for every method of a table."""

    segmenter: Segmenter
    network: FeatureNetwork
    clip: Clip | None = None
    lpips: Lpips | None = None
    edit: bool = False

    def __call__(self, scene: Scene, seed: int, image: UInt8[np.ndarray, "h w 3"], file: str) -> Score:
        """Score an image, named `file` where label maps are looked up; of an edit, its background too."""
        labels = self.segmenter.label(image, file)
        asked = scene.class_masks()
        found = classes_found(labels, asked, self.segmenter.classes)
        groups = [(found[category], masks) for category, masks in scene.instances().items() if len(masks) > 1]
        background, lpips = self._background(scene, image) if self.edit else (None, None)
        return Score(
            scene.name,
            seed,
            {category: class_overlap(found[category], mask) for category, mask in asked.items()},
            float(np.mean([found[category].sum() >= FOUND * mask.sum() for category, mask in asked.items()])),
            all(kept_apart(where, masks) for where, masks in groups) if groups else None,
            self.network.features(image),
            self.clip.score(image, scene.prompt) if self.clip else None,
            background,
            lpips,
        )

    def _background(self, scene: Scene, edited: UInt8[np.ndarray, "h w 3"]) -> tuple[BackgroundFidelity, float | None]:
        photo, mask = Photo.open(scene.picture.file).pixels, scene.masks[0]
        lpips = self.lpips.distance(photo, keep_background(photo, edited, mask)) if self.lpips else None
        return background_fidelity(photo, edited, mask), lpips


def classes_found(
    labels: Int[np.ndarray, "h w"], masks: Mapping[str, Bool[np.ndarray, "H W"]], ids: Mapping[str, int]
) -> dict[str, Bool[np.ndarray, "H W"]]:
    """Where each asked class is in the label map, which is brought to the masks' size by nearest neighbour."""
    found = {}
    for category, mask in masks.items():
        where = Image.fromarray(labels == ids[category.lower()])
        found[category] = np.asarray(where.resize(mask.shape[::-1], Image.Resampling.NEAREST))
    return found
