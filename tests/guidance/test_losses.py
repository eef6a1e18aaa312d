"""The methods' pure functions: the worked examples, their gradients, and what they must not do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inlay.guidance.attention_swapping import swap_attention
from inlay.guidance.directed_diffusion import direct_attention, gaussians
from inlay.guidance.masked_attention import masked_attention_loss, sharing
from inlay.guidance.paint_with_words import paint_scores
from inlay.guidance.zest import estimate, joined, zest_loss

ROWS = [[0.2, 0.5, 0.3], [0.1, 0.6, 0.3], [0.4, 0.4, 0.2], [0.3, 0.3, 0.4]]
MAPS = torch.tensor(ROWS, dtype=torch.float64).view(1, 1, 4, 3)
MASK = torch.tensor([[[1.0, 1, 0, 0]]])


def random_maps(heads: int, grid: tuple[int, int], tokens: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(heads, *grid, tokens, generator=source, dtype=torch.float64).softmax(dim=-1)


def test_masked_attention_worked_example() -> None:
    assert masked_attention_loss([MAPS], MASK, [[1]], 0.5).item() == pytest.approx(-0.75)


def test_masked_attention_is_a_sum_over_heads_and_layers() -> None:
    once = masked_attention_loss([MAPS], MASK, [[1]], 0.5)
    assert torch.isclose(masked_attention_loss([MAPS.repeat(3, 1, 1, 1)], MASK, [[1]], 0.5), 3 * once)
    assert torch.isclose(masked_attention_loss([MAPS, MAPS], MASK, [[1]], 0.5), 2 * once)


def test_masked_attention_takes_masks_of_any_size() -> None:
    fine = MASK.repeat_interleave(7, dim=1).repeat_interleave(5, dim=2)
    assert masked_attention_loss([MAPS], fine, [[1]], 0.5).item() == pytest.approx(-0.75)


def test_masked_attention_serves_one_pixel() -> None:
    mask = torch.zeros(1, 512, 768)
    mask[0, 300, 400] = 1
    maps = random_maps(2, (8, 12), 3).requires_grad_()
    (gradient,) = torch.autograd.grad(masked_attention_loss([maps], mask, [[1]], 0.5), maps)
    assert (gradient[..., 1] == -1).sum() == 2  # one cell of each head
    assert gradient[0, 300 * 8 // 512, 400 * 12 // 768, 1] == -1


def test_ones_as_weights_and_boosts_are_the_papers() -> None:
    maps = random_maps(2, (4, 6), 5)
    masks = torch.zeros(2, 4, 6, dtype=torch.float64)
    masks[0, :2, :3], masks[1, 1:, 2:] = 1, 1
    words, ones = [[1, 2], [2, 3]], torch.ones(2, dtype=torch.float64)
    paper = masked_attention_loss([maps], masks, words, 0.5)
    assert torch.isclose(masked_attention_loss([maps], masks, words, 0.5, ones, ones, instances=False), paper)


@pytest.mark.parametrize("words", [[[1, 2], [3, 4]], [[1], [4]]])
def test_instances_change_nothing_where_regions_fare_alike(words: list[list[int]]) -> None:
    """Neither the loss nor its gradient."""
    maps = torch.full((2, 4, 6, 5), 0.2, dtype=torch.float64, requires_grad=True)
    masks = torch.zeros(2, 4, 6, dtype=torch.float64)
    masks[0, :2, :3], masks[1, 1:, 2:] = 1, 1
    ones = torch.ones(2, dtype=torch.float64)
    paper = masked_attention_loss([maps], masks, words, 0.5)
    loss = masked_attention_loss([maps], masks, words, 0.5, ones, ones, instances=True)
    assert torch.isclose(loss, paper)
    assert torch.allclose(*(torch.autograd.grad(value, maps)[0] for value in (loss, paper)))


@pytest.mark.parametrize("other", [1, 2])
def test_instances_pull_harder_on_the_poorer_region(other: int) -> None:
    """Whether the regions share a word or not."""
    maps = torch.full((1, 1, 4, 3), 0.1, dtype=torch.float64)
    maps[0, 0, 0, 1] = 0.8
    maps.requires_grad_()
    masks = torch.tensor([[[1.0, 0, 0, 0]], [[0, 0, 0, 1.0]]], dtype=torch.float64)
    ones = torch.ones(2, dtype=torch.float64)
    loss = masked_attention_loss([maps], masks, [[1], [other]], 0.5, ones, ones, instances=True)
    (gradient,) = torch.autograd.grad(loss, maps)
    rich, poor = -gradient[0, 0, 0, 1], -gradient[0, 0, 3, other]
    assert poor == pytest.approx(8 * rich.item())
    assert poor * rich == pytest.approx(1.0)  # on average as hard as the paper's
    assert (gradient[0, 0, 1:3, [1, other]] == 0.5).all()  # outside of both, once


def test_shared_words_make_groups() -> None:
    assert sorted(sharing([[1, 2], [3], [2, 4], [4], [5]])) == [[0, 2, 3], [1], [4]]


def test_zest_worked_example() -> None:
    estimated, target = torch.tensor([[[0.1, 0.2, 0.4, 0.1]]]), torch.tensor([[[0.0, 0, 1, 0]]])
    assert zest_loss(estimated, target).item() == pytest.approx(0.337539 + 0.317128, abs=2e-6)


@pytest.mark.parametrize("target", [[0.0, 0, 1, 0], [1.0, 0, 0, 0]])
def test_zest_gradient(target: list[float]) -> None:
    """Finite differences off the maximum; at the maximum, the first term's gradient alone."""
    estimated = torch.tensor([[[0.1, 0.2, 0.4, 0.15]]], dtype=torch.float64, requires_grad=True)
    wanted = torch.tensor([[target]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(zest_loss(estimated, wanted), estimated)
    for pixel in (0, 1, 3):
        nudge = torch.zeros_like(estimated)
        nudge[0, 0, pixel] = 1e-6
        with torch.no_grad():
            slope = (zest_loss(estimated + nudge, wanted) - zest_loss(estimated - nudge, wanted)) / 2e-6
        assert gradient[0, 0, pixel].item() == pytest.approx(slope.item(), rel=1e-6)
    first = (0.4 - target[2]) / (0.4 * 0.6) / 4
    assert gradient[0, 0, 2].item() == pytest.approx(first)


def test_zest_of_nothing_is_finite() -> None:
    estimated = torch.zeros(1, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(zest_loss(estimated, torch.ones(1, 2, 2)), estimated)
    assert gradient.isfinite().all()


def test_estimate_is_a_mean_over_heads_and_a_sum_over_words() -> None:
    coarse, fine = random_maps(2, (2, 3), 4), random_maps(3, (4, 6), 4, seed=1)
    made = estimate([fine], [[1, 2]], (4, 6))
    assert torch.allclose(made[0], fine[..., [1, 2]].sum(-1).mean(0))
    both = estimate([coarse, fine], [[1], [3]], (4, 6))
    raised = torch.nn.functional.interpolate(coarse.movedim(-1, 1), (4, 6), mode="bilinear")[:, 3]
    assert torch.allclose(both[1], torch.cat([raised, fine[..., 3]]).mean(0))


def test_zest_wants_a_shared_segmentation_in_all_its_regions() -> None:
    masks = torch.eye(3)[:, None]
    assert joined(masks, [[1, 2], [3], [2, 1]])[:, 0].tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_paint_raises_a_regions_words_there_alone() -> None:
    scores = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    mask = torch.zeros(1, 2, 3)
    mask[0, 0, 1] = 1
    painted = paint_scores(scores, mask, [[2]], 0.3)
    added = torch.zeros_like(scores)
    added[:, 0, 1, 2] = 0.3 * scores.max()
    assert torch.allclose(painted, scores + added)


def test_paint_keeps_the_maximum_out_of_the_gradient() -> None:
    scores = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(paint_scores(scores, torch.ones(1, 2, 3), [[2]], 0.3).sum(), scores)
    assert torch.equal(gradient, torch.ones_like(scores))


def test_swap_writes_constant_columns() -> None:
    swapped = swap_attention(MAPS, MASK, [[0, 2]])[0, 0]
    assert swapped[:, [0, 2]].tolist() == [[0.5, 0.5], [0.5, 0.5], [0, 0], [0, 0]]
    assert torch.equal(swapped[:, 1], MAPS[0, 0, :, 1])


def test_swap_gives_a_shared_word_to_both_regions() -> None:
    masks = torch.tensor([[[1.0, 0, 0, 0]], [[0, 0, 0, 1.0]]])
    assert swap_attention(MAPS, masks, [[1], [1]])[0, 0, :, 1].tolist() == [1, 0, 0, 1]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.booleans())
def test_renormalized_rows_sum_to_one(seed: int, overlap: bool) -> None:
    maps = random_maps(2, (3, 4), 5, seed)
    masks = torch.zeros(2, 3, 4)
    masks[0, :2], masks[1, int(not overlap) + 1 :] = 1, 1
    rows = swap_attention(maps, masks, [[1, 2], [3]], renormalize=True).sum(dim=-1)
    assert torch.allclose(rows, torch.ones_like(rows))


def test_directed_diffusion_lifts_the_box_and_weakens_the_rest() -> None:
    maps = random_maps(2, (4, 6), 5)
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, 1, 1], mask[0, 2, 3] = True, True  # the box is rows 1 to 2, columns 1 to 3
    made = direct_attention(maps, mask, [[2]], torch.ones(1), 0.01)
    inside = torch.zeros(4, 6, dtype=torch.bool)
    inside[1:3, 1:4] = True
    assert (made[:, inside][..., 2] > maps[:, inside][..., 2] + 0.5).all()
    assert torch.allclose(made[:, ~inside][..., 2], 0.01 * maps[:, ~inside][..., 2])
    assert torch.equal(made[..., [0, 1, 3, 4]], maps[..., [0, 1, 3, 4]])


def test_box_gaussian_is_symmetric_with_peak_one() -> None:
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[1:4, 2:7] = True
    (made,) = gaussians(mask[None])
    assert made[2, 4] == 1
    assert torch.allclose(made[1:4, 2:7], made[1:4, 2:7].flip(0, 1))
    assert made[mask].min() > 0
    assert (made[~mask] == 0).all()
