"""What adapters make of a model is what diffusers' own pipelines make with them, and nothing is loaded in part."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inlay.diffusion.denoiser import gaussian, generators
from inlay.diffusion.model import Model
from inlay.diffusion.reference import Eye
from inlay.diffusion.samplers import TRAILING
from inlay.diffusion.schedule import scheduler_class
from inlay.editing.job import GenerateJob, checked
from inlay.editing.sampling import Sample, paint
from inlay.errors import InlayError, ModelError, UsageError
from inlay.guidance import METHODS
from inlay.guidance.base import Guidance
from inlay.guidance.regions import Region
from inlay.tests import adapters as making
from inlay.weights.adapters import Adapters
from safetensors.torch import load_file, save_file

PROMPT, NEGATIVE, SIZE = "a red cat on the table", "green grass", (48, 32)
CLOSE = {"atol": 3e-4, "rtol": 1e-4}


def ours(model, name="ddim", steps=3, scale=4.0, prompt=PROMPT, guidance=None, regions=(), **shown):
    """Latents by our loop."""
    job = checked(GenerateJob, prompt=prompt, steps=steps, guidance_scale=scale, scheduler=name)
    sample = Sample(3, prompt, NEGATIVE, regions=regions, **shown)
    return paint(model, job, guidance or Guidance(), [sample], SIZE).latents


def stock(pipe, name="ddim", steps=3, scale=4.0, prompt=PROMPT, **options):
    """The same by a pipeline of diffusers."""
    spacing = {"timestep_spacing": "trailing"} if name.endswith(TRAILING) else {}
    pipe.scheduler = scheduler_class(name).from_config(pipe.scheduler.config, **spacing)
    pipe.set_progress_bar_config(disable=True)
    sources = generators([3])
    return pipe(
        prompt=prompt,
        negative_prompt=NEGATIVE,
        latents=gaussian((4, SIZE[0] // 4, SIZE[1] // 4), sources),
        generator=list(sources),
        num_inference_steps=steps,
        guidance_scale=scale,
        height=SIZE[0],
        width=SIZE[1],
        output_type="latent",
        **options,
    ).images


def load(folder, **loaded):
    return Model.from_pretrained(folder, device="cpu", adapters=Adapters(**loaded))


@pytest.mark.parametrize("kohya", [False, True])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_lora_equals_the_stock_pipeline(adapter, model_folder, kind, kohya):
    file = adapter("lora", kind, kohya=kohya)
    pipe = making.pipeline(kind, model_folder(kind))
    plain = stock(pipe)
    pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name="one")
    pipe.set_adapters("one", 0.7)
    expected = stock(pipe)
    torch.testing.assert_close(ours(load(model_folder(kind), lora=((str(file), 0.7),))), expected, **CLOSE)
    assert (expected - plain).abs().max() > 0.01


def test_two_loras_add_up_and_scale_0_is_none(adapter, model_folder):
    one, other = adapter("lora"), adapter("lora", seed=2)
    pipe = making.pipeline("sd1", model_folder("sd1"))
    plain = stock(pipe)
    for name, file in (("one", one), ("other", other)):
        pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name)
    pipe.set_adapters(["one", "other"], [0.5, -0.4])
    both = load(model_folder("sd1"), lora=((str(one), 0.5), (str(other), -0.4)))
    torch.testing.assert_close(ours(both), stock(pipe), **CLOSE)
    assert not [name for name, _ in both.unet.named_parameters() if "lora" in name], "fused, and as quick as without"
    none = load(model_folder("sd1"), lora=((str(one), 0.0),))
    torch.testing.assert_close(ours(none), plain, **CLOSE)


@pytest.mark.parametrize(
    ("name", "scale"), [("lcm", 1.0), ("euler:trailing", 1.0), ("ddim:trailing", 1.0), ("tcd", 1.0)]
)
def test_few_steps_with_a_distilled_lora_equal_the_stock_pipeline(adapter, model_folder, name, scale):
    """As LCM, Lightning and Hyper-SD LoRAs are used."""
    file = adapter("lora", "sdxl")
    pipe = making.pipeline("sdxl", model_folder("sdxl"))
    pipe.load_lora_weights(file.parent, weight_name=file.name)
    eta = {"eta": 0.3} if name == "tcd" else {}
    expected = stock(pipe, name, steps=4, scale=scale, **eta)
    got = ours(load(model_folder("sdxl"), lora=((str(file), 1.0),)), name, steps=4, scale=scale)
    torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_textual_inversion_equals_the_stock_pipeline_and_its_word_is_a_regions_word(adapter, model_folder, kind):
    file, prompt = adapter("embedding", kind), "a red <thing> on the table"
    pipe = making.pipeline(kind, model_folder(kind))
    if kind == "sdxl":
        tensors = load_file(file)
        for key, ending in (("clip_l", ""), ("clip_g", "_2")):
            parts = {name: getattr(pipe, name + ending) for name in ("text_encoder", "tokenizer")}
            pipe.load_textual_inversion({"<thing>": tensors[key]}, token="<thing>", **parts)
        pipe.text_encoder_2 = with_end_mark(pipe.text_encoder_2, pipe.tokenizer_2.eos_token_id)
    else:
        pipe.load_textual_inversion(file.parent, weight_name=file.name)
    model = load(model_folder(kind), embedding=(str(file),))
    torch.testing.assert_close(ours(model, prompt=prompt), stock(pipe, prompt=prompt), **CLOSE)
    assert len(model.prompts.find(prompt, "<thing>")) == 2
    assert model.prompts.find(prompt, "on the table")
    assert model.prompts.find(prompt, "red <thing>")


def with_end_mark(encoder, mark):
    """The same text encoder, which knows its tokenizer's end mark."""
    config = deepcopy(encoder.config)
    config.eos_token_id = mark
    made = type(encoder)(config).eval()
    made.load_state_dict(encoder.state_dict())
    return made


def test_a_word_that_the_model_knows_is_not_taught_again(adapter, model_folder, tmp_path):
    known = tmp_path / "cat.safetensors"
    save_file({"cat": load_file(adapter("embedding"))["<thing>"]}, known)
    refused("teaches 'cat', a word that the model knows", model_folder("sd1"), embedding=(str(known),))


def test_what_stands_behind_a_learned_word_counts_in_the_pooled_embedding(adapter, model_folder):
    """As in SDXL's published configuration, the encoder takes the largest token for the end mark; learned ones are."""
    model = load(model_folder("sdxl"), embedding=(str(adapter("embedding", "sdxl")),))
    assert model.prompts.encoders[1].config.eos_token_id == 2
    one, other = model.prompts.encode(["a <thing> on the table", "a <thing> and a cat"]).pooled
    assert (one - other).abs().max() > 0.1


@pytest.mark.parametrize("single", [False, True])
def test_another_autoencoder_takes_the_place_of_the_models_own(model_folder, tmp_path, single):
    from diffusers import AutoencoderKL

    own = AutoencoderKL.from_pretrained(model_folder("sd1"), subfolder="vae")
    for parameter in own.parameters():
        parameter.data += 0.01
    own.save_pretrained(tmp_path / "vae")
    place = tmp_path / "vae" / ("diffusion_pytorch_model.safetensors" if single else "")
    model = load(model_folder("sd1"), vae=str(place))
    latents = torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        expected = own.decode(latents / own.config.scaling_factor).sample.clamp(-1, 1)
    torch.testing.assert_close(model.decode(latents), expected)
    assert model.marks


def picture(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_controlnet_equals_the_stock_pipeline(adapter, model_folder, kind):
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
    from PIL import Image

    folder, shown = adapter("controlnet", kind), picture()
    cls = StableDiffusionXLControlNetPipeline if kind == "sdxl" else StableDiffusionControlNetPipeline
    extra = {"add_watermarker": False} if kind == "sdxl" else {"safety_checker": None}
    pipe = cls.from_pretrained(model_folder(kind), controlnet=ControlNetModel.from_pretrained(folder), **extra)
    expected = stock(pipe, image=Image.fromarray(shown), controlnet_conditioning_scale=0.6)
    model = load(model_folder(kind), control=(str(folder),))
    torch.testing.assert_close(ours(model, hints=((shown, 0.6),)), expected, **CLOSE)
    assert (expected - ours(model, hints=((shown, 0.0),))).abs().max() > 0.01


@pytest.mark.parametrize("in_channels", [3, 1])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_a_t2i_adapter_equals_the_stock_pipeline(adapter, model_folder, kind, in_channels):
    from diffusers import StableDiffusionAdapterPipeline, StableDiffusionXLAdapterPipeline, T2IAdapter
    from PIL import Image

    folder = adapter("t2i_adapter", kind, in_channels=in_channels)
    shown = Image.fromarray(picture()).convert("L").convert("RGB")
    cls = StableDiffusionXLAdapterPipeline if kind == "sdxl" else StableDiffusionAdapterPipeline
    extra = {"add_watermarker": False} if kind == "sdxl" else {"safety_checker": None}
    pipe = cls.from_pretrained(model_folder(kind), adapter=T2IAdapter.from_pretrained(folder), **extra)
    image = shown.convert("L") if in_channels == 1 else shown
    expected = stock(pipe, image=image, adapter_conditioning_scale=0.8)
    model = load(model_folder(kind), control=(str(folder),))
    torch.testing.assert_close(ours(model, hints=((np.asarray(shown), 0.8),)), expected, **CLOSE)
    assert (expected - ours(model, hints=((np.asarray(shown), 0.0),))).abs().max() > 0.01


def test_two_controls_add_up(adapter, model_folder):
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
    from PIL import Image

    folder = adapter("controlnet")
    net = ControlNetModel.from_pretrained(folder)
    one, other = picture(1), picture(2)
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        model_folder("sd1"), controlnet=[net, net], safety_checker=None
    )
    images = [Image.fromarray(one), Image.fromarray(other)]
    expected = stock(pipe, image=images, controlnet_conditioning_scale=[0.5, 0.3])
    model = load(model_folder("sd1"), control=(str(folder), str(folder)))
    torch.testing.assert_close(ours(model, hints=((one, 0.5), (other, 0.3))), expected, **CLOSE)


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_an_ip_adapter_equals_the_stock_pipeline(adapter, model_folder, kind, plus):
    from PIL import Image

    file, shown = adapter("ip_adapter", kind, plus=plus), picture(7, (40, 40))
    pipe = making.pipeline(kind, model_folder(kind))
    plain = stock(pipe)
    pipe.load_ip_adapter(file.parent, subfolder="", weight_name=file.name)
    pipe.set_ip_adapter_scale(0.6)
    expected = stock(pipe, ip_adapter_image=Image.fromarray(shown))
    model = load(model_folder(kind), reference=str(file))
    torch.testing.assert_close(ours(model, reference=(shown, 0.6)), expected, **CLOSE)
    torch.testing.assert_close(ours(model), plain, **CLOSE)
    assert (expected - plain).abs().max() > 0.01


def test_the_image_encoder_sees_no_picture_once(adapter, model_folder, monkeypatch):
    model = load(model_folder("sd1"), reference=str(adapter("ip_adapter", plus=True)))
    seen = []
    see = Eye.see
    monkeypatch.setattr(Eye, "see", lambda eye, picture: seen.append(picture.shape) or see(eye, picture))
    ours(model, reference=(picture(7), 0.6))
    assert seen == [(1, 1, 3), (*SIZE, 3)]


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"plain", "segmenter"}))
def test_every_method_works_with_all_adapters_at_once(adapter, model_folder, method):
    loaded = {
        "lora": ((str(adapter("lora")), 0.5),),
        "embedding": (str(adapter("embedding")),),
        "control": (str(adapter("controlnet")), str(adapter("t2i_adapter"))),
        "reference": str(adapter("ip_adapter")),
    }
    model = load(model_folder("sd1"), **loaded)
    mask = np.zeros(SIZE, np.float32)
    mask[:24] = 1
    prompt = "a red <thing> on the table"
    shown = {"hints": ((picture(1), 0.5), (picture(2), 0.5)), "reference": (picture(7), 0.6)}
    settings = {"prompt": prompt, "regions": (Region(mask, "<thing>"),), **shown}
    guided = ours(model, guidance=METHODS[method](), **settings)
    assert guided.isfinite().all()
    if method != "removal":  # it has no photo to take a thing out of
        assert not torch.equal(guided, ours(model, **settings))


@pytest.fixture
def unloadable(monkeypatch):
    """No weights of a model can be read: what is refused is refused before."""
    monkeypatch.setattr("inlay.diffusion.model.load_folder", None)


def changed(file: Path, to: Path, change) -> Path:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, to / file.name)
    return to / file.name


def refused(match: str, folder: Path, kind: type[InlayError] = ModelError, **loaded: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        load(folder, **loaded)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 4)


def test_adapters_of_another_kind_of_model_are_refused_before_it_is_loaded(adapter, model_folder, unloadable):
    sd1, sdxl = model_folder("sd1"), model_folder("sdxl")
    refused(r"is not for .*no such part", sd1, lora=((str(adapter("lora", "sdxl")), 1.0),))
    refused(r"is not for .*no such part", sdxl, lora=((str(adapter("lora", kohya=True)), 1.0),))
    refused("is not for .*clip_g", sd1, embedding=(str(adapter("embedding", "sdxl")),))
    refused("is not for .*clip_g", sdxl, embedding=(str(adapter("embedding")),))
    refused("is not for .*cross_attention_dim", sdxl, control=(str(adapter("controlnet")),))
    refused("is not for .*channels", sdxl, control=(str(adapter("t2i_adapter")),))
    refused("is not for .*layers", sdxl, reference=str(adapter("ip_adapter")))
    refused("knows no weights for canny", sd1, UsageError, control=("canny",))
    refused("knows no weights for a reference", sd1, UsageError, reference="")


def test_what_is_not_whole_is_refused_by_name_before_the_model_is_loaded(adapter, model_folder, tmp_path, unloadable):
    folder, file = model_folder("sd1"), adapter("lora")
    key = next(iter(load_file(file)))
    half = changed(file, tmp_path, lambda tensors: tensors.pop(key))
    refused("no whole LoRA", folder, lora=((str(half), 1.0),))
    more = changed(file, tmp_path, lambda tensors: tensors.update({"unet.nowhere.lora.down.weight": torch.ones(2, 2)}))
    refused("nowhere", folder, lora=((str(more), 1.0),))
    other = changed(file, tmp_path, lambda tensors: tensors.update({key: torch.ones(4, 3)}))
    refused("is 4 x 3, and the model takes", folder, lora=((str(other), 1.0),))
    dora = changed(file, tmp_path, lambda tensors: tensors.update({"unet.conv_in.dora_scale": torch.ones(2)}))
    refused("dora_scale", folder, lora=((str(dora), 1.0),))
    wide = changed(adapter("embedding"), tmp_path, lambda tensors: tensors.update({"<thing>": torch.ones(2, 9)}))
    refused("is 2 x 9, and the model's words are 32 wide", folder, embedding=(str(wide),))
    face = adapter("ip_adapter")
    shutil.copytree(face.parent / "image_encoder", tmp_path / "image_encoder")
    more = changed(
        face, tmp_path, lambda tensors: tensors.update({"ip_adapter.1.to_q_lora.down.weight": torch.ones(2)})
    )
    refused("to_q_lora", folder, reference=str(more))
    shutil.rmtree(tmp_path / "image_encoder")
    refused("lacks its image encoder", folder, reference=str(more))
    net = shutil.copytree(adapter("controlnet"), tmp_path / "net")
    (net / "diffusion_pytorch_model.safetensors").unlink()
    refused("no weights", folder, control=(str(net),))


@pytest.mark.parametrize("field", ["lora", "embedding", "vae", "control", "reference"])
def test_what_is_missing_or_pickled_is_refused_before_the_model_is_loaded(model_folder, tmp_path, unloadable, field):
    def said(name: str) -> Any:
        return ((name, 1.0),) if field == "lora" else (name,) if field in ("embedding", "control") else name

    for ending in ("bin", "pt", "ckpt"):
        (tmp_path / f"a.{ending}").write_bytes(b"x")
        refused("is a pickle", model_folder("sd1"), **{field: said(str(tmp_path / f"a.{ending}"))})
    refused("nowhere", model_folder("sd1"), **{field: said(str(tmp_path / "nowhere"))})
    refused("not on this machine", model_folder("sd1"), **{field: said("nobody/nothing")})
    if field not in ("control",):
        (tmp_path / "bad.safetensors").write_bytes(b"x")
        (tmp_path / "image_encoder").mkdir()
        (tmp_path / "image_encoder" / "config.json").write_text("{}")
        (tmp_path / "image_encoder" / "model.safetensors").write_bytes(b"x")
        if field != "vae":
            refused("no readable", model_folder("sd1"), **{field: said(str(tmp_path / "bad.safetensors"))})


def test_what_diffusers_would_overlook_is_refused(adapter, model_folder):
    mixed = str(adapter("lora", "sdxl", convolutions=True))
    refused(r"diffusers loads \d+ of the \d+ tensors", model_folder("sdxl"), lora=((mixed, 1.0),))


def test_an_autoencoder_that_is_not_whole_or_scales_otherwise_is_refused(model_folder, tmp_path, unloadable):
    import json

    folder = Path(shutil.copytree(model_folder("sd1") / "vae", tmp_path / "vae"))
    file = folder / "diffusion_pytorch_model.safetensors"
    key = next(iter(load_file(file)))
    refused(key, model_folder("sd1"), vae=str(changed(file, tmp_path, lambda tensors: tensors.pop(key))))
    more = changed(file, tmp_path, lambda tensors: tensors.update({"more.weight": torch.ones(2)}))
    refused("more.weight", model_folder("sd1"), vae=str(more))
    other = changed(file, tmp_path, lambda tensors: tensors.update({key: torch.ones(2)}))
    refused(f"its {key} is 2", model_folder("sd1"), vae=str(other))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"scaling_factor": 0.5}))
    refused("scaling_factor is 0.5", model_folder("sd1"), vae=str(folder))
