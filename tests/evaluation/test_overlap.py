"""mIoU against cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from inlay.errors import UsageError
from inlay.evaluation import mean_iou
from inlay.evaluation.overlap import Overlap, class_overlap, kept_apart, pooled_iou
from torch import from_numpy
from torchmetrics.functional.classification import multiclass_jaccard_index

ASKED = np.array([[1, 1, 0, 0], [1, 1, 0, 2]])
MAPS = arrays(np.int64, (2, 4, 5), elements=st.integers(0, 4))


def test_perfect_and_empty() -> None:
    assert mean_iou(ASKED, ASKED) == 1
    assert mean_iou(np.zeros_like(ASKED), ASKED) == 0


def test_spill_outside_the_mask_costs() -> None:
    spilled = ASKED.copy()
    spilled[0, 2:] = 1  # two unlabelled pixels: class 1 has 4 of 6, class 2 all
    assert mean_iou(spilled, ASKED) == pytest.approx((4 / 6 + 1) / 2)


def test_half_found() -> None:
    half = np.array([[1, 1, 0, 0], [0, 0, 0, 2]])
    assert mean_iou(half, ASKED) == pytest.approx((2 / 4 + 1) / 2)


def test_a_class_that_nobody_asked_for_is_not_averaged_in() -> None:
    other = ASKED.copy()
    other[0, 2:] = 7
    assert mean_iou(other, ASKED) == 1


def test_swapped_classes_score_nothing() -> None:
    assert mean_iou(np.array([0, 2, 1])[ASKED], ASKED) == 0


def test_two_instances_of_a_class_are_one_mask() -> None:
    two, one_found = np.array([[3, 3, 0, 3, 3]]), np.array([[3, 3, 0, 0, 0]])
    assert mean_iou(one_found, two) == 0.5


def test_pixels_are_pooled_over_the_images_that_ask() -> None:
    asked = np.array([[[1, 1, 0, 0]], [[2, 2, 2, 2]]])
    found = np.array([[[1, 0, 0, 0]], [[2, 2, 1, 1]]])  # the 1s of the second image: nobody asked there
    assert mean_iou(found, asked) == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert pooled_iou([{"a": Overlap(1, 2)}, {"a": Overlap(0, 6), "b": Overlap(1, 1)}]) == {"a": 1 / 8, "b": 1}


@given(MAPS, MAPS, st.permutations([1, 2, 3, 4]))
def test_label_ids_are_names_only(found: np.ndarray, asked: np.ndarray, names: list[int]) -> None:
    if not asked.any():
        asked[0, 0, 0] = 1
    renamed = np.array([0, *names])
    assert mean_iou(renamed[found], renamed[asked]) == pytest.approx(mean_iou(found, asked))


@given(MAPS, MAPS)
def test_agrees_with_torchmetrics_where_every_pixel_is_labelled(found: np.ndarray, asked: np.ndarray) -> None:
    found, asked = found[:1] % 3, asked[:1] % 3
    asked[0, 0, :3] = [0, 1, 2]
    theirs = multiclass_jaccard_index(from_numpy(found), from_numpy(asked), num_classes=3)
    assert mean_iou(found, asked, unlabelled=-1) == pytest.approx(float(theirs), abs=1e-6)


@given(MAPS, MAPS)
def test_more_spill_never_helps(found: np.ndarray, asked: np.ndarray) -> None:
    asked[0, 0, 0] = 1
    spilled = np.where((asked != 1) & (found == 0), 1, found)
    overlap, worse = (class_overlap(labels == 1, asked == 1) for labels in (found, spilled))
    assert worse.intersection == overlap.intersection
    assert worse.iou <= overlap.iou


def test_bad_maps_are_refused() -> None:
    with pytest.raises(UsageError, match="resize one"):
        mean_iou(ASKED, ASKED[:, :3])
    with pytest.raises(UsageError, match="nothing to score"):
        mean_iou(ASKED, np.zeros_like(ASKED))


def test_two_instances_are_kept_apart_by_a_gap() -> None:
    masks = [np.array([[1, 1, 0, 0, 0]], bool), np.array([[0, 0, 0, 1, 1]], bool)]
    assert kept_apart(np.array([[1, 1, 0, 1, 1]], bool), masks)
    assert kept_apart(np.array([[1, 0, 0, 0, 1]], bool), masks)  # half of each is covered
    assert not kept_apart(np.array([[1, 1, 1, 1, 1]], bool), masks)  # one object over both
    assert not kept_apart(np.array([[1, 1, 0, 0, 0]], bool), masks)  # the second is missing
    assert not kept_apart(np.array([[0, 0, 0, 0, 0]], bool), masks)


def test_an_instance_belongs_to_the_part_that_covers_most_of_it() -> None:
    masks = [np.array([[1, 1, 1, 1, 0, 0, 0, 0]], bool), np.array([[0, 0, 0, 0, 1, 1, 1, 1]], bool)]
    assert kept_apart(np.array([[1, 1, 1, 0, 1, 1, 1, 1]], bool), masks)
    assert kept_apart(np.array([[1, 1, 0, 1, 1, 1, 1, 1]], bool), masks)  # the second part reaches into the first
    assert not kept_apart(np.array([[1, 0, 1, 1, 1, 1, 1, 1]], bool), masks)  # and takes most of it
