"""Tiny random networks that judge images, saved as transformers saves real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from inlay.tests import tiny

LABELS = ("Cat", "hot dog")


def tiny_semantic(folder: Path, labels: Sequence[str] = LABELS) -> Path:
    """A random SegFormer with its processor."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1] * 4,
        num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
        id2label=dict(enumerate(labels)),
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
    config = Mask2FormerConfig(
        backbone_config=backbone, num_queries=6, id2label=dict(enumerate(LABELS)), **small, **layers
    )
    model = Mask2FormerForUniversalSegmentation(config)
    model.class_predictor.bias.data = torch.tensor([0.0, 6.0, 0.0])  # certain enough of class 1 to pass the threshold
    model.save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def tiny_clip(folder: Path) -> Path:
    """A random CLIP model with its processor, in transformers layout."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    names = tiny.tokenizer(folder / "tokens")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"vocab_size": len(names), "bos_token_id": len(names) - 2, "eos_token_id": len(names) - 1}
    config = CLIPConfig(
        text_config={**small, **ends, "max_position_embeddings": 16},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, names).save_pretrained(folder)
    return folder
