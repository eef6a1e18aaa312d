"""What finds classes in images: transformers models of both kinds, and label maps from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from inlay.errors import ModelError, PhotoError, UsageError
from inlay.evaluation.segmenters import NOTHING, LabelMaps, TransformersSegmenter, load_segmenter
from inlay.tests.evaluation.tiny_networks import tiny_instances, tiny_semantic
from PIL import Image

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


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
    with pytest.raises(ModelError, match="inlay models download some/model"):
        load_segmenter("some/model", {})
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="is not a whole model, it has no weights"):
        load_segmenter(str(tmp_path), {})
