"""The recorder sees what the attention is, beside any method, and its pictures show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inlay.diffusion.attention import Layer, Maps
from inlay.diffusion.denoiser import Denoiser, Request, Watch, gaussian, generators
from inlay.diffusion.loop import denoise
from inlay.diffusion.model import Model
from inlay.diffusion.schedule import Schedule, Step
from inlay.errors import PhotoError, UsageError
from inlay.guidance.attention_pictures import (
    Attention,
    RecordAttention,
    heat_map,
    save_pictures,
    sheet,
)
from inlay.guidance.attention_swapping import AttentionSwapping
from inlay.guidance.base import Chain, Guidance, Run
from inlay.guidance.masked_attention import MaskedAttention
from inlay.guidance.regions import Region, bind
from inlay.guidance.zest import Zest
from PIL import Image
from torch import Tensor

PROMPT, SIZE = "a red apple and a cup", (12, 18)
WORDS = ("red apple", "cup")
Sampled = tuple[Tensor, list[Attention]]


def sample(
    model: Model,
    method: Guidance,
    words: tuple[str, ...] = WORDS,
    seeds: tuple[int, ...] = (3,),
    prompts: tuple[str, ...] = (PROMPT,),
    steps: int = 3,
    scale: float = 7.5,
    regions: Sequence[tuple[str, int | None]] = (("cup", None),),
) -> Sampled:
    """Run `method` with a recorder behind it."""
    records: list[Attention] = []
    schedule, sources = Schedule("ddim", model.scheduler_config, steps), generators(seeds)
    mask = torch.zeros(48, 72)
    mask[:, :36] = 1
    asked = [Region(mask, phrase, occurrence=occurrence) for phrase, occurrence in regions]
    places = tuple(bind(asked, model.prompts, prompt) for prompt in prompts)
    run = Run(model, schedule, prompts, places, SIZE, sources)
    negative = model.prompts.encode([""] * len(prompts), negative=True)
    denoiser = Denoiser(model, schedule, model.prompts.encode(prompts), negative, scale, sources)
    latents = schedule.begin(gaussian((model.latent_channels, *SIZE), sources))
    session = Chain((method, RecordAttention(words, records.append))).begin(run)
    return denoise(latents, schedule.steps, denoiser, session), records


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("method", [Guidance(), MaskedAttention(), Zest(), Chain((Zest(), AttentionSwapping()))])
def test_every_step_is_recorded_beside_any_method(models: Callable[[str], Model], kind: str, method: Guidance) -> None:
    _, (attention,) = sample(models(kind), method)
    finest = max(layer.grid(SIZE) for layer in models(kind).cross_layers)
    assert attention.maps.shape == (1, 2, 3, *finest)
    assert attention.maps.dtype == torch.float32
    assert not attention.maps.requires_grad
    assert 0 < float(attention.maps.min()) <= float(attention.maps.max()) < 1
    assert attention.words == WORDS
    assert attention.seeds == (3,)


def test_recording_changes_nothing_but_rounding(models: Callable[[str], Model]) -> None:
    for method in (Guidance(), MaskedAttention()):
        plain, none = sample(models("sd1"), method, words=())
        watched, records = sample(models("sd1"), method)
        assert none == []
        assert len(records) == 1
        torch.testing.assert_close(watched, plain, rtol=0, atol=1e-4)


def test_the_record_is_the_mean_over_layers_heads_and_tokens(models: Callable[[str], Model]) -> None:
    """Against maps that are taken apart by hand, from a forward of the first step's own latents."""
    model = models("sd1")
    schedule, sources = Schedule("ddim", model.scheduler_config, 3), generators((3,))
    latents = schedule.begin(gaussian((model.latent_channels, *SIZE), sources))
    embedding = model.prompts.encode([PROMPT])
    denoiser = Denoiser(model, schedule, embedding, embedding, 1.0, sources)
    tokens = model.prompts.find(PROMPT, "red apple")
    seen: list[Maps] = []
    layers = tuple(layer for layer in model.cross_layers if layer.depth <= 2)

    def keep(maps: Maps, step: Step) -> None:
        seen.append(maps)

    with torch.no_grad():
        denoiser.predict(latents, schedule.steps[0], Request(watches=(Watch(keep, layers, tokens),)))
    by_layer = [
        torch.nn.functional.interpolate(
            seen[0].layers[layer.name].mean(dim=(1, 4))[:, None], SIZE, mode="bilinear", align_corners=False
        )
        for layer in layers
    ]
    _, (attention,) = sample(model, Guidance())
    torch.testing.assert_close(attention.maps[0, 0, 0], torch.cat(by_layer, 1).mean(1)[0], rtol=1e-4, atol=1e-6)


def test_guided_and_unguided_steps_without_the_unconditional_pass(models: Callable[[str], Model]) -> None:
    _, (attention,) = sample(models("sd1"), Zest(fraction=0.5, layers="all"), scale=1.0, steps=4)
    assert attention.maps.shape[2] == 4


def test_a_batch_records_each_sample_as_if_alone(models: Callable[[str], Model]) -> None:
    prompts = (PROMPT, "a cup on a red apple")
    _, (both,) = sample(models("sd1"), Guidance(), seeds=(3, 8), prompts=prompts)
    single = [
        sample(models("sd1"), Guidance(), seeds=(seed,), prompts=(prompt,))[1][0]
        for seed, prompt in zip((3, 8), prompts, strict=True)
    ]
    alone = Attention.gathered(single)
    assert both.seeds == alone.seeds == (3, 8)
    torch.testing.assert_close(both.maps, alone.maps, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "regions", "captions"),
    [
        (("cup", "cup"), [("cup", None), ("cup", None)], ("cup",)),
        (("cup", "Cup", "red apple"), [], ("cup", "red apple")),
        (("cup", "cup"), [("cup", 0), ("cup", 1)], ("cup (1)", "cup (2)")),
        (("cup",), [("cup", 1)], ("cup (2)",)),
        (("cup", "cup"), [("cup", None), ("cup", 1)], ("cup", "cup (2)")),
        (("red apple",), [("red apple", 0)], ("red apple",)),
    ],
)
def test_words_of_several_regions_are_one_row_unless_their_tokens_differ(
    models: Callable[[str], Model], words: tuple[str, ...], regions: Any, captions: tuple[str, ...]
) -> None:
    prompt = "a cup, a red apple and a cup"
    _, (attention,) = sample(models("sd1"), Guidance(), words, prompts=(prompt,), steps=1, regions=regions)
    assert attention.words == captions
    assert attention.maps.shape[1] == len(captions)
    rows = attention.maps[0, :, 0]
    assert all(not torch.equal(rows[row], rows[other]) for row in range(len(rows)) for other in range(row))


def test_windows_with_other_rows_leave_the_last_ones() -> None:
    """An edit's windows see the regions that they touch."""
    both = Attention(("cup (1)", "cup (2)"), torch.zeros(1, 2, 1, 2, 2), (5,))
    one = Attention(("cup (2)",), torch.ones(1, 1, 1, 2, 2), (5,))
    joined = Attention.gathered([both, one])
    assert joined.words == ("cup (2)",)
    assert joined.maps.shape == (1, 1, 1, 2, 2)


def test_a_sample_that_was_run_again_counts_once() -> None:
    first, second = (Attention(("cup",), torch.full((2, 1, 1, 2, 2), value), (5, 6)) for value in (0.1, 0.2))
    third = Attention(("cup",), torch.full((1, 1, 1, 2, 2), 0.3), (7,))
    joined = Attention.gathered([first, second, third])
    assert joined.seeds == (5, 6, 7)
    assert joined.maps[:, 0, 0, 0, 0].tolist() == pytest.approx([0.2, 0.2, 0.3])


def test_only_the_columns_of_the_words_are_kept(models: Callable[[str], Model]) -> None:
    """The recorder asks for its words' columns alone."""
    model = models("sd1")
    schedule = Schedule("ddim", model.scheduler_config, 2)
    run = Run(model, schedule, (PROMPT,), ((),), SIZE, generators((0,)))
    (watch,) = RecordAttention(WORDS, lambda attention: None).begin(run).hooks[0].request(schedule.steps[0]).watches
    assert watch.columns == (2, 3, 6)
    assert all(isinstance(layer, Layer) and layer.depth <= 2 for layer in watch.layers)


def test_missing_words_and_phrases_are_refused(models: Callable[[str], Model]) -> None:
    with pytest.raises(UsageError, match="'dog' are not in the prompt"):
        sample(models("sd1"), Guidance(), words=("dog",))


@pytest.fixture
def attention() -> Attention:
    maps = torch.full((2, 2, 9, 8, 12), 0.1)
    maps[:, 0, :, :, :4] = 0.3  # "red apple" on the left
    maps[:, 1, 4:, 4:, 8:] = 0.2  # "cup" below right, from the fifth step on
    return Attention(WORDS, maps, (3, 4))


IMAGE = np.full((64, 96, 3), 128, np.uint8)


def test_a_heat_map_is_bright_where_the_word_looks(attention: Attention) -> None:
    picture = heat_map(IMAGE, attention.maps[0, 0].mean(0))
    assert picture.shape == IMAGE.shape
    assert picture.dtype == np.uint8
    assert picture[:, :24].mean() > picture[:, 40:].mean() + 50
    flat = heat_map(IMAGE, torch.full((8, 12), 0.2))
    assert np.ptp(flat.reshape(-1, 3), axis=0).max() == 0


def test_the_sheet_has_a_row_per_word(attention: Attention) -> None:
    page = np.asarray(sheet(attention, IMAGE))
    one = np.asarray(sheet(Attention(("cup",), attention.maps[:, :1], (3, 4)), IMAGE))
    assert page.shape[1] == one.shape[1]
    assert page.shape[0] > one.shape[0] + 100


def test_pictures_are_written_and_never_silently_overwritten(attention: Attention, tmp_path: Path) -> None:
    paths = save_pictures(attention, [IMAGE, IMAGE], tmp_path / "new" / "folder")
    names = sorted(path.name for path in paths)
    assert names == ["3-cup.png", "3-red-apple.png", "3-steps.png", "4-cup.png", "4-red-apple.png", "4-steps.png"]
    for path in paths:
        with Image.open(path) as picture:
            picture.load()
    with pytest.raises(UsageError, match="exists"):
        save_pictures(attention, [IMAGE, IMAGE], tmp_path / "new" / "folder")
    assert save_pictures(attention, [IMAGE, IMAGE], tmp_path / "new" / "folder", overwrite=True) == paths


def test_every_word_has_a_file(attention: Attention, tmp_path: Path) -> None:
    words = ("cup (1)", "cup (2)", "cup 2", "cup.", "cup", "!")
    alike = Attention(words, attention.maps[:1, :1].expand(-1, 6, -1, -1, -1), (3,))
    names = [path.name for path in save_pictures(alike, [IMAGE], tmp_path)]
    assert names == [
        "3-cup-1.png",
        "3-cup-2.png",
        "3-cup-2-3.png",
        "3-cup.png",
        "3-cup-5.png",
        "3-6.png",
        "3-steps.png",
    ]


def test_the_sheet_says_what_its_numbers_are(attention: Attention) -> None:
    page = np.asarray(sheet(attention, IMAGE))
    assert (page[-16:, 300:] < 128).any(), "beyond the caption of the last row"
    assert (page[-16:, -12:] == 255).all(), "the line is longer than the page"


def test_a_folder_that_cannot_be_made_is_named(attention: Attention, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PhotoError, match="cannot be written"):
        save_pictures(attention, [IMAGE, IMAGE], tmp_path / "file" / "folder")
