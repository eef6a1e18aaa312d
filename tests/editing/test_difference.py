"""Masks from two prompts: DiffEdit's formula on a tiny model, and laws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inlay import Photo
from inlay.editing.difference import difference_map, difference_mask
from inlay.errors import UsageError
from PIL import Image

THERE, WANTED = "a red apple", "a cat on grass"


@pytest.fixture(scope="module")
def photo() -> Any:
    return Photo.from_image(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
@torch.no_grad()
def test_the_map_is_the_papers(models: Any, kind: str) -> None:
    """Every noise in turn through diffusers' own scheduler and the bare UNet."""
    from diffusers import DDIMScheduler

    model = models(kind)
    pixels = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    scheduler = DDIMScheduler.from_config(model.scheduler_config)
    scheduler.set_timesteps(50)
    time = scheduler.timesteps[25]
    source, maps = model.encode(pixels), []
    for seed in range(10):
        noise = torch.randn(source.shape[1:], generator=torch.Generator().manual_seed(seed))[None]
        latents = scheduler.add_noise(source, noise, time[None])
        predictions = []
        for prompt in (THERE, WANTED):
            states = model.prompts.encode([prompt])
            extra = {}
            if states.pooled is not None:
                times = model.size_condition(latents.shape[-2:], 1)
                extra["added_cond_kwargs"] = {"text_embeds": states.pooled, "time_ids": times}
            predictions.append(model.unet(latents, time, states.states, **extra).sample)
        maps.append((predictions[1] - predictions[0]).abs().mean(dim=(0, 1)))
    mean = torch.stack(maps).mean(dim=0)
    clipped = mean.clamp(max=3 * mean.mean())
    expected = (clipped - clipped.min()) / (clipped.max() - clipped.min())
    found = difference_map(model, pixels, THERE, WANTED)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize("size", [(50, 70), (33, 200), (9, 7)])
def test_a_mask_has_the_photos_size_and_is_the_same_each_time(models: Any, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = difference_mask(models("sd1"), Photo.from_image(pixels), THERE, WANTED)
    assert mask.shape == size
    assert mask.dtype == bool
    assert mask.any()
    assert np.array_equal(mask, difference_mask(models("sd1"), Photo.from_image(pixels), THERE, WANTED))


def test_nothing_differs_between_the_same_words(models: Any, photo: Any) -> None:
    with pytest.raises(UsageError, match="Nothing differs between 'a  red apple' and 'a red apple'"):
        difference_mask(models("sd1"), photo, "a  red apple", THERE)


def test_a_mask_from_the_command_line(inlay_command: Any, model_folder: Any, photo: Any, tmp_path: Path) -> None:
    file, out = tmp_path / "photo.png", tmp_path / "mask.png"
    photo.save(file)
    options = ("mask", file, "--model", model_folder("sd1"), "--difference", THERE)
    ran = inlay_command(*options, WANTED, "--mask-grow", 1, "-o", out)
    assert (ran.code, ran.paths) == (0, [out])
    assert set(np.unique(np.array(Image.open(out)))) == {0, 255}
    for wrong, said in (
        ((THERE,), "Nothing differs"),
        ((WANTED, "--box", "1,1,20,20"), "leave out points"),
        ((WANTED, "--everything"), "stands alone"),
        ((WANTED, "--candidates"), "one thing"),
    ):
        ran = inlay_command(*options, *wrong, "-o", tmp_path / "no.png")
        assert ran.code == 2
        assert said in ran.err
