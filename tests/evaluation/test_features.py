"""Fréchet distances, CLIP scores and LPIPS, on tiny random networks saved as real ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from inlay.errors import ModelError
from inlay.evaluation.features import Clip, InceptionFeatures, Lpips, frechet_distance, load_features
from inlay.evaluation.job import CLIP
from inlay.tests.evaluation.tiny_networks import tiny_clip
from PIL import Image

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return Clip(str(tiny_clip(tmp_path_factory.mktemp("clip"))))


def test_frechet_distance_of_known_normal_distributions() -> None:
    """Between N(m, a²) and N(n, b²) in each of d dimensions: d ((m − n)² + (a − b)²)."""
    rng = np.random.default_rng(0)
    real, made = rng.normal(0, 1, (20_000, 3)), rng.normal(2, 3, (20_000, 3))
    assert frechet_distance(real, made) == pytest.approx(3 * (4 + 4), rel=0.03)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(real, made) == pytest.approx(frechet_distance(made, real))


def test_frechet_distance_of_fewer_images_than_features() -> None:
    features = np.random.default_rng(0).normal(0, 1, (10, 32)).astype(np.float32)
    assert frechet_distance(features, features + 1) == pytest.approx(32, rel=1e-3)


def test_clip_score_is_torchmetrics_cosine(clip: Clip) -> None:
    """Against the two encoders called one by one."""
    words = clip.processor(text="a red apple", return_tensors="pt")
    pixels = clip.processor(images=Image.fromarray(IMAGE), return_tensors="pt")
    with torch.no_grad():
        text = clip.network.get_text_features(**words).pooler_output
        image = clip.network.get_image_features(**pixels).pooler_output
    expected = max(0.0, 100 * float(torch.cosine_similarity(text, image)))
    assert clip.score(IMAGE, "a red apple") == pytest.approx(expected, abs=1e-3)
    assert clip.features(IMAGE) == pytest.approx(image[0].numpy(), abs=1e-5)


def test_clip_cuts_long_prompts(clip: Clip) -> None:
    assert 0 <= clip.score(IMAGE, "a red apple and " * 20) <= 100


@pytest.mark.parametrize(
    ("name", "words"), [("clip", f"inlay models download {CLIP}"), ("no/such model", "not on this machine")]
)
def test_missing_weights_say_how_to_get_them(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=words):
        load_features(name)


def test_a_folder_without_a_clip_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no config"):
        load_features(str(tmp_path))


def test_missing_inception_and_lpips_weights_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"weights-inception.*inlay models download inception"):
        load_features("inception")
    with pytest.raises(ModelError, match=r"alexnet.*inlay models download alexnet"):
        Lpips()


@pytest.mark.slow
def test_inception_and_lpips_run_on_weights_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in the place of the published ones."""
    import torchvision
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
    torch.save({}, cache / "weights-inception-2015-12-05-6726825d.pth")
    assert InceptionFeatures().features(IMAGE).shape == (2048,)
    torch.save(torchvision.models.alexnet().state_dict(), cache / "alexnet-owt-7be5be79.pth")
    lpips = Lpips()
    assert lpips.distance(IMAGE, IMAGE) == pytest.approx(0, abs=1e-6)
    assert lpips.distance(IMAGE, 255 - IMAGE) > 0
