"""Opened attention is fused attention, on grids known from the latents, with exact gradients."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from inlay.diffusion.attention import Layer, install
from inlay.diffusion.denoiser import Denoiser, Loss, Request, Watch, gaussian, generators
from inlay.diffusion.schedule import Schedule

KINDS = ["sd1", "sd2", "sdxl"]


def build(model, scale=3.0, count=2, **options):
    """A denoiser over `count` samples, odd non-square latents for it, and a step."""
    schedule = Schedule("ddim", model.scheduler_config, 4)
    positive = model.prompts.encode(["a red cat on the table"] * count)
    negative = model.prompts.encode([""] * count, negative=True)
    denoiser = Denoiser(model, schedule, positive, negative, scale, generators(range(count)), **options)
    return denoiser, gaussian((4, 13, 7), generators(range(count))), schedule.steps[1]


def test_layers_that_look_at_words_alone_are_cross_attention():
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        only_cross_attention=(True, False),
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=16,
    )
    cross = {layer.name for layer in install(unet) if layer.cross}
    attending = {name for name in dict(unet.named_modules()) if name.endswith(("attn1", "attn2"))}
    assert cross == {name for name in attending if name.endswith("attn2") or name.startswith("up_blocks.1")}


def unchanged(values, layer):
    return values.clone()


def mass(layers, columns=(2, 3), needs_output=False):
    """A loss that reads maps (weighted unevenly, so that no sum over tokens hides an error), and perhaps the output."""

    def function(maps, latents, output):
        total = sum(maps.layers[layer.name].square().sum((1, 2, 3, 4)) * (1 + layer.order) for layer in layers)
        return total + (output.square().sum((1, 2, 3)) if needs_output else 0)

    return Loss(function, tuple(layers), columns, needs_output)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_opened_attention_equals_fused(models, kind, scale):
    denoiser, latents, step = build(models(kind), scale)
    with torch.no_grad():
        fused = denoiser.predict(latents, step).output
        opened = denoiser.predict(latents, step, Request(scores=(unchanged,), probabilities=(unchanged,))).output
    torch.testing.assert_close(opened, fused, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_upcast_attention_opened_equals_fused(models, kind):
    model = models(kind)
    modules = [module for module in model.unet.modules() if hasattr(module, "upcast_attention")]
    kept = [module.upcast_attention for module in modules]
    try:
        for module in modules:
            module.upcast_attention = True
        denoiser, latents, step = build(model)
        with torch.no_grad():
            fused = denoiser.predict(latents, step).output
            opened = denoiser.predict(latents, step, Request(scores=(unchanged,))).output
    finally:
        for module, value in zip(modules, kept, strict=True):
            module.upcast_attention = value
    torch.testing.assert_close(opened, fused, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_grids_follow_from_odd_latents_by_halving_up(models, kind):
    model = models(kind)
    denoiser, latents, step = build(model)
    seen = {}
    watch = Watch(lambda maps, _: seen.update(maps.layers), model.cross_layers, (1, 4))
    with torch.no_grad():
        watched = denoiser.predict(latents, step, Request(watches=(watch,))).output
        plain = denoiser.predict(latents, step).output
    assert set(seen) == {layer.name for layer in model.cross_layers}
    by_depth = {0: (13, 7), 1: (7, 4), 2: (4, 2)}
    for layer in model.cross_layers:
        assert layer.grid((13, 7)) == by_depth[layer.depth]
        assert seen[layer.name].shape == (2, layer.heads, *by_depth[layer.depth], 2), "conditional rows, kept columns"
    torch.testing.assert_close(watched, plain, atol=1e-5, rtol=1e-5)


@given(height=st.integers(1, 200), width=st.integers(1, 200), depth=st.integers(0, 4))
def test_grid_is_what_strided_convolutions_leave(height, width, depth):
    rows, columns = torch.empty(1, 1, height, 1, device="meta"), torch.empty(1, 1, 1, width, device="meta")
    kernel = torch.empty(1, 1, 3, 3, device="meta")
    for _ in range(depth):
        rows = torch.nn.functional.conv2d(rows, kernel, stride=2, padding=1)
        columns = torch.nn.functional.conv2d(columns, kernel, stride=2, padding=1)
    assert Layer("x", 0, depth, 1, True).grid((height, width)) == (rows.shape[2], columns.shape[3])


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_listed_in_the_order_they_run(models, kind):
    model = models(kind)
    denoiser, latents, step = build(model)
    ran = []

    def note(values, layer):
        ran.append(layer)
        return values

    with torch.no_grad():
        denoiser.predict(latents, step, Request(scores=(note,)))
    assert tuple(ran) == model.cross_layers
    assert [layer.order for layer in model.layers] == list(range(len(model.layers)))


def test_edits_touch_the_conditional_rows_alone(models):
    denoiser, latents, step = build(models("sd1"))
    rows = []

    def flatten(values, layer):
        rows.append(len(values))
        return values * 0

    with torch.no_grad():
        unconditional = denoiser.forward(latents, step, denoiser.negative)
        plain = denoiser.forward(latents, step, denoiser.positive)
        edited = denoiser.predict(latents, step, Request(scores=(flatten,))).output
    assert set(rows) == {2}
    conditional = unconditional + (edited - unconditional) / denoiser.scale
    assert (conditional - plain).abs().max() > 1e-4
    with torch.no_grad():
        again = denoiser.predict(latents, step, Request(scores=(flatten,), losses=(mass(models("sd1").cross_layers),)))
    torch.testing.assert_close(again.output, edited, atol=1e-5, rtol=1e-5)


def test_captures_come_after_score_edits_and_before_probability_edits(models):
    model = models("sd1")
    denoiser, latents, step = build(model)
    seen = {}
    watch = Watch(lambda maps, _: seen.update(maps.layers), model.cross_layers, tuple(range(model.prompts.limit + 2)))
    request = Request((lambda scores, _: scores * 0,), (lambda probabilities, _: probabilities * 0,), (), (watch,))
    with torch.no_grad():
        denoiser.predict(latents, step, request)
    for maps in seen.values():
        torch.testing.assert_close(maps, torch.full_like(maps, 1 / maps.shape[-1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [0, 1, -1])
def test_stopping_early_gives_the_gradient_of_the_full_forward(models, kind, last):
    model = models(kind)
    denoiser, latents, step = build(model)
    loss = mass([model.cross_layers[last]])
    early = denoiser.gradient(latents, step, loss)
    full = denoiser.predict(latents, step, Request(losses=(loss,)))
    torch.testing.assert_close(early, full.gradients[0], atol=1e-6, rtol=1e-4)
    assert early.abs().max() > 0
    with torch.no_grad():
        torch.testing.assert_close(full.output, denoiser.predict(latents, step).output, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("needs_output", [False, True])
@pytest.mark.parametrize("last", [1, None])
def test_checkpointing_changes_no_gradient(models, needs_output, last):
    model = models("sd1")
    loss = mass(model.cross_layers[:last], needs_output=needs_output)
    other = mass(model.cross_layers[:1], columns=(1,))
    denoiser, latents, step = build(model)
    for request in (Request(losses=(loss,)), Request((unchanged,), (unchanged,), (loss, other))):
        one = denoiser.predict(latents, step, request)
        with model.kept():
            model.spare()
            two = denoiser.predict(latents, step, request)
        torch.testing.assert_close(two.output, one.output, atol=1e-6, rtol=1e-5)
        for got, expected in zip(two.gradients, one.gradients, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)
    if not needs_output:
        plain = denoiser.gradient(latents, step, loss)
        with model.kept():
            model.spare()
            torch.testing.assert_close(denoiser.gradient(latents, step, loss), plain, atol=1e-6, rtol=1e-4)
    assert not model.unet.is_gradient_checkpointing


def test_gradients_are_those_of_finite_differences(models):
    model = models("sd1")
    denoiser, latents, step = build(model, count=1)
    exact = model.unet.double(), latents.double()
    try:
        loss = mass(model.cross_layers, needs_output=True)
        (gradient,) = denoiser.predict(exact[1], step, Request(losses=(loss,))).gradients
        direction = gaussian((4, 13, 7), generators([9])).double()

        def value(shift):
            kept = []

            def record(maps, latents, output):
                kept.append(loss.function(maps, latents, output))
                return kept[-1]

            moved = exact[1] + shift * direction
            denoiser.predict(moved, step, Request(losses=(Loss(record, loss.layers, loss.columns, True),)))
            return float(kept[0].detach().sum())

        slope = (value(1e-4) - value(-1e-4)) / 2e-4
    finally:
        model.unet.float()
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_a_batch_has_the_gradients_of_its_samples(models):
    model = models("sd1")
    denoiser, latents, step = build(model)
    single, _, _ = build(model, count=1)
    loss = mass(model.cross_layers)
    together = denoiser.gradient(latents, step, loss)
    for index in range(2):
        alone = single.gradient(latents[index : index + 1], step, loss)
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-6, rtol=1e-3)
