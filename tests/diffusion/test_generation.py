"""Plain generation through our loop is what diffusers' own pipelines make, and a run depends on nothing else."""

from dataclasses import replace

import pytest
import torch
from inlay.diffusion.denoiser import Denoiser, Loss, NumericError, Request, Seam, Watch, gaussian, generators
from inlay.diffusion.loop import denoise
from inlay.diffusion.model import Model
from inlay.diffusion.samplers import SCHEDULERS
from inlay.diffusion.schedule import Schedule, scheduler_class
from inlay.editing.blend import Blend
from inlay.errors import UsageError
from inlay.guidance.base import Session

PROMPT, NEGATIVE = "a red cat on the table", "green grass"


def generate(
    model, name="ddim", steps=4, seeds=(0,), size=(12, 10), negative=NEGATIVE, scale=4.0, seam=None, interval=(0.0, 1.0)
):
    """Final latents of plain sampling; each sample's generator gives its noise, then the sampler's."""
    sources = generators(seeds)
    schedule = Schedule(name, model.scheduler_config, steps)
    noise = gaussian((4, *size), sources).to(model.working_dtype)
    positive = model.prompts.encode([PROMPT] * len(seeds))
    unwanted = model.prompts.encode([negative] * len(seeds), negative=True)
    denoiser = Denoiser(model, schedule, positive, unwanted, scale, sources, seam or Seam(), interval)
    return denoise(schedule.begin(noise), schedule.steps, denoiser, Session([]))


def stock(cls, folder, name, steps=4, seeds=(0,), size=(12, 10), negative=NEGATIVE, scale=4.0, parts=None, **options):
    """The same from a pipeline of diffusers."""
    pipe = cls.from_pretrained(folder, **(parts or {}))
    pipe.scheduler = scheduler_class(name).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    sources = generators(seeds)
    return pipe(
        prompt=[PROMPT] * len(seeds),
        negative_prompt=None if negative is None else [negative] * len(seeds),
        latents=gaussian((4, *size), sources),
        generator=list(sources),
        num_inference_steps=steps,
        guidance_scale=scale,
        height=size[0] * 4,
        width=size[1] * 4,
        output_type="latent",
        **options,
    ).images


@pytest.fixture
def loaded(model_folder):
    kept = {}

    def get(kind):
        return kept.setdefault(kind, Model.from_pretrained(model_folder(kind), device="cpu"))

    return get


@pytest.mark.parametrize("name", SCHEDULERS)
def test_sd1_equals_the_stock_pipeline(loaded, model_folder, name):
    from diffusers import StableDiffusionPipeline

    eta = {"eta": 0.3} if name == "tcd" else {}  # the sampler's own default, which the pipeline overrides
    expected = stock(StableDiffusionPipeline, model_folder("sd1"), name, seeds=(3, 8), **eta)
    torch.testing.assert_close(generate(loaded("sd1"), name, seeds=(3, 8)), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++2m"])
def test_sd2_with_v_prediction_equals_the_stock_pipeline(loaded, model_folder, name):
    from diffusers import StableDiffusionPipeline

    expected = stock(StableDiffusionPipeline, model_folder("sd2"), name)
    torch.testing.assert_close(generate(loaded("sd2"), name), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("negative", [NEGATIVE, None])
def test_sdxl_equals_the_stock_pipeline_also_where_the_empty_prompt_is_zeros(loaded, model_folder, negative):
    from diffusers import StableDiffusionXLPipeline

    parts = {"add_watermarker": False}
    expected = stock(StableDiffusionXLPipeline, model_folder("sdxl"), "euler", negative=negative, parts=parts)
    torch.testing.assert_close(
        generate(loaded("sdxl"), "euler", negative=negative or ""), expected, atol=2e-4, rtol=1e-4
    )


def test_without_guidance_equals_the_stock_pipeline(loaded, model_folder):
    from diffusers import StableDiffusionPipeline

    expected = stock(StableDiffusionPipeline, model_folder("sd1"), "ddim", scale=1.0)
    torch.testing.assert_close(generate(loaded("sd1"), scale=1.0), expected, atol=1e-4, rtol=1e-4)


def test_controlnet_through_the_seam_equals_its_pipeline(loaded, model_folder):
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    model = loaded("sd1")
    torch.manual_seed(1)
    control = ControlNetModel.from_unet(model.unet, conditioning_embedding_out_channels=(8, 8, 16)).eval()
    for convolution in control.controlnet_down_blocks:
        torch.nn.init.normal_(convolution.weight, std=0.3)
    hint = torch.rand(1, 3, 48, 40)

    def residuals(source, timestep, states, added):
        down, middle = control(source, timestep, states, hint.expand(len(source), -1, -1, -1), return_dict=False)
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    expected = stock(
        StableDiffusionControlNetPipeline,
        model_folder("sd1"),
        "ddim",
        parts={"controlnet": control},
        image=hint,
    )
    got = generate(model, seam=Seam(residuals=residuals))
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)
    assert (got - generate(model)).abs().max() > 1e-3


def test_t2i_adapter_through_the_seam_equals_its_pipeline(loaded, model_folder):
    from diffusers import StableDiffusionAdapterPipeline, T2IAdapter

    model = loaded("sd1")
    torch.manual_seed(2)
    adapter = T2IAdapter(
        channels=[16, 32, 32], num_res_blocks=1, downscale_factor=4, in_channels=3, adapter_type="full_adapter"
    )
    hint = torch.rand(1, 3, 48, 40)
    features = [feature.detach() for feature in adapter(hint)]

    def residuals(source, timestep, states, added):
        return {
            "down_intrablock_additional_residuals": [
                feature.expand(len(source), -1, -1, -1).clone() for feature in features
            ]
        }

    expected = stock(
        StableDiffusionAdapterPipeline, model_folder("sd1"), "ddim", parts={"adapter": adapter}, image=hint
    )
    got = generate(model, seam=Seam(residuals=residuals))
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)
    assert (got - generate(model)).abs().max() > 1e-4


def test_inpainting_channels_through_the_seam_equal_its_pipeline(model_folder, tmp_path):
    from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel

    folder = model_folder("sd1")
    torch.manual_seed(3)
    wide = {**UNet2DConditionModel.load_config(folder, subfolder="unet"), "in_channels": 9}
    pipe = StableDiffusionInpaintPipeline.from_pretrained(folder, unet=UNet2DConditionModel.from_config(wide))
    pipe.save_pretrained(tmp_path)
    photo = torch.rand(1, 3, 48, 40) * 2 - 1
    mask = torch.zeros(1, 1, 48, 40)
    mask[..., 8:28, 8:20] = 1
    model = Model.from_pretrained(tmp_path, device="cpu")
    masked = model.encode(photo * (mask < 0.5))
    channels = torch.cat([torch.nn.functional.interpolate(mask, size=(12, 10)), masked], dim=1)
    expected = stock(
        StableDiffusionInpaintPipeline,
        tmp_path,
        "ddim",
        image=photo,
        mask_image=mask,
        masked_image_latents=masked,
        strength=1.0,
    )
    got = generate(model, seam=Seam(channels=channels))
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ddim", "euler-a", "lcm"])
def test_a_sample_of_a_batch_is_that_sample_alone(models, name):
    together = generate(models("sd1"), name, seeds=(5, 6, 7))
    alone = torch.cat([generate(models("sd1"), name, seeds=(seed,)) for seed in (5, 6, 7)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_float64_runs_throughout_and_agrees(models, model_folder):
    exact = Model.from_pretrained(model_folder("sd1"), device="cpu", dtype="float64")
    rough = Model.from_pretrained(model_folder("sd1"), device="cpu")
    latents = generate(exact)
    assert latents.dtype == exact.working_dtype == torch.float64
    torch.testing.assert_close(generate(rough).double(), latents, atol=1e-4, rtol=0)


def test_guidance_in_an_interval_is_guidance_there_and_none_elsewhere(models):
    model = models("sd1")
    rows = []
    hook = model.unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    never = generate(model, interval=(0.8, 0.9))  # timesteps are 751, 501, 251 and 1 of 1000
    early = generate(model, interval=(0.6, 1.0))
    whole = generate(model, interval=(0.001, 0.751))
    hook.remove()
    assert rows == [1, 1, 1, 1, 2, 1, 1, 1, 2, 2, 2, 2]
    assert torch.equal(never, generate(model, scale=1.0))
    assert torch.equal(whole, generate(model))
    assert not torch.equal(early, never)
    assert not torch.equal(early, whole)


def test_the_loop_does_not_wait_for_its_device():
    """On the meta device there are no numbers to wait for: whoever reads one raises."""
    from inlay.benchmarks.guidance import build

    meta = build("toybox", "meta", torch.float16)
    noise = torch.empty(1, meta.latent_channels, 16, 16, device="meta")
    schedule = Schedule("ddim", meta.scheduler_config, 7)
    blend = Blend(noise, noise[:, 0] > 0, noise, schedule)
    denoiser = Denoiser(meta, schedule, *[meta.prompts.encode([PROMPT])] * 2, 4.0, generators((0,)))
    assert denoise(blend.start(), schedule.steps, denoiser, Session([]), blend).shape == noise.shape


@pytest.mark.slow
def test_compiled_forwards_are_the_same_picture_and_opened_ones_are_as_they_were(models, model_folder, monkeypatch):
    model = models("sd1")
    fast = Model.from_pretrained(model_folder("sd1"), device="cpu", compile=True)
    torch.testing.assert_close(generate(fast), generate(model), atol=1e-4, rtol=1e-4)
    latents, step = gaussian((4, 12, 10), generators([0])), Schedule("ddim", model.scheduler_config, 4).steps[0]
    layer = model.cross_layers[0]
    loss = Loss(lambda maps, *_: maps.layers[layer.name].square().flatten(1).sum(1), (layer,), (1,))
    schedule = Schedule("ddim", model.scheduler_config, 4)
    prompt = model.prompts.encode([PROMPT])
    eager, compiled = (
        Denoiser(one, schedule, prompt, prompt, 1.0, generators([0])).gradient(latents, step, loss)
        for one in (model, fast)
    )
    assert torch.equal(eager, compiled)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UsageError, match="C\\+\\+ compiler"):
        Model.from_pretrained(model_folder("sd1"), device="cpu", compile=True)


def test_bfloat16_keeps_the_loop_in_fp32(model_folder):
    half = Model.from_pretrained(model_folder("sd1"), device="cpu", dtype="bfloat16")
    assert (half.unet.dtype, half.vae.dtype, half.prompts.encoders[0].dtype) == (*[torch.bfloat16] * 2, torch.float32)
    rough = generate(half)
    assert rough.dtype == torch.float32
    assert (rough - generate(Model.from_pretrained(model_folder("sd1"), device="cpu"))).abs().mean() < 0.1


def test_nan_is_caught_where_it_appears(models):
    model = models("sd1")

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config, self.weight = model.unet.config, torch.nn.Parameter(torch.zeros(1))

        def forward(self, source, *_, **__):
            return (torch.full_like(source, float("nan")),)

    with pytest.raises(NumericError, match="NaN or infinity at timestep 751"):
        generate(replace(model, unet=Broken()))


def state(unet):
    """What hangs on the modules, but for the function that diffusers keeps once checkpointing was switched on."""
    return {name: set(vars(module)) - {"_gradient_checkpointing_func"} for name, module in unet.named_modules()}


def test_nothing_stays_behind_after_an_exception(models):
    model = models("sd1")
    before = generate(model)

    def fail(*_):
        raise RuntimeError("inside a forward")

    layer = model.cross_layers[0]
    loss = Loss(lambda maps, latents, output: maps.layers[layer.name].sum((1, 2, 3, 4)), (layer,), (1,))
    bad_loss = replace(loss, function=fail)
    schedule = Schedule("ddim", model.scheduler_config, 4)
    prompt = model.prompts.encode([PROMPT])
    denoiser = Denoiser(model, schedule, prompt, prompt, 3.0, generators([0]))
    latents, step = gaussian((4, 12, 10), generators([0])), schedule.steps[0]
    attributes = state(model.unet)
    for request in (
        Request(scores=(fail,)),
        Request(probabilities=(fail,), losses=(loss,)),
        Request(losses=(bad_loss,)),
        Request(watches=(Watch(fail, (layer,), (1,)),)),
    ):
        with pytest.raises(RuntimeError, match="inside a forward"):
            denoiser.predict(latents, step, request)
        with model.kept():
            model.spare()
            with pytest.raises(RuntimeError, match="inside a forward"):
                denoiser.predict(latents, step, request)
    with pytest.raises(RuntimeError, match="inside a forward"):
        denoiser.gradient(latents, step, bad_loss)
    assert torch.is_grad_enabled()
    assert not model.unet.is_gradient_checkpointing
    assert attributes == state(model.unet)
    assert all(parameter.grad is None for parameter in model.unet.parameters())
    assert torch.equal(before, generate(model))


def test_progress_is_told_after_every_step(models):
    model, told = models("sd1"), []
    schedule = Schedule("ddim", model.scheduler_config, 5, first=2)
    prompt = model.prompts.encode([PROMPT])
    denoiser = Denoiser(model, schedule, prompt, prompt, 1.0, generators([0]))
    denoise(
        gaussian((4, 8, 8), generators([0])),
        schedule.steps,
        denoiser,
        Session([]),
        blend=lambda latents, step: latents * 0,
        on_step=lambda latents, step: told.append((step.index, float(latents.abs().max()))),
    )
    assert told == [(2, 0.0), (3, 0.0), (4, 0.0)]
