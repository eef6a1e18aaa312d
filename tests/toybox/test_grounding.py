"""The grounding loss and its yardstick."""

from __future__ import annotations

import pytest
import torch
from inlay.toybox.workshop.grounding import MASS, area_under_curve, grounding_loss


def test_attention_on_the_object_costs_nothing_elsewhere_all() -> None:
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., :2, :] = 1
    words = torch.zeros(1, 1, 3)
    words[..., 1] = 1
    on = torch.zeros(1, 16, 3)
    on[:, :8, 1] = 1
    off = torch.zeros(1, 16, 3)
    off[:, 8:, 1] = 1
    assert float(grounding_loss([on], words, masks)) == pytest.approx(0)
    assert float(grounding_loss([off], words, masks)) == pytest.approx(1 + MASS)


def test_spread_attention_by_hand() -> None:
    """Uniform 1/3 over pixels and tokens, half of the picture: (1 − 1/2)² + MASS (1 − 1/3)²."""
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., :2, :] = 1
    words = torch.tensor([[[0.0, 1.0, 0.0]]])
    uniform = torch.full((1, 16, 3), 1 / 3)
    coarse = torch.full((1, 4, 3), 1 / 3)
    expected = 0.25 + MASS * (2 / 3) ** 2
    assert float(grounding_loss([uniform, coarse], words, masks)) == pytest.approx(expected)


def test_mentions_without_tokens_do_not_count() -> None:
    masks = torch.rand(2, 2, 4, 4)
    words = torch.zeros(2, 2, 3)
    maps = [torch.rand(2, 16, 3)]
    assert float(grounding_loss(maps, words, masks)) == 0
    words[0, 0, 1] = 1
    alone = grounding_loss([maps[0][:1]], words[:1, :1], masks[:1, :1])
    assert torch.allclose(grounding_loss(maps, words, masks), alone)


def test_area_under_curve() -> None:
    inside = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert area_under_curve(torch.tensor([0.9, 0.8, 0.1, 0.2]), inside) == 1
    assert area_under_curve(torch.tensor([0.1, 0.2, 0.9, 0.8]), inside) == 0
    assert area_under_curve(torch.ones(4), inside) == 0.5
    assert area_under_curve(torch.tensor([0.5, 0.1, 0.3, 0.0]), inside) == 0.75
