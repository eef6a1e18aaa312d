"""Background fidelity against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from inlay.errors import UsageError
from inlay.evaluation import background_fidelity

PHOTO = np.random.default_rng(0).integers(0, 200, (20, 30, 3), dtype=np.uint8)
MASK = np.zeros((20, 30), bool)
MASK[5:15, 5:15] = True


def test_an_edit_inside_the_mask_leaves_the_background_exact() -> None:
    edited = PHOTO.copy()
    edited[MASK] = 255
    found = background_fidelity(PHOTO, edited, MASK)
    assert (found.psnr, found.ssim, found.changed) == (float("inf"), 1, 0)


def test_one_changed_pixel_in_the_background() -> None:
    edited = PHOTO.copy()
    edited[0, 0, 1] += 10
    edited[MASK] = 0
    found = background_fidelity(PHOTO, edited, MASK)
    assert found.changed == pytest.approx(1 / 500)
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / (100 / 1500)))
    assert 0.9 < found.ssim < 1


def test_more_noise_is_less_fidelity() -> None:
    noise = np.random.default_rng(1).normal(0, 1, PHOTO.shape)
    edits = [np.clip(PHOTO + level * noise, 0, 255).astype(np.uint8) for level in (2, 8, 32)]
    found = [background_fidelity(PHOTO, edited, MASK) for edited in edits]
    assert found[0].psnr > found[1].psnr > found[2].psnr
    assert found[0].ssim > found[1].ssim > found[2].ssim


def test_small_photos_have_a_similarity_too() -> None:
    for height, width in ((4, 5), (1, 9), (9, 2), (1, 1)):
        small, mask = PHOTO[:height, :width], np.zeros((height, width), bool)
        assert background_fidelity(small, small, mask).ssim == pytest.approx(1)
        assert background_fidelity(small, 255 - small, mask).ssim < 0.9


def test_sizes_and_full_masks_are_refused() -> None:
    with pytest.raises(UsageError, match="differ in size"):
        background_fidelity(PHOTO, PHOTO[:10], MASK)
    with pytest.raises(UsageError, match="covers the whole photo"):
        background_fidelity(PHOTO, PHOTO, np.ones_like(MASK))
