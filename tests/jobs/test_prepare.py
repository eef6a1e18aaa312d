"""What is refused before a model is loaded."""

import numpy as np
import pytest
from inlay.editing.job import EditJob, checked
from inlay.errors import UsageError
from inlay.jobs.perform import prepare
from PIL import Image


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"words": ["zebra"], "method": "segmenter"}, "no class for the words 'zebra'"),
        ({"words": ["zebra"], "method": "segmenter+zest"}, "no class for the words 'zebra'"),
    ],
)
def test_what_no_model_is_needed_for_is_refused_first(settings, said, tmp_path, monkeypatch):
    monkeypatch.setattr("inlay.editing.editor.Editor.from_pretrained", None)
    pixels = np.zeros((40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    Image.fromarray(np.uint8(255 * (pixels[..., 0] == 0))).save(tmp_path / "mask.png")
    files = {"photo": str(tmp_path / "photo.png"), "mask": [str(tmp_path / "mask.png")]}
    job = checked(EditJob, prompt="a zebra and a cat", **files, **settings)
    with pytest.raises(UsageError, match=said):
        prepare(job)
    known = {**settings, "words": ["cat"]}
    assert prepare(checked(EditJob, prompt="a zebra and a cat", **files, **known)).places.mask is not None
