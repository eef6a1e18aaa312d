"""What ships: the weights in stock diffusers, the segmenters, the vocabulary, the benchmark."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from inlay.errors import ModelError
from inlay.evaluation.datasets import open_dataset
from inlay.toybox.segmenter import Segmenter, load_segmenter
from inlay.toybox.vocabulary import shipped
from inlay.weights.diffusion import belongings
from PIL import Image

TOYBOX = Path(__file__).parents[2] / "toybox"
WEIGHTS = TOYBOX / "weights"


def test_stock_diffusers_makes_pictures_of_it() -> None:
    """No code of ours, no dtype given; the same seed gives the same picture, which is no flat field."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS)
    pipeline.set_progress_bar_config(disable=True)

    def make(prompt: str, seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        return np.asarray(pipeline(prompt, num_inference_steps=8, generator=generator).images[0])

    first = make("an apple on grass", 0)
    assert first.shape == (256, 256, 3)
    assert np.array_equal(first, make("an apple on grass", 0))
    assert first.std() > 10
    assert np.abs(first.astype(int) - make("a house in the snow", 0)).mean() > 10


def test_the_scheduler_config_is_as_the_loop_needs_it() -> None:
    from diffusers import DDIMScheduler

    file = json.loads((WEIGHTS / "scheduler" / "scheduler_config.json").read_text())
    settings = DDIMScheduler.from_config(file).config
    wanted = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.02,
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 1,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": False,
    }
    assert wanted.items() <= settings.items()


def test_tokens_have_the_same_numbers_in_the_old_file_format() -> None:
    model = json.loads((WEIGHTS / "tokenizer" / "tokenizer.json").read_text())["model"]
    _, *merges = (WEIGHTS / "tokenizer" / "merges.txt").read_text().splitlines()
    assert json.loads((WEIGHTS / "tokenizer" / "vocab.json").read_text()) == model["vocab"]
    assert merges == [" ".join(pair) for pair in model["merges"]]


def test_weights_are_small_files() -> None:
    sizes = [file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()]
    assert sum(sizes) <= 30e6
    assert max(sizes) <= 15e6
    assert all((WEIGHTS / name / "model.safetensors").stat().st_size <= 2e6 for name in ("guide", "judge"))


def test_segmenters_differ_and_find_what_is_there() -> None:
    dataset = open_dataset("toybox")
    pictures = dataset.pictures[:60:3]
    pixels = np.stack([np.asarray(Image.open(picture.file)) for picture in pictures])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    guide, judge = load_segmenter("guide"), load_segmenter("judge")
    assert type(guide.network) is not type(judge.network)
    assert guide.classes == judge.classes == ["background", *shipped()["nouns"]]
    for segmenter in (guide, judge):
        logits = segmenter(images)
        assert logits.shape == (len(pictures), len(segmenter.classes), *images.shape[-2:])
        right = 0
        for label, picture in zip(logits.argmax(1).numpy(), pictures, strict=True):
            (segment,) = picture.instances
            found = Counter(label[segment.mask].tolist()).most_common(1)[0][0]
            right += segmenter.classes[found] == segment.category
        assert right >= 0.8 * len(pictures)


def test_segmenters_take_any_size_and_pass_gradients() -> None:
    for name in ("guide", "judge"):
        image = torch.rand(1, 3, 53, 70, requires_grad=True)
        segmenter = load_segmenter(name)
        logits = segmenter(image)
        assert logits.shape[-2:] == (53, 70)
        logits.sum().backward()
        assert image.grad is not None
        assert not any(parameter.requires_grad for parameter in segmenter.parameters())


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_segmenter_survives_its_file(tmp_path: Path, scale: float) -> None:
    torch.manual_seed(0)
    made = Segmenter("judge", ["background", "apple"], scale).eval()
    made.save(tmp_path / "judge")
    image = torch.rand(1, 3, 33, 46)
    assert made(image).shape == (1, 2, 33, 46)
    assert torch.allclose(load_segmenter("judge", tmp_path)(image), made(image), atol=1e-2)
    with pytest.raises(ModelError, match="has no segmenter"):
        load_segmenter("guide", tmp_path)


def test_vocabulary() -> None:
    vocabulary = belongings("toybox").vocabulary
    assert vocabulary is not None
    assert vocabulary.unknown("An apple and a zebra on the grass, a ZEBRA") == ["zebra"]
    assert vocabulary.unknown("two toadstools in the snow") == []
    assert vocabulary.classes["apple"] == vocabulary.classes["apples"] == 1
    assert vocabulary.classes["toadstool"] == vocabulary.classes["mushroom"]
    assert not {"zebra", "grass"} & vocabulary.classes.keys()


def test_benchmark_is_sixty_and_sixty() -> None:
    dataset = open_dataset("toybox")
    assert Counter(len(picture.instances) > 1 for picture in dataset.pictures) == {False: 60, True: 60}
    assert set(dataset.categories) == set(shipped()["nouns"])
    assert sum(file.stat().st_size for file in (TOYBOX / "benchmark").rglob("*") if file.is_file()) <= 6e6
    for picture in dataset.pictures:
        width, height = Image.open(picture.file).size
        assert picture.instances[0].mask.shape == (height, width)
        assert sum(segment.behind is not None for segment in picture.instances) == 1
        covered = np.stack([segment.mask for segment in picture.instances]).sum(axis=0)
        assert covered.max() == 1  # masks show what is seen: they never overlap
