"""Models that are shown what surrounds a place: in nine channels, or without noise in their four."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from inlay.diffusion.model import Model
from inlay.editing.blend import latent_mask
from inlay.editing.crop import crops_for
from inlay.editing.editor import Editor
from inlay.editing.job import EditJob, checked
from inlay.editing.task import Work
from inlay.guidance.regions import on_grid
from inlay.tests import tiny
from inlay.weights.diffusion import Belongings

PROMPT = "a red apple"


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> Editor:
    from diffusers import UNet2DConditionModel

    parts = tiny.parts("sd1", tmp_path_factory.mktemp("inpainter"))
    torch.manual_seed(4)
    parts["unet"] = UNet2DConditionModel.from_config({**parts["unet"].config, "in_channels": 9})
    return Editor(Model.assemble("inpainter", parts))


@pytest.fixture
def read(inpainter: Editor) -> Any:
    """What the UNet was given, call after call."""
    with reading(inpainter) as seen:
        yield seen


@contextmanager
def reading(editor: Editor) -> Iterator[list[torch.Tensor]]:
    seen: list[torch.Tensor] = []
    hook = editor.model.unet.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].clone()))
    yield seen
    hook.remove()


def photo_of(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (70, 100, 3), dtype=np.uint8)


def place(top: int, left: int) -> Any:
    mask = np.zeros((70, 100), bool)
    mask[top : top + 24, left : left + 32] = True
    return mask


def further(model: Model, photo: Any, mask: Any) -> torch.Tensor:
    """The five channels beside the latents: the mask on their grid, and the encoded window without what it hides."""
    pixels, cover = window(model, photo, mask)
    hidden = model.encode(torch.where(cover > 0, 0.0, pixels))
    return torch.cat([cells_of(cover, hidden).float()[None, None], hidden], dim=1)


def window(model: Model, photo: Any, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model sees of the photo, and how much of each pixel of it the mask covers."""
    (crop,) = crops_for(mask > 0, 64, model.grid)
    pixels = torch.from_numpy(crop.cut(photo)).permute(2, 0, 1)[None].float() / 127.5 - 1
    return pixels, torch.from_numpy(crop.cut_mask(mask))


def cells_of(cover: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """The cells of the latents that belong to a place."""
    return latent_mask(on_grid(cover[None].gt(0).float(), (latents.shape[-2], latents.shape[-1]))[0])


def test_every_step_reads_the_mask_and_the_photo_without_the_thing(inpainter: Editor, read: Any) -> None:
    photo, mask = photo_of(0), place(20, 30)
    result = inpainter.edit(photo, mask, PROMPT, steps=3, feather=0, num_images=2)
    assert [given.shape[:2] for given in read] == [(4, 9)] * 3, "two candidates, with and without the prompt"
    expected = further(inpainter.model, photo, mask)
    for given in read:
        torch.testing.assert_close(given[:, 4:], expected.expand(4, -1, -1, -1), atol=1e-5, rtol=1e-5)
    assert 0 < expected[:, 0].mean() < 1
    assert not (result.images[0].pixels != photo).any(-1)[~mask].any()
    assert (result.images[0].pixels != photo).any(-1)[mask].any()


def test_each_photo_of_a_batch_is_read_with_its_own_mask(inpainter: Editor, read: Any) -> None:
    job = checked(EditJob, prompt=PROMPT, steps=1, guidance_scale=1, scheduler="ddim")
    works = [(photo_of(1), place(10, 20)), (photo_of(2), place(40, 60))]
    inpainter.run_many([Work(job, photo, mask) for photo, mask in works])
    (given,) = read
    expected = torch.cat([further(inpainter.model, photo, mask) for photo, mask in works])
    torch.testing.assert_close(given[:, 4:], expected, atol=1e-5, rtol=1e-5)


def test_from_nothing_all_is_masked(inpainter: Editor, read: Any) -> None:
    inpainter.generate(PROMPT, steps=1, size=(48, 64))
    grey = inpainter.model.encode(torch.zeros(1, 3, 48, 64))
    (given,) = read
    torch.testing.assert_close(
        given[:, 4:], torch.cat([torch.ones_like(grey[:, :1]), grey], dim=1).expand(2, -1, -1, -1)
    )


@pytest.mark.parametrize("sees", [False, True])
def test_a_model_so_advised_sees_the_photo_without_noise_around_the_place(models: Any, sees: bool) -> None:
    """Its own latents in the place, where the mask is soft, too; beside it noise at every step, or none."""
    photo, mask = photo_of(3), place(20, 30).astype(np.float32)
    mask[30:40, 35:50] = 0.5
    model = replace(models("sd1"), belongings=Belongings({"sees_surroundings": True} if sees else {}))
    pixels, cover = window(model, photo, mask)
    source = model.encode(pixels)
    cells = cells_of(cover, source)
    with reading(Editor(model)) as seen:
        Editor(model).edit(photo, mask, PROMPT, steps=3, num_images=2)
    assert [given.shape[:2] for given in seen] == [(4, 4)] * 3
    for given in seen:
        away = (given - source).abs().mean((0, 1))
        assert (away[cells] > 1e-3).all()
        assert (away[~cells] < 1e-5).all() if sees else (away[~cells] > 1e-3).all()
        assert not torch.equal(given[0][:, cells], given[1][:, cells])


@pytest.mark.parametrize("sees", [False, True])
def test_thin_places_begin_grown_whatever_the_model_sees(models: Any, sees: bool) -> None:
    model = replace(models("sd1"), belongings=Belongings({"sees_surroundings": True} if sees else {}))
    photo, mask = photo_of(3), np.zeros((70, 100), bool)
    mask[30:33, 20:70] = True
    asked: dict[str, Any] = {"prompt": PROMPT, "steps": 8}
    grown, plain = (Editor(model).edit(photo, mask, shrink=shrink, **asked) for shrink in (True, False))
    assert (grown.images[0].pixels != plain.images[0].pixels).any()


def test_an_inverted_photo_is_denoised_as_it_was_inverted(models: Any) -> None:
    """That is with its noise all over."""
    model = replace(models("sd1"), belongings=Belongings({"sees_surroundings": True}))
    photo, mask = photo_of(3), place(20, 30)
    asked: dict[str, Any] = {"prompt": PROMPT, "steps": 2, "invert": True, "seed": 1}
    one, other = Editor(model).edit(photo, mask, **asked), Editor(models("sd1")).edit(photo, mask, **asked)
    assert (one.images[0].pixels == other.images[0].pixels).all()
