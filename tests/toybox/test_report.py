"""The report's counts, on label maps drawn for it."""

from __future__ import annotations

import torch
from inlay.toybox.workshop.report import exact_share, found_share, things_in


def drawn(*squares: tuple[int, int, int, int]) -> torch.Tensor:
    """A label map of 64×64 with squares of (class, top, left, side)."""
    label = torch.zeros(64, 64, dtype=torch.long)
    for number, top, left, side in squares:
        label[top : top + side, left : left + side] = number
    return label


def test_things_are_connected_patches_and_slips_are_none() -> None:
    assert things_in(drawn((3, 0, 0, 20), (3, 40, 40, 10), (5, 0, 40, 16))) == {3: 2, 5: 1}
    assert things_in(drawn((3, 0, 0, 20), (4, 5, 5, 3), (5, 50, 50, 4))) == {3: 1}


def test_a_second_one_is_found_but_not_exact() -> None:
    labels = torch.stack(
        [drawn((1, 0, 0, 20)), drawn((1, 0, 0, 20), (1, 40, 40, 20)), drawn((1, 0, 0, 20), (2, 40, 40, 20))]
    )
    assert found_share(labels, [[1]] * 3) == 1
    assert exact_share(labels, [[1]] * 3) == 1 / 3
    assert exact_share(labels, [[1], [1, 1], [2, 1]]) == 1
    assert exact_share(labels, [[2]] * 3) == 0
