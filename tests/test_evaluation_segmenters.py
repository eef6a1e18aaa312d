"""What finds classes in images: transformers models of both kinds, and label maps from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from inlay.errors import ModelError, PhotoError, UsageError
from inlay.evaluation.segmenters import NOTHING, LabelMaps, TransformersSegmenter, load_segmenter
from PIL import Image

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
LABELS = {0: "Cat", 1: "hot dog"}


def tiny_semantic(folder: Path) -> Path:
    """A random SegFormer with its processor."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8, id2label=LABELS
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def tiny_instances(folder: Path) -> Path:
    """A random Mask2Former with its processor."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, out_features=stages
    )
    small = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "dim_feedforward": 16}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_feedforward_dim": 16, "num_attention_heads": 2}
    config = Mask2FormerConfig(backbone_config=backbone, num_queries=6, id2label=LABELS, **small, **layers)
    model = Mask2FormerForUniversalSegmentation(config)
    model.class_predictor.bias.data = torch.tensor([0.0, 6.0, 0.0])  # certain enough of class 1 to pass the threshold
    model.save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def test_semantic_model(tmp_path: Path) -> None:
    segmenter = load_segmenter(str(tiny_semantic(tmp_path)), {})
    assert isinstance(segmenter, TransformersSegmenter)
    assert segmenter.classes == {"cat": 0, "hot dog": 1}
    labels = segmenter.label(IMAGE, "any")
    assert labels.shape == IMAGE.shape[:2]
    assert set(np.unique(labels)) <= {0, 1}


def test_instance_model(tmp_path: Path) -> None:
    segmenter = load_segmenter(str(tiny_instances(tmp_path)), {})
    labels = segmenter.label(IMAGE, "any")
    assert labels.shape == IMAGE.shape[:2]
    assert set(np.unique(labels)) <= {NOTHING, 1}
    assert (labels == 1).any()


def test_label_maps(tmp_path: Path) -> None:
    labels = np.full((40, 60), 300, np.uint16)
    (tmp_path / "plain" / "0").mkdir(parents=True)
    Image.fromarray(labels).save(tmp_path / "plain" / "0" / "7.png")
    segmenter = load_segmenter(str(tmp_path), {"Cat": 300})
    assert isinstance(segmenter, LabelMaps)
    assert segmenter.classes == {"cat": 300}
    assert (segmenter.label(IMAGE, "plain/0/7.jpg") == 300).all()
    with pytest.raises(PhotoError, match="There is no label map"):
        segmenter.label(IMAGE, "plain/0/8.png")
    Image.fromarray(IMAGE).save(tmp_path / "9.png")
    with pytest.raises(UsageError, match="is in colour"):
        segmenter.label(IMAGE, "9.png")


def test_what_is_no_segmenter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hf download some/model"):
        load_segmenter("some/model", {})
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="is not a segmentation model"):
        load_segmenter(str(tmp_path), {})
