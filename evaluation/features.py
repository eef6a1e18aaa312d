"""How far the distribution of made images is from the real one, and how well an image fits its prompt.

A Fréchet distance is named by the network whose features it compares: only Inception's is the FID. Images are brought
to the network's size by Pillow (bicubic, antialiased), as clean-fid does.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from ..errors import extra
from ..weights.catalogue import SEGMENTERS, embedded_segmenter, file_at_hand
from ..weights.hub import from_pretrained
from .job import CLIP

INCEPTION_SIDE = 299


class FeatureNetwork(Protocol):
    """Turns an image into the vector that a Fréchet distance compares."""

    name: str

    def features(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]: ...


def load_features(name: str) -> FeatureNetwork:
    """`judge`, `inception`, `clip` (ViT-B/32), or a CLIP model by id or folder; ModelError where weights lack."""
    if name == "judge":
        return JudgeFeatures()
    if name == "inception":
        return InceptionFeatures()
    return Clip(CLIP if name == "clip" else name)


def frechet_distance(real: Float[np.ndarray, "n d"], made: Float[np.ndarray, "m d"]) -> float:
    """The Fréchet distance of the normal distributions fitted to two sets of at least two feature vectors.

    It falls with the number of images for the same generator: compare only distances over as many.
    """
    apart = real.mean(axis=0) - made.mean(axis=0)
    spreads = np.cov(real, rowvar=False), np.cov(made, rowvar=False)
    shared = np.sqrt(np.linalg.eigvals(spreads[0] @ spreads[1]).real.clip(min=0)).sum()
    return float(apart @ apart + np.trace(spreads[0] + spreads[1]) - 2 * shared)


class JudgeFeatures:
    """What the last layer of the toybox's judge reads, averaged over the image."""

    name = "judge"

    def __init__(self) -> None:
        self.network = embedded_segmenter(SEGMENTERS["judge"])

    def features(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
        seen: list[torch.Tensor] = []
        hook = self.network.network.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            self.network(_tensor(image))
        hook.remove()
        return seen[0].mean(dim=(-2, -1))[0].numpy()


class InceptionFeatures:
    """The 2,048 pooled features of the Inception network that the FID is defined with."""

    name = "Inception v3"

    def __init__(self) -> None:
        weights = file_at_hand("inception")
        with extra("inception"):
            import torch_fidelity  # noqa: F401, torchmetrics says only later that it needs it
            from torchmetrics.image.fid import NoTrainInceptionV3
        self.network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))

    def features(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
        side = INCEPTION_SIDE
        resized = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        with torch.no_grad():
            return self.network(torch.from_numpy(resized).permute(2, 0, 1)[None])[0].numpy()


class Clip:
    """A CLIP model: image features for the Fréchet distance (FID_CLIP), and the CLIP score."""

    def __init__(self, model: str) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.name = f"CLIP {Path(model).name}"
        self.network: Any = from_pretrained(CLIPModel, model, offline=True).eval()
        self.processor: Any = from_pretrained(CLIPProcessor, model, offline=True)

    def features(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
        inputs = self.processor(images=Image.fromarray(image), return_tensors="pt")
        with torch.no_grad():
            return self.network.visual_projection(self.network.vision_model(**inputs).pooler_output)[0].numpy()

    def score(self, image: UInt8[np.ndarray, "h w 3"], prompt: str) -> float:
        """100 times the cosine of image and prompt, not below 0 (CLIPScore without its factor 2.5, as in Zest)."""
        inputs = self.processor(text=prompt, images=Image.fromarray(image), return_tensors="pt", truncation=True)
        with torch.no_grad():
            found = self.network(**inputs)
        return max(0.0, 100 * float((found.image_embeds * found.text_embeds).sum()))


class Lpips:
    """Learned perceptual distance (LPIPS, AlexNet) of a photo and its edit's background; 0 where they are equal."""

    def __init__(self) -> None:
        file_at_hand("alexnet")  # torchvision finds it there
        with extra("evaluate"):
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        self.network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)

    def distance(self, photo: UInt8[np.ndarray, "h w 3"], background: UInt8[np.ndarray, "h w 3"]) -> float:
        with torch.no_grad():
            return float(self.network(_tensor(photo), _tensor(background)))


def _tensor(image: UInt8[np.ndarray, "h w 3"]) -> Float[torch.Tensor, "1 3 h w"]:
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255
