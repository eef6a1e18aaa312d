"""Attentive Eraser against its authors' attention written out, on the layer lists of the stock models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from inlay.diffusion.attention import SelfEdit
from inlay.diffusion.denoiser import Request, gaussian, generators
from inlay.diffusion.model import Model
from inlay.diffusion.schedule import Schedule
from inlay.errors import UsageError
from inlay.guidance import Chain, Guidance, MaskedAttention, Region, Removal
from inlay.guidance.removal import decoder, redirected
from inlay.tests import tiny
from inlay.tests.guidance.guided import PROMPT, begin, box, sample

SIZE = (16, 16)

STOCK: dict[str, dict[str, Any]] = {
    "sd1": {
        "block_out_channels": (16, 16, 32, 32),
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "attention_head_dim": 2,
    },
    "sdxl": {
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (2, 2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    },
}
"""The stock UNets' blocks, so that their layers are the stock models' own, with few channels."""
AUTHORS = {"sd1": range(10, 16), "sdxl": range(34, 70)}
"""Their layers, counted over self-attention alone."""


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Model] = {}

    def get(kind: str) -> Model:
        if kind not in made:
            parts = tiny.parts(kind, tmp_path_factory.mktemp(kind))
            torch.manual_seed(1)
            width = 64 if kind == "sdxl" else 32
            parts["unet"] = UNet2DConditionModel(
                sample_size=16, norm_num_groups=8, cross_attention_dim=width, **STOCK[kind]
            )
            made[kind] = Model.assemble(kind, parts).to(dtype=torch.float64)
        return made[kind]

    return get


class Authors:
    """A layer as the authors' code has it: the first half plain, the second with the softmax of edited scores."""

    def __init__(self, mask: torch.Tensor | None, suppressing: bool) -> None:
        self.mask, self.suppressing = mask, suppressing

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, *_: Any, **__: Any) -> Any:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for states in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        scores = query @ key.transpose(-1, -2) * attn.scale
        plain, edited = (part.softmax(dim=-1) for part in scores.chunk(2))
        if self.mask is not None:
            side = int(scores.shape[-1] ** 0.5)
            cells = F.max_pool2d(self.mask[None, None], self.mask.shape[0] // side).round().flatten()
            forbidden = cells.masked_fill(cells == 1, torch.finfo(scores.dtype).min)
            edited = (scores.chunk(2)[1] + forbidden).softmax(dim=-1)
            if self.suppressing:
                inside = (0.3 * scores.chunk(2)[1] + forbidden).softmax(dim=-1)
                edited = cells[:, None] * inside + (1 - cells[:, None]) * edited
        mixed = torch.cat([plain, edited]) @ value
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("kind", STOCK)
def test_the_decoders_two_finest_grids_are_the_authors_layers(stock: Any, kind: str) -> None:
    own = [layer for layer in stock(kind).layers if not layer.cross]
    assert len(own) == {"sd1": 16, "sdxl": 70}[kind]
    assert decoder(stock(kind)) == tuple(own[index] for index in AUTHORS[kind])


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize("index", [0, 1, 2])
@torch.no_grad()
def test_the_prediction_is_the_authors(stock: Any, kind: str, index: int) -> None:
    """At a suppressing step and behind: ten of fifty steps are two of ten."""
    model = stock(kind)
    mask = box(16, 8, 48, 40, (64, 64))
    schedule = Schedule("ddim", model.scheduler_config, 10, first=2)
    regions = [[Region(mask, ())]] * 2
    run, denoiser = begin(model, schedule, [PROMPT, ""], regions, SIZE, generators([0, 1]), scale=3.0)
    step, latents = schedule.steps[index], gaussian((4, *SIZE), generators([2, 3])).double()
    session = Removal().begin(run)
    ours = session.predict(session.refine(latents, step, denoiser), step, denoiser).output

    edited = {layer.name for layer in decoder(model)}
    kept = dict(model.unet.attn_processors)
    try:
        model.unet.set_attn_processor(
            {
                f"{layer.name}.processor": Authors(mask.double() if layer.name in edited else None, index < 2)
                for layer in model.layers
            }
        )
        both = denoiser.positive.cat([denoiser.positive] * 2)
        plain, changed = denoiser.forward(torch.cat([latents] * 2), step, both).chunk(2)
    finally:
        model.unet.set_attn_processor(kept)
    torch.testing.assert_close(ours, plain + 9 * (changed - plain), rtol=1e-8, atol=1e-8)
    assert (changed - plain).abs().max() > 1e-3


def test_a_hidden_cell_is_not_read() -> None:
    hidden = torch.tensor([[False, True, True, False], [True] * 4, [False] * 4])
    bias, scale = redirected(hidden, 0.3)
    probabilities = (torch.randn(3, 2, 4, 4) * scale + bias).softmax(dim=-1)
    assert (probabilities[0, :, :, 1:3] == 0).all()
    assert (bias[1:] == 0).all(), "nothing else to read, or nothing hidden"
    assert scale[0].flatten().tolist() == pytest.approx([1, 0.3, 0.3, 1])


def test_nothing_that_is_hidden_reaches_another_cell() -> None:
    hidden = torch.zeros(1, 96, dtype=torch.bool)
    hidden[0, 30:50] = True
    bias, scale = redirected(hidden, 0.3)
    query, key, value = torch.randn(3, 1, 2, 96, 8)
    read = F.scaled_dot_product_attention(query * scale, key, value, attn_mask=bias)
    key[..., 30:50, :], value[..., 30:50, :] = 7.0, -7.0
    assert torch.equal(F.scaled_dot_product_attention(query * scale, key, value, attn_mask=bias), read)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_removal_needs_no_words_and_no_prompt(models: Any, kind: str) -> None:
    place = [Region(box(8, 8, 24, 24), ())]
    made = sample(models(kind), Removal(), place, prompts=("",), steps=2)
    assert made.isfinite().all()
    assert not torch.allclose(made, sample(models(kind), Guidance(), place, prompts=("",), steps=2), atol=1e-4)
    with pytest.raises(UsageError, match="no words for masked-attention"):
        sample(models(kind), Chain((Removal(), MaskedAttention())), place)


def test_layers_by_depth_and_name(models: Any) -> None:
    model, place = models("sd1"), [Region(box(8, 8, 24, 24), ())]
    names = tuple(layer.name for layer in decoder(model))
    by_name, by_default, coarse = (sample(model, Removal(layers=layers), place) for layers in (names, None, (1,)))
    assert torch.equal(by_name, by_default)
    assert not torch.equal(coarse, by_default)
    with pytest.raises(UsageError, match="no self-attention layer 'attn2'; give depths"):
        sample(model, Removal(layers=("attn2",)), place)


def reading(model: Model, request: Request, scale: float = 3.0) -> torch.Tensor:
    schedule = Schedule("ddim", model.scheduler_config, 4)
    _, denoiser = begin(model, schedule, [PROMPT], [[]], (8, 12), generators([0]), scale)
    with torch.no_grad():
        return denoiser.predict(gaussian((4, 8, 12), generators([1])), schedule.steps[1], request).output


def test_edits_reach_the_rows_and_layers_that_they_name(models: Any) -> None:
    model = models("sd1")
    asked: list[Any] = []

    def edit(layer: Any, grid: Any) -> Any:
        asked.append(layer)
        return torch.randn(1, 1, 1, grid[0] * grid[1], generator=torch.Generator().manual_seed(0)), None

    chosen = decoder(model)
    conditional, both = (Request(self_attention=(SelfEdit(frozenset(chosen), edit, rows),)) for rows in (False, True))
    plain, one, two = (reading(model, request) for request in (Request(), conditional, both))
    assert asked == [*chosen, *(layer for layer in chosen for _ in range(2))]
    assert not torch.allclose(one, plain, atol=1e-5)
    assert not torch.allclose(one, two, atol=1e-5)
    alone = reading(model, Request(), 1.0), reading(model, both, 1.0)
    edited_conditional, edited_unconditional = alone[1], (two - 3 * alone[1]) / -2
    torch.testing.assert_close((one - 3 * edited_conditional) / -2, (plain - 3 * alone[0]) / -2, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(edited_unconditional, (plain - 3 * alone[0]) / -2, atol=1e-4)


def test_edits_of_no_layer_are_off_bit_for_bit_and_of_nothing_but_rounding(models: Any) -> None:
    model = models("sd1")

    def nothing(layer: Any, grid: Any) -> Any:
        return None, None

    nowhere, nothing_everywhere = SelfEdit(frozenset(), nothing), SelfEdit(frozenset(model.layers), nothing)
    plain = reading(model, Request())
    assert torch.equal(reading(model, Request(self_attention=(nowhere,))), plain)
    rounded = reading(model, Request(self_attention=(nothing_everywhere,)))
    torch.testing.assert_close(rounded, plain, rtol=1e-5, atol=1e-5)
