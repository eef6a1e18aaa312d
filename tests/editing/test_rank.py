"""Rankers: a tiny real CLIP model, toybox's own segmenter, and the surroundings of what was taken away."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from inlay import Photo
from inlay.editing.rank import ClipRanker, GuideRanker, SurroundingsRanker
from inlay.errors import ModelError
from inlay.evaluation.datasets import open_dataset
from inlay.evaluation.protocols import select_scenes
from inlay.evaluation.removal import behind
from inlay.tests import tiny
from inlay.weights.diffusion import belongings


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    names = tiny.tokenizer(folder)
    torch.manual_seed(0)
    marks = {"bos_token_id": names.bos_token_id, "eos_token_id": names.eos_token_id, "vocab_size": len(names)}
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**shape, **marks, "max_position_embeddings": 16},
        vision_config={**shape, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    names.save_pretrained(folder)
    return folder


def test_clip_scores_the_masked_place_alone(clip_folder):
    ranker = ClipRanker(clip_folder)
    images = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(40, 48)
    mask[10:26, 12:28] = 1
    scores = ranker(images, mask, "a red apple")
    assert scores is not None
    assert all(-1 <= score <= 1 for score in scores)
    assert scores[0] != scores[1]
    elsewhere = images.clone()
    elsewhere[:, :, 30:, 30:] = 0
    assert ranker(elsewhere, mask, "a red apple") == scores


def test_what_was_taken_away_ranks_above_what_is_still_there_half_of_it_between():
    scenes, _ = select_scenes(open_dataset("toybox"), "remove")
    ranker = SurroundingsRanker()
    for scene in scenes[:24]:
        photo, empty = Photo.open(scene.picture.file).pixels / 255, behind(scene) / 255
        pictures = np.stack([photo, (photo + empty) / 2, empty]).astype(np.float32)
        (mask,) = scene.masks
        scores = ranker(torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.from_numpy(mask).float(), "")
        assert scores is not None
        assert 0 <= scores[0] < scores[1] < scores[2] <= 1, scene.name


def test_a_place_without_surroundings_is_not_ranked():
    assert SurroundingsRanker()(torch.rand(1, 3, 16, 16), torch.ones(16, 16), "") is None


def test_missing_clip_weights_are_named(tmp_path):
    with pytest.raises(ModelError, match="has no config"):
        ClipRanker(tmp_path)


def test_a_model_with_a_guide_ranks_by_what_the_prompt_names(models):
    ranker = GuideRanker(replace(models("sd1"), name="toybox", belongings=belongings("toybox")))
    assert ranker.name == "toybox guide"
    noise = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    scores = ranker(noise, torch.ones(128, 128), "a cat")
    assert scores is not None
    assert all(0 <= score <= 1 for score in scores)
    assert ranker(noise, torch.ones(128, 128), "something else") is None
