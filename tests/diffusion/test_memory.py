"""What a pass takes is counted before it runs, and how it runs follows from that."""

import pytest
import torch
from inlay.benchmarks.guidance import build
from inlay.diffusion.memory import Level, fitting, needed
from inlay.editing.editor import Editor
from inlay.errors import OutOfMemoryError
from inlay.guidance.zest import Zest


def test_stable_diffusion_15_fits_into_4_gb_as_it_is_and_sdxl_into_8() -> None:
    small, large = (build(shape, "meta", torch.float16) for shape in ("sd15", "sdxl"))
    assert fitting(small, 1, (512, 512), False, 4e9) == Level(1)
    assert fitting(large, 1, (1024, 1024), False, 8e9) == Level(1, spared=True)
    assert fitting(large, 1, (1024, 1024), False, 5e9) is None  # the UNet's weights alone have 5.1


def test_what_saves_memory_takes_less(models) -> None:
    model, size = models("sd1"), (128, 128)
    plain, spared, two = (needed(model, level, size, True) for level in (Level(1), Level(1, True), Level(2)))
    assert spared < plain < two
    assert plain > needed(model, Level(1), size, False)


def test_a_limit_decides_the_batch_before_the_loop(models) -> None:
    model = models("sd1")
    room = needed(model, Level(2), (64, 64), False) / 1e9
    result = Editor(model, max_memory=room).generate("a red cat", size=(64, 64), steps=2, num_images=4)
    assert result.settings[0].facts.fallbacks == ("batches of 2",)
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        Editor(model, max_memory=1e-6).generate("a red cat", size=(64, 64), steps=2)


def test_a_method_is_taken_to_need_gradients(models) -> None:
    model, size = models("sd1"), (128, 128)
    editor = Editor(model, max_memory=needed(model, Level(1, spared=True), size, True) / 1e9)
    assert editor._level(1, size, Zest()) == Level(1, spared=True)
