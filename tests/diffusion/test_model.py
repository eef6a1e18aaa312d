"""Models come from folders, single files and the hub's cache; what cannot be loaded says so in one sentence."""

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from inlay.diffusion.denoiser import NumericError
from inlay.diffusion.model import Model
from inlay.errors import ModelError, UsageError
from inlay.weights.diffusion import locate
from safetensors.torch import load_file, save_file

TEXTS = [
    "a red cat on the table",
    "A  Caterpillar, two dogs' cup & the cat's 42 trees!",
    "größe naïve 猫 \n tab",
    "",
    "zebra " * 30,
]


def load(place, **options):
    return Model.from_pretrained(place, device="cpu", **options)


def refused(place, match, **options):
    with pytest.raises(ModelError, match=match) as caught:
        load(place, **options)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert "\n" not in message
    assert message.endswith(".") or message.split()[-1].count("/") == 1, "one sentence, or a command at its end"


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    theirs = {name.removeprefix("text_model."): value for name, value in theirs.items()}
    ours = {name.removeprefix("text_model."): value for name, value in ours.items()}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def copy(model_folder, tmp_path):
    """A copy of the sd1 folder that a test may spoil."""
    return Path(shutil.copytree(model_folder("sd1"), tmp_path / "model"))


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_a_folder_gives_the_components_of_the_stock_pipeline(model_folder, kind):
    from diffusers import DiffusionPipeline

    folder = model_folder(kind)
    model = load(folder)
    pipe = DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    same_weights(model.unet, pipe.unet)
    same_weights(model.vae, pipe.vae)
    names = ["", *(["_2"] if kind == "sdxl" else [])]
    for name, encoder, tokenizer in zip(names, model.prompts.encoders, model.prompts.tokenizers, strict=True):
        theirs = getattr(pipe, f"text_encoder{name}")
        assert type(encoder) is type(theirs)
        same_weights(encoder, theirs)
        assert tokenizer(TEXTS).input_ids == getattr(pipe, f"tokenizer{name}")(TEXTS).input_ids
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())
    assert not model.unet.training
    padded = pipe.tokenizer(TEXTS, padding="max_length", max_length=16, truncation=True).input_ids
    assert [model.prompts._padded(model.prompts.tokenizers[0], text) for text in TEXTS] == padded
    assert model.scheduler_config["beta_end"] == pipe.scheduler.config.beta_end


def test_a_stock_pipeline_takes_the_components_and_an_adapter(model_folder, tmp_path):
    """The libraries' loaders of adapters work on what is loaded: a textual inversion reaches our prompts."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    model = load(model_folder("sd1"))
    (encoder,), (tokenizer,) = model.prompts.encoders, model.prompts.tokenizers
    before = model.prompts.encode(["a <thing>"]).states
    scheduler = DDIMScheduler.from_config(model.scheduler_config)
    pipe = StableDiffusionPipeline(
        model.vae, encoder, tokenizer, model.unet, scheduler, None, None, requires_safety_checker=False
    )
    save_file({"<thing>": torch.ones(32)}, tmp_path / "thing.safetensors")
    pipe.load_textual_inversion(tmp_path / "thing.safetensors")
    assert len(model.prompts.find("a <thing>", "<thing>")) == 1
    assert not torch.equal(model.prompts.encode(["a <thing>"]).states, before)


def test_facts_come_from_the_model(models):
    model = models("sd1")
    assert (model.latent_channels, model.factor, model.grid, model.native_size) == (4, 4, 16, (64, 64))
    assert model.latent_size((50, 37)) == (13, 10)
    assert model.device == torch.device("cpu")
    assert model.dtype == model.working_dtype == torch.float32


def test_encoding_and_decoding_scale_as_the_configuration_says(models):
    model = models("sd1")
    pixels = torch.rand(2, 3, 32, 24) * 2 - 1
    latents = model.encode(pixels)
    assert latents.shape == (2, 4, 8, 6)
    with torch.no_grad():
        expected = model.vae.encode(pixels).latent_dist.mode() * model.vae.config.scaling_factor
        decoded = model.vae.decode(latents / model.vae.config.scaling_factor).sample.clamp(-1, 1)
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(model.decode(latents), decoded)
    with pytest.raises(NumericError, match="in the decoded picture"):
        model.decode(latents * float("nan"))


def test_decoding_has_a_gradient_in_half_precision_too(models):
    """Also where the configuration asks for fp32, as that of Stable Diffusion's autoencoder does by default."""
    model, latents = deepcopy(models("sd1")), torch.randn(1, 4, 4, 4)
    slopes = []
    for dtype in (torch.float32, torch.float16):
        model.to(dtype=dtype)
        source = latents.clone().requires_grad_()
        slopes.append(torch.autograd.grad(model.decode_with_grad(source).sum(), source)[0])
    assert model.vae.config.force_upcast
    assert model.vae.dtype == torch.float16
    torch.testing.assert_close(slopes[1], slopes[0], atol=0.02, rtol=0.02)


def test_a_sharded_and_a_half_precision_folder_load(copy):
    whole = load(copy)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    whole.unet.save_pretrained(copy / "unet", max_shard_size="100KB")
    assert len(list((copy / "unet").glob("*-of-*.safetensors"))) > 1
    text = copy / "text_encoder" / "model.safetensors"
    halves = {f"text_model.{name}": value.half() for name, value in load_file(text).items()}
    save_file(halves, text.with_name("model.fp16.safetensors"))
    text.unlink()
    loaded = load(copy)
    same_weights(loaded.unet, whole.unet)
    assert next(loaded.prompts.encoders[0].parameters()).dtype == torch.float32
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(
        loaded.prompts.encoders[0](ids).last_hidden_state,
        whole.prompts.encoders[0](ids).last_hidden_state,
        atol=1e-2,
        rtol=0,
    )


def test_the_fingerprint_tells_weights_apart(copy):
    before = load(copy).fingerprint
    assert before == load(copy).fingerprint
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.bias"] = weights["conv_in.bias"] + 1
    save_file(weights, file)
    assert load(copy).fingerprint != before


def test_broken_folders_are_refused(copy):
    unet = copy / "unet" / "diffusion_pytorch_model.safetensors"
    kept = unet.read_bytes()
    unet.write_bytes(kept[: len(kept) // 2])
    refused(copy, "cannot be loaded")
    unet.write_bytes(b"")
    refused(copy, "cannot be loaded")
    weights = load_file(copy / "vae" / "diffusion_pytorch_model.safetensors")
    save_file(weights, unet)
    refused(copy, "lack .* more; fetch them anew")
    unet.unlink()
    refused(copy, "has no weights")
    torch.save({"conv_in.bias": torch.zeros(3)}, unet.with_suffix(".bin"))
    refused(copy, "only pickled weights of its unet, which need --allow-pickle")
    unet.with_suffix(".bin").unlink()
    unet.write_bytes(kept)
    config = json.loads((copy / "unet" / "config.json").read_text())
    (copy / "unet" / "config.json").write_text(json.dumps({**config, "block_out_channels": [8, 32, 32]}))
    refused(copy, "conv_in.bias expected shape")
    (copy / "unet" / "config.json").write_text(json.dumps({**config, "class_embed_type": "timestep"}))
    refused(copy, "lack|needs more than text")
    (copy / "unet" / "config.json").write_text("{")
    refused(copy, "cannot be loaded")
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", "transformer": []}))
    refused(copy, "holds a FluxPipeline; inlay runs SD 1.x, SD 2.x and SDXL")
    (copy / "model_index.json").unlink()
    refused(copy, "has a model_index.json")


def test_pickled_weights_load_only_on_request_and_run_nothing(copy):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load(copy)
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    same_weights(load(copy, allow_pickle=True).unet, whole.unet)
    mark = copy / "ran"

    class Trap:
        def __reduce__(self):
            return (Path.touch, (mark,))

    torch.save({"conv_in.bias": Trap()}, file.with_suffix(".bin"))
    refused(copy, "cannot be loaded", allow_pickle=True)
    torch.save({"final_layer_norm.bias": Trap()}, copy / "text_encoder" / "pytorch_model.bin")
    (copy / "text_encoder" / "model.safetensors").unlink()
    refused(copy, "cannot be loaded", allow_pickle=True)
    assert not mark.exists()


def test_names_that_mean_nothing_are_refused(tmp_path):
    refused(tmp_path / "nowhere", "There is no model at")
    refused("no-such-model", "give a folder, a .safetensors file, a hub id like owner/name, or toybox")
    refused(str(tmp_path / "gone.safetensors"), "There is no model at")
    refused(tmp_path, "has a model_index.json")
    (tmp_path / "model.ckpt").write_bytes(b"x")
    for allow in (False, True):
        refused(tmp_path / "model.ckpt", "is a pickle, which can run code", allow_pickle=allow)
    (tmp_path / "model.safetensors").write_bytes(b"not at all")
    refused(tmp_path / "model.safetensors", "no readable .safetensors file")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "nonsense:1", ""])
def test_devices_that_are_not_there_are_refused(model_folder, device):
    with pytest.raises(UsageError, match="is not available here; use --device cpu or auto"):
        Model.from_pretrained(model_folder("sd1"), device=device)


def test_dtypes_that_cannot_be_are_refused(model_folder):
    with pytest.raises(UsageError, match="There is no dtype 'int8'; choose one of auto, float32"):
        load(model_folder("sd1"), dtype="int8")
    with pytest.raises(UsageError, match="float16 does not run on the CPU"):
        load(model_folder("sd1"), dtype="float16")


@pytest.fixture
def cached(model_folder, tmp_path, monkeypatch):
    """A hub cache with the sd1 model as owner/tiny."""
    import huggingface_hub.constants as constants

    root = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(model_folder("sd1"), root / "snapshots" / "abc")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return root / "snapshots" / "abc"


@pytest.mark.parametrize("offline", [False, True])
def test_a_hub_id_comes_from_the_cache(cached, model_folder, offline):
    model = load("owner/tiny", offline=offline)
    assert model.name == "owner/tiny"
    same_weights(model.unet, load(model_folder("sd1")).unet)


@pytest.mark.parametrize("offline", [False, True])
def test_a_hub_id_that_is_not_here_names_the_command_that_gets_it(cached, offline):
    refused("owner/other", "with a connection run: inlay models download owner/other", offline=offline)


def test_a_hub_model_that_is_not_whole_is_not_mistaken_for_one(cached):
    assert locate("owner/tiny") == cached
    (cached / "tokenizer" / "tokenizer.json").unlink()
    refused("owner/tiny", "it has no vocabulary of its tokenizer and could not be fetched")
    (cached / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    refused("owner/tiny", "is not whole on this machine, it has no weights of its unet", offline=True)


@pytest.mark.parametrize(
    ("part", "name", "tensor"),
    [
        ("unet", "diffusion_pytorch_model", "down_blocks.0.attentions.0.proj_in.lora_A.weight"),
        ("unet", "diffusion_pytorch_model", "down_blocks.9.resnets.0.conv1.weight"),
        ("vae", "diffusion_pytorch_model", "loss.logvar"),
        ("text_encoder", "model", "encoder.layers.7.self_attn.q_proj.weight"),
    ],
)
def test_tensors_that_would_be_ignored_are_named(copy, part, name, tensor):
    file = copy / part / f"{name}.safetensors"
    save_file(load_file(file) | {tensor: torch.zeros(1)}, file, {"format": "pt"})
    refused(copy, rf"hold beside what their config\.json names .*{re.escape(tensor)}")


def test_a_stray_file_of_weights_is_named(copy):
    stray = copy / "unet" / "pytorch_lora_weights.safetensors"
    save_file({"x": torch.zeros(1)}, stray)
    refused(copy, "also holds pytorch_lora_weights.safetensors, which would be ignored")
    stray.rename(stray.with_name("diffusion_pytorch_model-00001-of-00002.safetensors"))
    refused(copy, "also holds diffusion_pytorch_model-00001-of-00002.safetensors")
    (copy / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors").unlink()
    save_file({"x": torch.zeros(1)}, copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    load(copy)  # another variant of the same weights


def original_layout(folder):
    """The sd1 model's weights under the names of the CompVis checkpoints (for its 3 levels of 1 layer)."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder" / "model.safetensors")
    places = {"conv_in.": "input_blocks.0.0.", "conv_norm_out.": "out.0.", "conv_out.": "out.2."}
    places |= {"time_embedding.linear_1.": "time_embed.0.", "time_embedding.linear_2.": "time_embed.2."}
    places |= {f"mid_block.resnets.{k}.": f"middle_block.{2 * k}." for k in (0, 1)}
    places |= {"mid_block.attentions.0.": "middle_block.1."}
    for level in range(3):
        places |= {f"down_blocks.{level}.resnets.0.": f"input_blocks.{2 * level + 1}.0."}
        places |= {f"down_blocks.{level}.attentions.0.": f"input_blocks.{2 * level + 1}.1."}
        places |= {f"down_blocks.{level}.downsamplers.0.conv.": f"input_blocks.{2 * level + 2}.0.op."}
        for layer in range(2):
            places |= {f"up_blocks.{level}.resnets.{layer}.": f"output_blocks.{2 * level + layer}.0."}
            places |= {f"up_blocks.{level}.attentions.{layer}.": f"output_blocks.{2 * level + layer}.1."}
        after = 2 if level else 1
        places |= {f"up_blocks.{level}.upsamplers.0.conv.": f"output_blocks.{2 * level + 1}.{after}.conv."}
    inner = {"norm1.": "in_layers.0.", "conv1.": "in_layers.2.", "norm2.": "out_layers.0.", "conv2.": "out_layers.3."}
    inner |= {"time_emb_proj.": "emb_layers.1.", "conv_shortcut.": "skip_connection."}
    found = {}
    for name, value in unet.items():
        start = next(place for place in places if name.startswith(place))
        rest = name.removeprefix(start)
        if "resnets" in start:
            part = next(part for part in inner if rest.startswith(part))
            rest = inner[part] + rest.removeprefix(part)
        found[f"model.diffusion_model.{places[start]}{rest}"] = value
    for name, value in vae.items():
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        for level in range(3):
            for side, place in (("down", level), ("up", 2 - level)):
                name = name.replace(f"{side}_blocks.{level}.resnets.", f"{side}.{place}.block.")
                name = name.replace(f"{side}_blocks.{level}.{side}samplers.0.", f"{side}.{place}.{side}sample.")
        found[f"first_stage_model.{name}"] = value
    found |= {f"cond_stage_model.transformer.text_model.{name}": value for name, value in text.items()}
    return found


def test_a_single_file_loads_with_its_configurations(model_folder, tmp_path):
    folder = model_folder("sd1")
    file = tmp_path / "tiny.safetensors"
    save_file({name: value.clone() for name, value in original_layout(folder).items()}, file)
    config = tmp_path / "config"
    shutil.copytree(folder, config, ignore=shutil.ignore_patterns("*.safetensors"))
    model, expected = load(file, config=config), load(folder)
    same_weights(model.unet, expected.unet)
    same_weights(model.vae, expected.vae)
    one, two = model.prompts.encode(["a red cat"]), expected.prompts.encode(["a red cat"])
    torch.testing.assert_close(one.states, two.states, atol=1e-5, rtol=1e-5)
    assert model.scheduler_config["beta_end"] == expected.scheduler_config["beta_end"]
    refused(file, "its configurations are not here: add --config DIR", offline=True)
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "middle_block" not in name}, file)
    refused(file, "do not fit the configuration|and its configuration names", config=config)
    save_file(weights | {"model.diffusion_model.input_blocks.1.0.lora_A.weight": torch.zeros(1)}, file)
    refused(file, "and its configuration names", config=config)
    save_file(weights | {"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(1)}, file)
    refused(file, "holds lora_unet_down_blocks_0.lora_up.weight, which is no part", config=config)
