"""What guidance costs, counted with torch's FLOP counter on the real shape of Stable Diffusion 1.5 at 512 x 512."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from inlay.benchmarks import guidance as costs
from inlay.diffusion.denoiser import Denoiser, Loss, Request, Watch, generators
from inlay.diffusion.memory import Live
from inlay.diffusion.model import Model
from inlay.diffusion.schedule import Schedule, Step
from inlay.guidance.base import Guidance
from inlay.guidance.masked_attention import MaskedAttention
from inlay.guidance.removal import Removal
from inlay.guidance.zest import Zest
from torch import Tensor

FORWARD = 803e9
"""FLOPs of one forward."""


@pytest.fixture(scope="module")
def sd15() -> Model:
    """Full size on the meta device: shapes without numbers."""
    return costs.build("sd15", "meta", torch.bfloat16)


@pytest.fixture(scope="module")
def plain(sd15: Model) -> costs.Count:
    return costs.count(sd15, Guidance(), 50)


def test_the_peak_is_of_what_lives_at_once() -> None:
    weight = torch.empty(256, 1024, device="meta")
    with Live([weight]) as live:
        assert weight.t().shape == (1024, 256)  # a view takes nothing
        for _ in range(3):
            kept = weight + 1
            kept = kept.half()
            assert kept.shape == (256, 1024)
    assert live.peak == 2**20 * (1 + 1 + 0.5)  # weight, sum, and its half or that of the round before
    assert live.bytes == 2**20 * (1 + 0.5)


def test_plain_sampling_is_two_forwards_a_step(plain: costs.Count) -> None:
    assert (plain.forwards, plain.backwards) == (100, 0)
    assert plain.flops == pytest.approx(100 * FORWARD, rel=0.005)


def test_masked_attention_costs_no_more_than_its_gradient(sd15: Model, plain: costs.Count) -> None:
    """15 of 50 steps with a conditional forward and a backward of 1.15 forwards: 1.32 times plain sampling."""
    cost = costs.count(sd15, MaskedAttention(), 50)
    assert (cost.forwards, cost.backwards) == (115, 15)
    assert cost.flops <= 1.32 * plain.flops * 1.03
    assert cost.flops >= plain.flops + 15 * 1.9 * FORWARD  # the gradient really goes through all layers
    assert cost.peak < 8 * 2**30


def test_zest_costs_one_short_backward_more(sd15: Model, plain: costs.Count) -> None:
    """25 of 50 steps with a backward of 0.79 forwards, from the 32 x 32 layers: 1.2 times plain sampling."""
    cost = costs.count(sd15, Zest(), 50)
    assert (cost.forwards, cost.backwards) == (100, 25)
    assert cost.flops <= 1.20 * plain.flops * 1.03
    assert cost.flops >= plain.flops + 25 * 0.7 * FORWARD


def test_masked_attention_in_one_forward_costs_a_backward_alone(sd15: Model, plain: costs.Count) -> None:
    """15 of 50 steps with a backward of 1.14 forwards through all layers, of 0.78 from the two inner grids."""
    for layers, limit in (("all", 1.18), ((1, 2), 1.12)):
        cost = costs.count(sd15, MaskedAttention(order="one-forward", layers=layers), 50)
        assert (cost.forwards, cost.backwards) == (100, 15)
        assert plain.flops + 15 * 0.7 * FORWARD < cost.flops <= limit * plain.flops


def test_removal_costs_what_plain_sampling_does(sd15: Model, plain: costs.Count) -> None:
    cost = costs.count(sd15, Removal(), 50)
    assert cost.forwards == plain.forwards
    assert cost.flops == pytest.approx(plain.flops, rel=1e-3)


def test_inner_layers_alone_stop_the_forward_behind_them(sd15: Model, plain: costs.Count) -> None:
    cost = costs.count(sd15, MaskedAttention(layers=(1, 2)), 50)
    assert cost.flops <= plain.flops + 15 * (0.75 + 0.79) * FORWARD * 1.03


def denoiser(model: Model) -> Denoiser:
    schedule, states = Schedule("ddim", model.scheduler_config, 4), model.prompts.encode(["a cup"])
    return Denoiser(model, schedule, states, states, 7.5, generators((0,)))


def inner_loss(model: Model, depth: int) -> Loss:
    """Of the layers at one depth."""
    layers = tuple(layer for layer in model.cross_layers if layer.depth == depth)
    return Loss(
        lambda maps, latents, output: sum(maps.layers[layer.name].square().sum((1, 2, 3, 4)) for layer in layers),
        layers,
        (1,),
    )


def test_nothing_is_saved_for_layers_behind_the_last_one(models: Callable[[str], Model]) -> None:
    """A watch on outer layers does not lengthen the graph of a loss on inner ones."""
    model = models("sd1")
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def ignore(maps: object, step: Step) -> None:
        pass

    watch = Watch(ignore, model.cross_layers, (1,))

    def saved(request: Request) -> int:
        kept = 0

        def pack(values: Tensor) -> Tensor:
            nonlocal kept
            kept += values.numel()
            return values

        with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda values: values):
            denoiser(model).predict(latents, denoiser(model).schedule.steps[0], request)
        return kept

    inner = saved(Request(losses=(inner_loss(model, 1),)))
    assert saved(Request(losses=(inner_loss(model, 1),), watches=(watch,))) < 1.05 * inner
    assert saved(Request(losses=(inner_loss(model, 0),))) > 1.2 * inner


def test_weights_get_no_gradients(models: Callable[[str], Model]) -> None:
    model = models("sd1")
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        gradient = denoiser(model).gradient(latents, denoiser(model).schedule.steps[0], inner_loss(model, 1))
    assert gradient.abs().max() > 0
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.unet.parameters())


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_checkpointing_changes_no_gradient(models: Callable[[str], Model], kind: str) -> None:
    """Recomputing a block captures again, stops again, and leaves the first maps alone."""
    model = models(kind)
    latents = torch.randn(1, 4, 12, 18, generator=torch.Generator().manual_seed(0))
    usual = denoiser(model)
    step, loss = usual.schedule.steps[0], inner_loss(model, 1)
    two = Request(losses=(loss, loss))

    def gradients() -> list[Tensor]:
        with torch.no_grad():
            return [usual.gradient(latents, step, loss), *usual.predict(latents, step, two).gradients]

    plain = gradients()
    with model.kept():
        model.spare()
        for one, other in zip(gradients(), plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not model.unet.is_gradient_checkpointing
