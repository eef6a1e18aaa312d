"""Every method on the loop: off means off, batches, order, shapes, chains, gradients, and nothing left behind."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inlay.diffusion.denoiser import Loss, Request, gaussian, generators
from inlay.diffusion.model import Model
from inlay.diffusion.schedule import Schedule
from inlay.errors import UsageError
from inlay.guidance import (
    METHODS,
    AttentionSwapping,
    Chain,
    DirectedDiffusion,
    Guidance,
    MaskedAttention,
    MultiDiffusion,
    PaintWithWords,
    Region,
    Removal,
    SegmenterGuidance,
    Zest,
    method,
)
from inlay.guidance.base import Hooks, Run, members
from inlay.guidance.masked_attention import unit_by_region
from inlay.guidance.methods import chained, described, parameters_of
from inlay.guidance.names import OWN
from inlay.guidance.parameters import number
from inlay.guidance.written import between_commas, parse, written
from inlay.guidance.zest import unit
from inlay.tests import tiny
from inlay.tests.guidance.guided import PROMPT, begin, box, sample, two_regions
from inlay.weights.diffusion import Belongings


class Classes(torch.nn.Module):
    """A segmentation network over "red apple" and "cat"."""

    classes = ("nothing", "red apple", "cat")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 3, 5, stride=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images)


GUIDED: dict[str, Guidance] = {
    "masked-attention": MaskedAttention(alpha=1.0, fraction=0.5),
    "masked-attention in one forward": MaskedAttention(alpha=1.0, fraction=0.5, order="one-forward"),
    "attention-swapping": AttentionSwapping(fraction=0.5),
    "zest": Zest(),
    "paint-with-words": PaintWithWords(strength=5.0),
    "directed-diffusion": DirectedDiffusion(fraction=0.5),
    "multidiffusion": MultiDiffusion(bootstrap=0.5),
    "segmenter": SegmenterGuidance(network=Classes(), scale=1000.0),
    "removal": Removal(),
    "zest+paint-with-words": Chain((Zest(), PaintWithWords(strength=5.0))),
    "masked-attention+attention-swapping": Chain((MaskedAttention(alpha=1.0), AttentionSwapping())),
    "multidiffusion+zest+segmenter": Chain((MultiDiffusion(), Zest(), SegmenterGuidance(network=Classes()))),
}
ALL = pytest.mark.parametrize("name", GUIDED)


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny SD 1 model in float64."""
    model = Model.assemble("sd1", tiny.parts("sd1", tmp_path_factory.mktemp("double")))
    return model.to(dtype=torch.float64)


@pytest.fixture(scope="module")
def plain(models: Any) -> torch.Tensor:
    return sample(models("sd1"), Guidance(), two_regions(), steps=2)


def in_double(name: str) -> Guidance:
    """The method with its network in float64."""

    def convert(guidance: Guidance) -> Guidance:
        if isinstance(guidance, Chain):
            return Chain(tuple(convert(part) for part in guidance.methods))
        if isinstance(guidance, SegmenterGuidance):
            return replace(guidance, network=Classes().double())
        return guidance

    return convert(GUIDED[name])


@pytest.fixture(scope="module")
def unguided(models: Any) -> Any:
    """(kind, scheduler) -> plain latents after two steps, made once."""
    made: dict[tuple[str, str], torch.Tensor] = {}

    def get(kind: str, scheduler: str) -> torch.Tensor:
        key = (kind, scheduler)
        if key not in made:
            made[key] = sample(models(kind), Guidance(), [], scheduler=scheduler, steps=2)
        return made[key]

    return get


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in GUIDED for kind in ("sd1", "sd2", "sdxl") if kind == "sd1" or "+" not in name],
)
@pytest.mark.parametrize("scheduler", ["ddim", "dpm++2m"])
def test_runs_on_every_model_shape_and_moves_the_sample(
    models: Any, unguided: Any, name: str, kind: str, scheduler: str
) -> None:
    made = sample(models(kind), GUIDED[name], two_regions(), scheduler=scheduler, steps=2)
    assert made.isfinite().all()
    assert not torch.allclose(made, unguided(kind, scheduler), atol=1e-5)


@pytest.mark.parametrize(
    "off",
    [
        MaskedAttention(alpha=0.0),
        MaskedAttention(fraction=0.0),
        AttentionSwapping(fraction=0.0),
        Zest(strength=0.0),
        Zest(fraction=0.0),
        PaintWithWords(strength=0.0),
        PaintWithWords(fraction=0.0),
        DirectedDiffusion(strength=0.0),
        DirectedDiffusion(fraction=0.0),
        MultiDiffusion(fraction=0.0),
        SegmenterGuidance(network=Classes(), scale=0.0),
        SegmenterGuidance(network=Classes(), fraction=0.0),
        Removal(scale=0.0),
        Removal(fraction=0.0),
        Chain((Guidance(),)),
        Chain((Zest(strength=0.0), PaintWithWords(fraction=0.0))),
    ],
    ids=str,
)
def test_off_means_off(models: Any, plain: torch.Tensor, off: Guidance) -> None:
    assert torch.equal(sample(models("sd1"), off, two_regions(), steps=2), plain)


@ALL
def test_no_regions_means_off(models: Any, plain: torch.Tensor, name: str) -> None:
    assert torch.equal(sample(models("sd1"), GUIDED[name], [], steps=2), plain)


@ALL
def test_regions_with_fraction_zero_mean_off(models: Any, plain: torch.Tensor, name: str) -> None:
    assert torch.equal(sample(models("sd1"), GUIDED[name], two_regions(fraction=0.0), steps=2), plain)


@ALL
def test_a_batch_of_two_equals_two_singles(double: Model, name: str) -> None:
    """Each sample with regions, prompt and seed of its own."""
    batch_against_singles(double, in_double(name), 1e-8)


@pytest.mark.parametrize("name", ["masked-attention", "zest+paint-with-words", "multidiffusion"])
def test_a_batch_of_two_equals_two_singles_in_single_precision(models: Any, name: str) -> None:
    batch_against_singles(models("sd1"), GUIDED[name], 1e-3)


def batch_against_singles(model: Model, guidance: Guidance, tolerance: float) -> None:
    regions = [two_regions(), [Region(box(2, 4, 9, 30), "cat")]]
    prompts = [PROMPT, "a cat on grass"]
    both = sample(model, guidance, regions, prompts=prompts, seeds=(3, 4), steps=2)
    for index in range(2):
        own = slice(index, index + 1)
        alone = sample(model, guidance, regions[own], prompts=prompts[own], seeds=(3 + index,), steps=2)
        assert torch.allclose(both[index], alone[0], rtol=0, atol=tolerance)


@ALL
def test_region_order_does_not_matter(double: Model, name: str) -> None:
    guidance = in_double(name)
    overlapping = [Region(box(0, 0, 20, 30), "red apple"), Region(box(10, 20, 32, 48), "cat")]
    one = sample(double, guidance, overlapping, steps=2)
    other = sample(double, guidance, overlapping[::-1], steps=2)
    assert torch.allclose(one, other, rtol=0, atol=1e-9)


@ALL
def test_one_pixel_is_a_region(models: Any, unguided: Any, name: str) -> None:
    made = sample(models("sd1"), GUIDED[name], [Region(box(9, 30, 10, 31), "cat")], steps=2)
    assert made.isfinite().all()
    assert not torch.equal(made, unguided("sd1", "ddim"))


@ALL
def test_latents_that_do_not_halve_evenly(models: Any, name: str) -> None:
    size = (9, 13)
    made = sample(models("sd1"), GUIDED[name], two_regions((36, 52)), size=size, steps=2)
    assert made.shape[-2:] == size
    assert made.isfinite().all()


@ALL
def test_soft_masks_guide(models: Any, unguided: Any, name: str) -> None:
    soft = [Region(0.7 * box(4, 4, 20, 20), "cat")]
    assert not torch.equal(sample(models("sd1"), GUIDED[name], soft, steps=2), unguided("sd1", "ddim"))


@pytest.mark.parametrize("name", [name for name in GUIDED if name != "removal"])
def test_weight_counts(models: Any, name: str) -> None:
    light, heavy = ([replace(two_regions()[0], weight=weight), two_regions()[1]] for weight in (1.0, 3.0))
    made = [sample(models("sd1"), GUIDED[name], regions, steps=2) for regions in (light, heavy)]
    assert not torch.equal(*made)


@ALL
def test_a_regions_fraction_ends_its_guidance(models: Any, name: str) -> None:
    """A region that rests from the second of two steps on leaves that step to the other alone."""
    seen: list[list[torch.Tensor]] = [[], []]
    for fraction, kept in zip((0.5, 1.0), seen, strict=True):
        regions = two_regions(fraction=fraction)
        sample(
            models("sd1"), GUIDED[name], regions, steps=2, on_step=lambda latents, step, kept=kept: kept.append(latents)
        )
    assert torch.allclose(seen[0][0], seen[1][0], atol=1e-5)
    assert not torch.equal(seen[0][1], seen[1][1])


@ALL
def test_nothing_stays_on_modules(models: Any, plain: torch.Tensor, name: str) -> None:
    """After a run, and after an exception inside a step, the next plain run is what it was, bit for bit."""
    model = models("sd1")
    before = {key: id(value) for key, value in model.unet.attn_processors.items()}
    sample(model, GUIDED[name], two_regions(), steps=2)

    def stumble(latents: torch.Tensor, step: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(model, GUIDED[name], two_regions(), on_step=stumble)
    hooks = [module for module in model.unet.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert not hooks
    assert {key: id(value) for key, value in model.unet.attn_processors.items()} == before
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.unet.parameters())
    assert torch.is_grad_enabled()
    assert torch.equal(sample(model, Guidance(), two_regions(), steps=2), plain)


def test_an_exception_inside_a_forward_leaves_nothing(models: Any, plain: torch.Tensor, monkeypatch: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ArithmeticError

    monkeypatch.setattr("inlay.guidance.zest.zest_loss", fail)
    with pytest.raises(ArithmeticError):
        sample(models("sd1"), GUIDED["zest"], two_regions())
    monkeypatch.undo()
    assert torch.is_grad_enabled()
    assert torch.equal(sample(models("sd1"), Guidance(), two_regions(), steps=2), plain)


def gradient_and_slopes(
    model: Model, guidance: Guidance, loss_of: Any, regions: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A loss's gradient to the latents, and central differences along 4 random directions: (products, slopes)."""
    schedule = Schedule("ddim", model.scheduler_config, 4)
    sources = generators([5])
    run, denoiser = begin(model, schedule, [PROMPT], [regions or two_regions()], (8, 12), sources)
    step = schedule.steps[0]
    latents = gaussian((4, 8, 12), sources).double()
    session = guidance.begin(run)
    loss, request = loss_of(session, step, denoiser, latents)
    gradient = denoiser.gradient(latents, step, loss, request)

    def value(at: torch.Tensor) -> float:
        kept: list[torch.Tensor] = []

        def record(*given: Any) -> torch.Tensor:
            kept.append(loss.function(*given).detach())
            return loss.function(*given)

        denoiser.gradient(at, step, replace(loss, function=record), request)
        return float(kept[0].sum())

    products, slopes = [], []
    for seed in range(4):
        way = gaussian((4, 8, 12), generators([seed])).double()
        products.append((gradient * way).sum())
        slopes.append((value(latents + 1e-5 * way) - value(latents - 1e-5 * way)) / 2e-5)
    return torch.stack(products), torch.tensor(slopes, dtype=torch.float64)


def recorded_loss(session: Any, step: Any, denoiser: Any, latents: torch.Tensor) -> tuple[Loss, Any]:
    """What a refining member asks the denoiser to differentiate."""
    asked: list[Any] = []

    class Spy:
        def gradient(self, latents: torch.Tensor, step: Any, loss: Loss, request: Any) -> torch.Tensor:
            asked.append((loss, request))
            return torch.zeros_like(latents)

    session.refine(latents, step, Spy())
    return asked[0]


@pytest.mark.parametrize(
    "guidance",
    [
        MaskedAttention(instances=False),
        MaskedAttention(layers=(1,), area=1.0),
        Chain((MaskedAttention(), AttentionSwapping(), DirectedDiffusion())),
    ],
    ids=["paper", "extended", "chain"],
)
def test_masked_attention_gradient_is_that_of_finite_differences(double: Model, guidance: Guidance) -> None:
    products, slopes = gradient_and_slopes(double, guidance, recorded_loss)
    assert slopes.abs().min() > 1e-6
    assert torch.allclose(products, slopes, rtol=1e-4, atol=1e-9)


def test_shared_words_gradient_is_that_of_finite_differences(double: Model) -> None:
    twins = [replace(region, words="cat") for region in two_regions()]
    products, slopes = gradient_and_slopes(double, MaskedAttention(), recorded_loss, twins)
    assert torch.allclose(products, slopes, rtol=1e-4, atol=1e-9)


def test_zest_gradient_is_that_of_the_first_term_by_finite_differences(double: Model, monkeypatch: Any) -> None:
    """The second term stops the gradient at its maximum on purpose, so Eq. 4's first term is differenced here."""
    import torch.nn.functional as F

    def first_term(estimated: torch.Tensor, target: torch.Tensor, *_: Any) -> torch.Tensor:
        return F.binary_cross_entropy(estimated, target, reduction="none").mean(dim=(1, 2)).sum()

    monkeypatch.setattr("inlay.guidance.zest.zest_loss", first_term)

    def requested(session: Any, step: Any, denoiser: Any, latents: torch.Tensor) -> tuple[Loss, Any]:
        return session.hooks[0].request(step).losses[0], None

    products, slopes = gradient_and_slopes(double, Zest(), requested)
    assert slopes.abs().min() > 1e-8
    assert torch.allclose(products, slopes, rtol=1e-4, atol=1e-10)


def test_swapping_beside_masked_attention_keeps_a_gradient(double: Model) -> None:
    alone, _ = gradient_and_slopes(double, MaskedAttention(layers=(2,)), recorded_loss)
    swapped, _ = gradient_and_slopes(double, Chain((MaskedAttention(layers=(2,)), AttentionSwapping())), recorded_loss)
    assert (swapped != 0).all()
    assert not torch.allclose(alone, swapped)


def test_masked_attention_lowers_its_loss(double: Model) -> None:
    """A small step of Eq. 3 brings the words into their regions."""
    schedule = Schedule("ddim", double.scheduler_config, 4)
    run, denoiser = begin(double, schedule, [PROMPT], [two_regions()], (8, 12), generators([5]))
    latents, step = gaussian((4, 8, 12), generators([6])).double(), schedule.steps[0]
    session = MaskedAttention(alpha=1e-3).begin(run)
    loss, request = recorded_loss(session, step, denoiser, latents)
    values: list[float] = []

    def record(*given: Any) -> torch.Tensor:
        value = loss.function(*given)
        values.append(float(value.detach().sum()))
        return value

    for at in (latents, session.refine(latents, step, denoiser)):
        denoiser.gradient(at, step, replace(loss, function=record), request)
    assert values[1] < values[0]


def test_one_forward_takes_the_papers_gradient_and_acts_on_the_next_latents(models: Any) -> None:
    """A step's gradient at the same latents; the paper's order predicts from moved latents, this one moves after."""
    model = models("sd1")
    schedule = Schedule("ddim", model.scheduler_config, 4)
    run, denoiser = begin(model, schedule, [PROMPT], [two_regions()], (8, 12), generators([5]))
    latents, step = gaussian((4, 8, 12), generators([6])), schedule.steps[0]
    paper, one = (MaskedAttention(alpha=1.0, order=order).begin(run) for order in ("paper", "one-forward"))
    with torch.no_grad():
        moved = paper.refine(latents, step, denoiser) - latents
        assert one.refine(latents, step, denoiser) is latents
        prediction = one.predict(latents, step, denoiser)
        torch.testing.assert_close(prediction.output, denoiser.predict(latents, step).output, rtol=1e-4, atol=1e-4)
        after = denoiser.advance(latents, prediction.output, step)
        torch.testing.assert_close(one.settle(after, prediction, step, denoiser) - after, moved, rtol=1e-3, atol=1e-5)


def test_masked_attention_every_other_step(models: Any) -> None:
    moved = []

    class Spy:
        def gradient(self, latents: torch.Tensor, step: Any, *_: Any) -> torch.Tensor:
            moved.append(step.index)
            return torch.zeros_like(latents)

    model = models("sd1")
    schedule = Schedule("ddim", model.scheduler_config, 8)
    run, _ = begin(model, schedule, [PROMPT], [two_regions()], (8, 12), generators([0]))
    session = MaskedAttention(every=2, fraction=0.6).begin(run)
    for step in schedule.steps:
        session.refine(torch.zeros(1, 4, 8, 12), step, Spy())  # type: ignore[arg-type]
    assert moved == [0, 2, 4]


def test_editing_has_a_milder_default(models: Any) -> None:
    model = models("sd1")
    schedule = Schedule("ddim", model.scheduler_config, 50)
    run, _ = begin(model, schedule, [PROMPT], [two_regions()], (8, 12), generators([0]))
    scratch = MaskedAttention(normalize="none").begin(run).hooks[0]
    edit = MaskedAttention(normalize="none").begin(replace(run, editing=True)).hooks[0]
    assert (scratch.length, edit.length) == (0.08, 0.01)  # type: ignore[attr-defined]


def test_the_scale_free_loss_is_the_papers_at_its_shape(models: Any) -> None:
    """SD 2 at 512 x 512 and 50 steps: 16 layers of 5, 10, 20 and 20 heads at 64, 32, 16 and 8 cells a side."""
    from inlay.diffusion.attention import Layer

    shapes = [(0, 5, 2), (1, 10, 2), (2, 20, 2), (3, 20, 1), (2, 20, 3), (1, 10, 3), (0, 5, 3)]
    layers = tuple(Layer(f"{depth}", depth, depth, heads, True) for depth, heads, many in shapes for _ in range(many))
    model = replace(models("sd2"), layers=layers)
    schedule = Schedule("ddim", model.scheduler_config, 50)
    run, _ = begin(model, schedule, [PROMPT], [two_regions((64, 64))], (64, 64), generators([0]))
    assert MaskedAttention().begin(run).hooks[0].length == pytest.approx(0.08)  # type: ignore[attr-defined]


@pytest.mark.parametrize("steepness", [1e-6, 1.0, 1e3])
def test_a_unit_step_is_as_long_whatever_the_loss(models: Any, steepness: float) -> None:
    gradient = torch.randn(2, 4, 8, 12) * steepness
    gradient[1] = 0

    class Slope:
        def gradient(self, *_: object) -> torch.Tensor:
            return gradient

    model = models("sd1")
    schedule = Schedule("ddim", model.scheduler_config, 25)
    run, _ = begin(model, schedule, [PROMPT] * 2, [two_regions()] * 2, (8, 12), generators([0, 1]))
    session = MaskedAttention(normalize="unit", alpha=0.1, order="paper").begin(run)
    for step in schedule.steps[:3]:
        moved = session.refine(torch.zeros(2, 4, 8, 12), step, Slope())  # type: ignore[arg-type]
        assert moved[0].abs().max() == pytest.approx(0.1 * 50 / 25 * schedule.level(step.index)[1])
        assert (moved[1] == 0).all()


@given(st.data())
def test_unit_steps_reach_as_far_in_every_region(data: st.DataObject) -> None:
    """However much weaker the gradient is there; outside, and where nothing pulls, as with one unit step for all."""
    columns = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    masks = torch.zeros(len(columns), 6, 16)
    for index, width in enumerate(columns):
        masks[index, 1:5, 5 * index : 5 * index + width] = 1
    strengths = torch.tensor(data.draw(st.lists(st.floats(1e-6, 1e3), min_size=len(columns), max_size=len(columns))))
    weights = torch.tensor(data.draw(st.lists(st.floats(0.1, 4), min_size=len(columns), max_size=len(columns))))
    outside = 1 - masks.amax(0)
    gradient = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    gradient = gradient * (outside + (masks * strengths[:, None, None]).sum(0))
    moved = unit_by_region(gradient, masks, weights)
    torch.testing.assert_close((masks[:, None] * moved).abs().amax((1, 2, 3)), weights)
    torch.testing.assert_close(outside * moved, outside * unit(gradient[None])[0])
    assert bool(((moved.sign() == gradient.sign()) | (moved == 0)).all())
    swapped = unit_by_region(gradient, masks.flip(0), weights.flip(0))
    torch.testing.assert_close(swapped, moved)
    still = unit_by_region(gradient * outside, masks, weights)
    assert bool((still * (1 - outside) == 0).all())


@pytest.mark.parametrize("editing", [False, True])
def test_alpha_and_order_follow_the_kind_of_step(editing: bool) -> None:
    unit_steps = {"masked-attention": {"normalize": "unit"}}
    advised = [
        method.advised(advice, editing)
        for method, advice in [
            (MaskedAttention(), {}),
            (MaskedAttention(), unit_steps),
            (MaskedAttention(order="paper"), unit_steps),
            (MaskedAttention(order="one-forward", normalize="none"), unit_steps),
            (MaskedAttention(), {"masked-attention": {"normalize": "unit", "order": "paper", "alpha": 1.0}}),
        ]
    ]
    assert [(one.normalize, one.order) for one in advised] == [
        ("scale-free", "paper"),
        ("unit", "one-forward"),
        ("unit", "paper"),
        ("none", "one-forward"),
        ("unit", "paper"),
    ]
    assert [one.alpha for one in advised] == (
        [0.01, 0.1, 0.05, 0.01, 0.05] if editing else [0.08, 0.25, 0.2, 0.08, 1.0]
    )
    assert {one.fraction for one in advised} == {0.3}


@pytest.mark.parametrize(("editing", "fraction"), [(False, 0.5), (True, 0.2)])
def test_an_advised_fraction_holds_where_none_is_given(editing: bool, fraction: float) -> None:
    advice = {"masked-attention": {"fraction": 0.5, "fraction_editing": 0.2}}
    assert MaskedAttention().advised(advice, editing).fraction == fraction
    assert MaskedAttention(fraction=0.7).advised(advice, editing).fraction == 0.7
    assert MaskedAttention().advised({"masked-attention": {"fraction": 0.5}}, editing=True).fraction == 0.3


def test_advice_for_one_kind_of_step_says_nothing_of_another(models: Any) -> None:
    model = replace(models("sd1"), belongings=Belongings({"masked-attention": {"normalize": "unit", "alpha": 0.3}}))
    schedule = Schedule("ddim", model.scheduler_config, 50)
    run, _ = begin(model, schedule, [PROMPT], [two_regions()], (8, 12), generators([0]))
    lengths = [
        MaskedAttention(normalize=normalize).begin(run).hooks[0].length  # type: ignore[attr-defined]
        for normalize in (None, "unit", "none")
    ]
    assert lengths == [0.3, 0.3, 0.08]


def test_zest_moves_by_its_level_and_not_without_a_gradient(models: Any) -> None:
    model = models("sd1")
    schedule = Schedule("ddim", model.scheduler_config, 4)
    run, _ = begin(model, schedule, [PROMPT] * 2, [two_regions()] * 2, (8, 12), generators([0, 1]))
    (doing,) = Zest(strength=0.5).begin(run).hooks
    gradient = torch.zeros(2, 4, 8, 12)
    gradient[1, 0, 0, 0], gradient[1, 1, 2, 3] = -7.0, 3.5
    moved = doing.settle(torch.zeros(2, 4, 8, 12), gradient, schedule.steps[1])
    noise = schedule.level(1)[1]
    assert (moved[0] == 0).all()
    assert moved[1, 0, 0, 0].item() == pytest.approx(0.5 * noise)
    assert moved[1, 1, 2, 3].item() == pytest.approx(-0.25 * noise)


def count_forwards(monkeypatch: Any, model: Model, guidance: Guidance, steps: int) -> list[int]:
    """Batch sizes of the UNet's forwards in a run."""
    sizes: list[int] = []
    original = type(model.unet).forward

    def counted(self: Any, source: torch.Tensor, *given: Any, **named: Any) -> Any:
        sizes.append(len(source))
        return original(self, source, *given, **named)

    monkeypatch.setattr(type(model.unet), "forward", counted)
    sample(model, guidance, two_regions(), steps=steps)
    monkeypatch.undo()
    return sizes


@pytest.mark.parametrize(
    ("guidance", "sizes"),
    [
        (Guidance(), [2, 2]),
        (MaskedAttention(fraction=0.5), [1, 2, 2]),
        (MaskedAttention(fraction=0.5, order="one-forward"), [1, 1, 2]),
        (Removal(), [2, 2]),
        (Zest(fraction=0.5), [1, 1, 2]),
        (PaintWithWords(), [2, 2]),
        (AttentionSwapping(), [2, 2]),
        (Chain((Zest(fraction=0.5), PaintWithWords())), [1, 1, 2]),
        (MultiDiffusion(bootstrap=0.5), [6, 4]),
    ],
    ids=str,
)
def test_forwards_are_as_few_as_the_method_needs(
    models: Any, monkeypatch: Any, guidance: Guidance, sizes: list[int]
) -> None:
    assert count_forwards(monkeypatch, models("sd1"), guidance, 2) == sizes


def test_two_owners_of_the_prediction_are_refused(models: Any) -> None:
    class Another(MultiDiffusion):
        pass

    with pytest.raises(UsageError, match="MultiDiffusion and Another each make the prediction"):
        sample(models("sd1"), Chain((MultiDiffusion(), Another())), two_regions())


def test_a_mask_of_another_shape_is_refused(models: Any) -> None:
    with pytest.raises(UsageError, match="of another shape than the picture"):
        sample(models("sd1"), Zest(), [Region(torch.ones(32, 32), "cat")])


def test_multidiffusion_with_one_full_region_of_the_same_prompt_is_plain(double: Model) -> None:
    whole = [Region(torch.ones(8, 12), "cat", prompt=PROMPT)]
    made = sample(double, MultiDiffusion(bootstrap=0.0), whole)
    assert torch.allclose(made, sample(double, Guidance(), whole), atol=1e-10)


@pytest.mark.parametrize("words", ["red apple", "A Red Apple", (2, 3), (1, 2, 3)])
def test_the_segmenter_finds_the_class_of_a_phrase_and_of_tokens(models: Any, words: Any) -> None:
    run, _ = begin(
        models("sd1"),
        Schedule("ddim", models("sd1").scheduler_config, 4),
        [PROMPT],
        [[Region(torch.ones(8, 12), words)]],
        (8, 12),
        generators([0]),
    )
    classes = {"nothing": 0, "Apple": 1, "red apple": 2} if words == (2, 3) else {"nothing": 0, "Apple": 2}
    (doing,) = SegmenterGuidance(network=Classes(), classes=classes).begin(run).hooks
    assert list(doing.wanted.values()) == [2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("red", r"no class for the words 'red'; it knows nothing, red apple, cat\."),
        ((4, 5), r"no class for the words 'and a'; it knows nothing, red apple, cat\."),
        ("catt", r"no class for the words 'catt'; did you mean cat\?"),
        ((3, 6), r"'apple cat' name apple and cat, and the segmenter guides a region to one thing"),
    ],
)
def test_words_without_one_class_are_refused(models: Any, words: Any, says: str) -> None:
    classes = {"nothing": 0, "red apple": 1, "cat": 2} if words != (3, 6) else {"apple": 1, "cat": 2}
    method = SegmenterGuidance(network=Classes(), classes=classes)
    with pytest.raises(UsageError, match=says):
        sample(models("sd1"), method, [Region(torch.ones(8, 12), words)], prompts=["a red apple and a cat catt"])


@pytest.mark.parametrize(
    ("guidance", "says"),
    [
        (SegmenterGuidance(network="Classes()"), r"network is 'Classes\(\)'; give a torch.nn.Module"),
        (SegmenterGuidance(network=torch.nn.Identity()), "does not name its classes; give classes="),
        (SegmenterGuidance(network=Classes(), classes={"red apple": 0, "cat": 3}), "has 3 classes, and no class 3"),
        (SegmenterGuidance(network=Classes(), background=9), "has 3 classes, and no class 9"),
        (MaskedAttention(layers=1.5), "There is no cross-attention layer '1.5'"),  # type: ignore[arg-type]
    ],
)
def test_what_a_model_cannot_be_guided_with_is_refused(models: Any, guidance: Guidance, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        sample(models("sd1"), guidance, two_regions())


def test_the_segmenter_stays_as_it_was(models: Any) -> None:
    network = Classes()
    sample(models("sd1"), SegmenterGuidance(network=network), two_regions(), steps=1)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_region_with_a_prompt_of_its_own_needs_no_words_in_multidiffusion(models: Any) -> None:
    mask = torch.ones(8, 12)
    made = sample(models("sd1"), MultiDiffusion(), [Region(mask, (), prompt="a cat")])
    assert torch.equal(made, sample(models("sd1"), MultiDiffusion(), [Region(mask, "cat", prompt="a cat")]))
    with pytest.raises(UsageError, match="neither words nor a prompt for multidiffusion"):
        sample(models("sd1"), MultiDiffusion(), [Region(mask, ())])


def test_a_share_of_few_steps_is_one_at_least(models: Any) -> None:
    made = sample(models("sd1"), MaskedAttention(alpha=1.0, fraction=0.3), two_regions(), steps=1)
    assert not torch.equal(made, sample(models("sd1"), Guidance(), two_regions(), steps=1))


def test_segmenter_gradient_is_eq_1(models: Any) -> None:
    """The noise estimate rises by the noise level times the scaled gradient, in the model's own prediction type."""
    for kind in ("sd1", "sd2"):
        model = models(kind)
        schedule = Schedule("ddim", model.scheduler_config, 4)
        run, _ = begin(model, schedule, [PROMPT], [two_regions()], (8, 12), generators([0]))
        (doing,) = SegmenterGuidance(network=Classes(), scale=2.0).begin(run).hooks
        latents, output, gradient = (gaussian((4, 8, 12), generators([seed])) for seed in range(3))
        step = schedule.steps[1]
        moved = doing.adjust(output, gradient, latents, step)
        rise = schedule.epsilon(latents, moved, step) - schedule.epsilon(latents, output, step)
        assert torch.allclose(rise, 2 * schedule.level(1)[1] * gradient, atol=1e-5)


def test_methods_by_name() -> None:
    assert method(" zest +paint-with-words ", **{"zest . strength ": 2.0}) == Chain(
        (Zest(strength=2), PaintWithWords())
    )
    assert method("masked-attention", normalize=" none ") == MaskedAttention(normalize="none")
    assert type(method("plain")) is Guidance
    assert method("zest", fraction=0.25) == Zest(fraction=0.25)
    assert method("zest+paint-with-words") == Chain((Zest(), PaintWithWords()))
    assert method("zest+paint-with-words", **{"zest.strength": 2.0}) == Chain((Zest(strength=2.0), PaintWithWords()))
    assert method("zest+paint-with-words", fraction=0.1) == Chain((Zest(fraction=0.1), PaintWithWords(fraction=0.1)))


def test_every_registered_method_is_under_test() -> None:
    """What is registered later joins the laws above by an entry in `GUIDED`."""
    assert (
        set(METHODS) == {"plain", *OWN} == {"plain"} | {one.name for made in GUIDED.values() for one in members(made)}
    )


def test_the_readmes_table_has_every_method_and_its_parameters() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z][a-z-]*)` \| (.*) \|", readme, flags=re.MULTILINE))
    assert set(rows) == set(METHODS) - {"plain"}
    for name, row in rows.items():
        assert set(re.findall(r"`([a-z]+)`", row)) <= set(parameters_of(name)), name


def test_a_method_in_one_file_registers_itself_and_runs(models: Any) -> None:
    """A subclass with a name is a method: by its name, with its parameters checked, in records and in chains."""
    try:

        @dataclass(frozen=True)
        class Louder(Guidance, name="louder"):
            times: float | None = number(None, 0)
            paper = MappingProxyType({"times": 2.0})

            def hooks(self, run: Run) -> Hooks[Any] | None:
                return Raising(self, run, "all")

        class Raising(Hooks[Louder]):
            def scores(self, scores: torch.Tensor, places: Any, step: Any) -> torch.Tensor:
                return scores * self.method.times

        assert METHODS["louder"] is Louder
        assert chained(parse("louder:times=3+zest")) == Chain((Louder(3), Zest()))
        assert described(Louder(3)).methods == (("louder", {"times": 3}),)
        with pytest.raises(UsageError, match="Louder's times is -1; give a number of at least 0"):
            method("louder", times=-1)
        with pytest.raises(UsageError, match="two guidance methods of the name 'louder'"):
            type("Other", (Guidance,), {}, name="louder")
        model = models("sd1")
        two, three = (sample(model, Louder(times), two_regions()) for times in (2.0, 3.0))
        assert torch.equal(sample(model, Louder(), two_regions()), two)
        assert not torch.equal(two, three)
        advising = replace(model, belongings=Belongings({"louder": {"times": 3.0}}))
        assert torch.equal(sample(advising, Louder(), two_regions()), three)
    finally:
        METHODS.pop("louder", None)


def test_methods_are_asked_once_a_step(models: Any) -> None:
    asked: list[int] = []

    class Counting(Hooks[Guidance]):
        def request(self, step: Any) -> Request:
            asked.append(step.index)
            return super().request(step)

    class Counted(Guidance):
        def hooks(self, run: Run) -> Hooks[Any]:
            return Counting(self, run)

    sample(models("sd1"), Chain((Counted(), Zest())), two_regions(), steps=3)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_written_recorded_and_read_back(name: str) -> None:
    assert chained(parse(name)) == METHODS[name]()
    assert described(METHODS[name]()).lost == ()


@pytest.mark.parametrize(
    "guidance",
    [
        Zest(layers=(1, 2), fraction=0.25),
        Zest(layers=(0,)),
        Chain((MaskedAttention(alpha=0.1, normalize="none", instances=False), PaintWithWords(layers=(1,)))),
        Chain((Zest(strength=2), Chain((PaintWithWords(), AttentionSwapping(renormalize=True))))),
    ],
    ids=str,
)
def test_records_and_text_give_the_guidance_back(guidance: Guidance) -> None:
    kept = described(guidance)
    assert kept.lost == kept.unrepeatable == ()
    assert chained(kept.methods) == guidance
    assert chained(parse(written(kept.methods))) == guidance
    stored = json.loads(json.dumps(kept.methods))
    assert chained(tuple((name, parameters) for name, parameters in stored)) == guidance


def test_what_a_record_cannot_hold_is_said() -> None:
    class Own(Guidance):
        pass

    kept = described(Chain((SegmenterGuidance(network=Classes()), Own(), Zest())))
    assert kept.lost == ("the network of segmenter", "the method Own")
    assert kept.unrepeatable == (
        "The stored settings cannot hold the network of segmenter and the method Own, so --from will not make this "
        "picture again.",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zest:fraction=0.3,strength=1", "zest cannot have 'fraction=0.3,strength=1'; write zest:fraction"),
        ("zest:fraction", "'fraction' of zest has no value; write zest:fraction=VALUE"),
    ],
)
def test_methods_that_are_written_wrongly_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(text)


def test_commas_inside_methods_stay() -> None:
    listed = between_commas(
        "plain, zest:layers=1,2,zest:layers=1,2:strength=1+multidiffusion,masked-attention", set(METHODS)
    )
    assert listed == ["plain", "zest:layers=1,2", "zest:layers=1,2:strength=1+multidiffusion", "masked-attention"]
    assert between_commas("", set(METHODS)) == []
    assert between_commas("plain,magic", set(METHODS)) == ["plain", "magic"]


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("masked-atention", {}, "did you mean masked-attention"),
        ("qqq", {}, "choose from plain"),
        ("zest+", {}, r"There is no method ''; write zest:fraction=0\.3:strength=1\+paint-with-words, or in Python"),
        ("zest:fraction=0.3", {}, r"no method 'zest:fraction=0\.3'; write .* in Python method\('zest', fraction=0\.3"),
        ("strength=1", {}, "There is no method 'strength=1'; write zest:"),
        ("zest", {"fraction": "0.3,strength=1"}, "fraction is '0.3,strength=1'; give a number"),
        ("zest+zest", {}, "Zest stands in the chain twice; name it once"),
        ("zest", {"strenght": 1}, "did you mean strength"),
        ("plain", {"alpha": 1}, "it has none"),
        ("zest", {"paint-with-words.strength": 1}, "has no parameter"),
        ("masked-attention", {"alpha": -1}, "alpha is -1; give a number of at least 0"),
        ("masked-attention", {"alpha": float("nan")}, "give a number"),
        ("masked-attention", {"alpha": "0.1"}, "give a number"),
        ("masked-attention", {"normalize": "sum"}, "choose one of scale-free, none"),
        ("masked-attention", {"every": 0}, "of at least 1"),
        ("masked-attention", {"every": 1.5}, "every is 1.5; give a whole number"),
        ("masked-attention", {"instances": "no"}, "instances is 'no'; give true or false"),
        ("attention-swapping", {"renormalize": 1}, "renormalize is 1; give true or false"),
        ("directed-diffusion", {"trailing": 2.5}, "trailing is 2.5; give a whole number"),
        ("segmenter", {"background": "sky"}, "background is 'sky'; give a whole number"),
        ("segmenter", {"classes": "apple"}, "classes is 'apple'; give the index of each word's class"),
        ("segmenter", {"classes": {"cat": -1}}, "give the index of each word's class"),
        ("zest", {"fraction": 1.2}, "from 0 to 1"),
        ("multidiffusion", {"bootstrap": -0.1}, "from 0 to 1"),
    ],
)
def test_unknown_names_and_values_are_refused(name: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        method(name, **parameters)


def test_a_chain_has_methods_and_each_but_once() -> None:
    with pytest.raises(UsageError, match="The chain has no methods"):
        Chain(())
    with pytest.raises(UsageError, match="Zest stands in the chain twice"):
        Chain((Zest(), Chain((PaintWithWords(), Zest(fraction=0.5)))))


def test_plain_in_a_chain_is_harmless(models: Any) -> None:
    alone, beside = (sample(models("sd1"), method(name), two_regions(), steps=2) for name in ("zest", "plain+zest"))
    assert torch.equal(alone, beside)
