"""What a pass takes is counted before it runs, and how it runs follows from that."""

from dataclasses import replace

import pytest
import torch
from diffusers import ControlNetModel
from inlay.benchmarks.guidance import build
from inlay.diffusion.memory import Level, above, fitting, needed
from inlay.diffusion.text import Prompts
from inlay.editing.editor import Editor
from inlay.errors import OutOfMemoryError
from inlay.guidance.zest import Zest
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
BIG_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
BIG_G |= {"projection_dim": 1280, "hidden_act": "gelu"}
"""As in the text encoders' config.json of stabilityai/stable-diffusion-xl-base-1.0."""


def shaped(name, controls=0):
    """A model of the meta device in half precision, with the text encoders of its kind in full, and ControlNets."""
    model = build(name, "meta", torch.float16)
    with torch.device("meta"):
        encoders = [CLIPTextModel(CLIPTextConfig(**CLIP_L))]
        if name == "sdxl":
            encoders.append(CLIPTextModelWithProjection(CLIPTextConfig(**BIG_G)))
        nets = [ControlNetModel.from_unet(model.unet, load_weights_from_unet=False) for _ in range(controls)]
    prompts = Prompts(model.prompts.tokenizers, [encoder.half() for encoder in encoders])
    return replace(model, prompts=prompts, controls=tuple(net.half().requires_grad_(False) for net in nets))


def test_stable_diffusion_15_fits_into_4_gb_as_it_is_and_sdxl_into_8():
    small, large = shaped("sd15"), shaped("sdxl")
    parameters = [sum(weight.numel() for weight in encoder.parameters()) for encoder in large.prompts.encoders]
    assert parameters == [123_060_480, 694_659_840]  # those of the published weights
    assert fitting(small, 1, (512, 512), False, 4e9) == Level(1)
    assert fitting(large, 1, (1024, 1024), False, 8e9) == Level(1, spared=True)
    assert fitting(large, 1, (1024, 1024), False, 5e9) is None  # the UNet's weights alone have 5.1


def test_controls_count_with_what_they_compute():
    size, level = (512, 512), Level(1)
    plain, one, two = (above(shaped("sd15", controls), level, size, False) for controls in (0, 1, 2))
    sides = (64,) * 3 + (32,) * 3 + (16,) * 3 + (8,) * 4
    channels = (320,) * 4 + (640,) * 3 + (1280,) * 6
    residuals = sum(2 * 2 * width * side**2 for width, side in zip(channels, sides, strict=True))  # two rows, fp16
    assert one - plain > residuals / 2  # most live when the UNet needs most
    assert two > one
    assert above(shaped("sd15", 1), level, size, True) > 1.3 * above(shaped("sd15"), level, size, True)


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
