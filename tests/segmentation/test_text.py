"""Masks by text, on tiny random models of the real kinds."""

import numpy as np
import pytest
import torch
import transformers as t
from inlay.errors import ModelError, UsageError
from inlay.segmentation import segment

WORDS = ["dog", "cat", "red", "."]


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grounding")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = t.BertTokenizer(str(folder / "vocab.txt"))
    size = {"shortest_edge": 32, "longest_edge": 48}
    t.GroundingDinoProcessor(t.GroundingDinoImageProcessor(size=size), tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    swin = t.SwinConfig(
        image_size=32, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    bert = t.BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=256,
    )  # fmt: skip
    config = t.GroundingDinoConfig(
        backbone_config=swin, text_config=bert, d_model=32, num_queries=10, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        num_feature_levels=3, max_text_len=256,
    )  # fmt: skip
    t.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["clipseg", "grounding_dino"])
def test_a_text_gives_instances_with_scores(kind, photo, request):
    from inlay.segmentation.text import find

    detector = request.getfixturevalue(kind)
    found = find(photo, "dog", detector=detector, backend="grabcut", least_score=0.01, offline=True)
    assert found.masks.shape[1:] == (40, 60)
    assert found.phrases == ("dog",) * len(found.masks)
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() >= 0.01
    assert found.backend == ("clipseg" if kind == "clipseg" else "grabcut")


@pytest.mark.parametrize("kind", ["clipseg", "grounding_dino"])
def test_no_match_names_the_best_score(kind, photo, request):
    from inlay.segmentation.text import find

    with pytest.raises(
        UsageError, match=r"Nothing like 'dog' is found: the best score is [01]\.\d\d, and 1\.5 is needed"
    ):
        find(photo, "dog", detector=request.getfixturevalue(kind), least_score=1.5, offline=True)


def test_another_model_is_refused(photo, tmp_path):
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    t.BertModel(t.BertConfig(vocab_size=9, **shape)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a bert model; a text needs Grounding DINO or CLIPSeg"):
        segment(photo, text="dog", detector=str(tmp_path), offline=True)
