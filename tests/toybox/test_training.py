"""Training: it learns, it resumes bit for bit, it refuses what is not its own."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from inlay.errors import ModelError, UsageError
from inlay.tests.toybox.tiny_world import WORLD, recipe, renderer
from inlay.toybox.workshop import autoencoder, sprites, tokens
from inlay.toybox.workshop.autoencoder import train_autoencoder
from inlay.toybox.workshop.captions import Caption
from inlay.toybox.workshop.denoising import (
    AROUND_THINGS,
    CONTINUED,
    MARGIN,
    OUTLINED,
    SETTLED,
    SURROUNDED,
    UNSAID,
    diffused,
    looked_at,
    place_of,
    silence,
)
from inlay.toybox.workshop.networks import noise_levels
from inlay.toybox.workshop.pool import tokenize
from inlay.toybox.workshop.segmenters import train_segmenter
from inlay.toybox.workshop.shop import Workshop
from inlay.toybox.workshop.stage import Plan, Stage
from inlay.toybox.workshop.train import train
from inlay.toybox.workshop.world import NOUNS
from inlay.weights.diffusion import belongings
from transformers import CLIPTokenizer


def workshop(folder: Path, steps: int, resume: bool = False) -> Workshop:
    folder.mkdir(exist_ok=True)
    return Workshop(recipe(), renderer(), folder, resume, minutes=0.0, steps=steps, init_from=None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(workshop(folder, 20), ["autoencoder", "unet", "guide", "judge"])
    return folder


@pytest.mark.parametrize("stage", ["autoencoder", "unet", "guide", "judge"])
def test_twenty_steps_lower_the_loss(trained: Path, stage: str) -> None:
    losses = torch.load(trained / f"{stage}.pt", weights_only=True)["losses"]
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])
    assert (trained / f"{stage}.png").exists()


def test_resume_continues_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    """A plan of 20 steps, broken off after 7 and resumed by a new process' worth of objects, ends alike."""

    class BrokenError(Exception):
        pass

    def stage_of(resume: bool) -> Stage:
        torch.manual_seed(0)
        plan = Plan("linear", learning_rate=1e-2, steps=20)
        stage = Stage(plan, torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)), tmp_path)
        assert stage.resume() is resume
        return stage

    def loss(model: torch.nn.Module, random: torch.Generator) -> torch.Tensor:
        return (model(torch.randn(8, 4, generator=random)) - 1).square().mean()

    def breaks(stage: Stage) -> None:
        if stage.step == 7:
            stage.save()
            raise BrokenError

    with pytest.raises(BrokenError):
        stage_of(False).run(loss, before=breaks)
    resumed = stage_of(True)
    assert resumed.step == 7
    torch.manual_seed(99)
    resumed.resume()
    resumed.run(loss)
    resumed.checkpoint.unlink()
    whole = stage_of(False)
    whole.run(loss)
    for left, right in ((whole.model, resumed.model), (whole.averaged, resumed.averaged)):
        assert all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))
    assert whole.losses == resumed.losses


def test_a_stage_resumes_bit_for_bit_from_its_checkpoint(tmp_path: Path) -> None:
    """The real thing: a segmenter broken off half way, against one that ran through."""
    whole = train_segmenter(workshop(tmp_path / "whole", 6), "judge")
    half = workshop(tmp_path / "half", 6)
    stage = half.stage

    def breaks_off(*arguments: object, **plan: object) -> Stage:
        made = stage(*arguments, **plan)  # type: ignore[arg-type]
        run = made.run

        def until_three(loss: object, watch: object) -> None:
            def stop(at: Stage) -> None:
                if at.step == 3:
                    at.save()
                    raise KeyboardInterrupt

            run(loss, watch, stop)  # type: ignore[arg-type]

        made.run = until_three  # type: ignore[method-assign, assignment]
        return made

    object.__setattr__(half, "stage", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        train_segmenter(half, "judge")
    resumed = train_segmenter(workshop(tmp_path / "half", 6, resume=True), "judge")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_the_export_is_a_stock_pipeline(trained: Path) -> None:
    from diffusers import StableDiffusionPipeline

    own, shipped = belongings(str(trained / "weights")), belongings("toybox")
    assert own.defaults == shipped.defaults
    assert own.vocabulary is not None
    assert own.vocabulary.things == tuple(own.guide.classes[1:])
    pipeline = StableDiffusionPipeline.from_pretrained(trained / "weights")
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("an apple", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (WORLD.size, WORLD.size)
    assert pipeline.scheduler.config.timestep_spacing == "trailing"
    assert pipeline.vae.config.scaling_factor == 1


def test_an_error_on_an_object_costs_four_times_one_on_the_ground() -> None:
    """And the same error everywhere costs what it costs without weights."""
    masks = torch.zeros(2, 3, 4, 4)
    masks[:, 1, :2] = 1
    on_object, on_ground = masks[:, 1:2].expand(-1, 8, -1, -1), 1 - masks[:, 1:2].expand(-1, 8, -1, -1)
    everywhere = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    seen = torch.full((2,), SETTLED)
    on_object, on_ground = (looked_at(one, masks, everywhere, seen) for one in (on_object, on_ground))
    assert on_object == pytest.approx(4 * on_ground)
    assert looked_at(torch.full((2, 8, 4, 4), 0.3), masks, everywhere, seen) == pytest.approx(0.3)


def test_in_noise_the_best_guess_of_what_may_be_an_object_is_the_mean() -> None:
    """Of two scenes that look alike, one has an object on the left, the other on the right."""
    masks, everywhere = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    masks[0, :, :, :2] = masks[1, :, :, 2:] = 1
    for level, best in ((SETTLED / 2, 0.5), (SETTLED, 0.8)):
        guess = torch.tensor(best, requires_grad=True)
        looked_at((guess - masks).square(), masks, everywhere, torch.full((2,), level)).backward()
        assert guess.grad == pytest.approx(0, abs=1e-6)


def test_errors_beside_the_place_cost_nothing() -> None:
    places = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    places[..., :2] = True
    squares = torch.where(places, 0.3, torch.rand(2, 8, 4, 4))
    assert looked_at(squares, torch.rand(2, 3, 4, 4), places, torch.rand(2)) == pytest.approx(0.3)


@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6))
def test_a_place_is_all_or_close_around_the_thing_or_a_box_anywhere(tall: int, wide: int, chances: list[float]) -> None:
    covered = torch.zeros(16, 12, dtype=torch.bool)
    covered[5 : 5 + tall, 3] = covered[5, 3 : 3 + wide] = True  # an L
    place = place_of(covered, chances)
    assert place.any()
    rows, columns = place.any(1), place.any(0)
    assert all(int((side.int().diff() != 0).sum()) <= 2 for side in (rows, columns)), "one place"
    if chances[0] >= SURROUNDED:
        assert place.all()
    elif chances[1] < AROUND_THINGS:
        assert place[covered].all()
        assert int(rows.sum()) < tall + 2 * MARGIN
        assert int(columns.sum()) < wide + 2 * MARGIN
    if not chances[1] < OUTLINED or chances[0] >= SURROUNDED:
        assert torch.equal(place, rows[:, None] & columns), "a box"


def test_an_outlined_place_has_the_things_shape() -> None:
    covered = torch.zeros(8, 8, dtype=torch.bool)
    covered[2:6, 2] = covered[2, 2:6] = True
    assert torch.equal(place_of(covered, (0, 0, 0, 0, 0, 0)), covered)
    grown = place_of(covered, (0, 0, 0.99, 0, 0, 0))
    assert int(grown.sum()) == 6 * 3 + 3 * 3  # an L two cells thicker
    assert grown[covered].all()


def test_a_place_is_without_a_caption_only_if_it_hides_no_thing() -> None:
    masks = torch.zeros(5, 3, 8, 8)
    masks[:4, 0, :4, :4] = 1
    masks[:4, 1, 6:] = 1
    doubled = torch.tensor([False, True, False, True, False])
    places = torch.zeros(5, 1, 8, 8, dtype=torch.bool)
    places[0] = True
    places[1, :, :4] = True  # all of the first thing
    places[2, :, :4, 2:6] = True  # half of the first thing, nothing of the second
    places[3, :, :, 4:] = True  # half of the second, nothing of the first
    places[4, :, 2:6] = True  # there is no thing
    expected = [0.0, 0.0, CONTINUED, CONTINUED, CONTINUED]
    assert silence(masks, places, doubled).tolist() == pytest.approx(expected)


def test_a_whole_scene_is_without_a_caption_only_if_a_noun_stands_there_twice() -> None:
    masks, places = torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    masks[:, 0, :4] = 1
    assert silence(masks, places, torch.tensor([True, False])).tolist() == pytest.approx([UNSAID, 0.0])


def test_noised_latents_and_their_velocity_give_both_parts_back() -> None:
    """Salimans & Ho, arXiv 2202.00512, appendix D: x = αx_t − σv, and ε = σx_t + αv; at α = 0, v is −x."""
    torch.manual_seed(0)
    clean, noise, level = torch.randn(3, 8, 4, 4), torch.randn(3, 8, 4, 4), torch.tensor([0.9, 0.2, 0.0])
    noised, velocity = diffused(clean, noise, level)
    signal, noisy = level.view(-1, 1, 1, 1).sqrt(), (1 - level).view(-1, 1, 1, 1).sqrt()
    assert torch.allclose(signal * noised - noisy * velocity, clean, atol=1e-6)
    assert torch.allclose(noisy * noised + signal * velocity, noise, atol=1e-6)
    assert torch.equal(velocity[2], -clean[2])


def test_sampling_begins_with_next_to_nothing_of_the_picture() -> None:
    """Over 32×32 cells a constant of one standard deviation is half as strong as the mean of the noise on it."""
    assert float(noise_levels()[-1].sqrt()) * 32 < 0.55


def test_without_its_stage_the_autoencoder_is_that_of_the_weights_to_begin_with(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no autoencoder; name its stage too, or give --init-from"):
        train_autoencoder(workshop(tmp_path / "bare", 2), finished=True)
    vae = train_autoencoder(replace(workshop(tmp_path / "led", 2), init_from=trained / "weights"), finished=True)
    shipped = safetensors.torch.load_file(trained / "weights/vae/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(part, shipped[name].float()) for name, part in vae.state_dict().items())


def test_whitening_changes_latents_alone() -> None:
    torch.manual_seed(0)
    vae = autoencoder.build(32, (8, 8, 8, 8)).eval()
    images = torch.rand(8, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = vae.encode(images).latent_dist
        decoded = vae.decode(before.mean).sample
        autoencoder.whiten(vae, images)
        after = vae.encode(images).latent_dist
        assert torch.allclose(vae.decode(after.mean).sample, decoded, atol=1e-4)
    assert after.mean.mean((0, 2, 3)).abs().max() < 1e-4
    assert (after.mean.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert torch.allclose(after.std, before.std / before.mean.std((0, 2, 3)).view(1, -1, 1, 1), rtol=1e-3)


def test_words_of_the_world_are_one_piece_others_fall_apart(tmp_path: Path) -> None:
    tokens.build(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert all(len(tokenizer.tokenize(word)) == 1 for word in tokens.corpus())
    pieces = tokenizer.tokenize("xylophone")
    assert len(pieces) > 1
    assert "".join(pieces) == "xylophone</w>"
    assert tokenizer.unk_token_id not in tokenizer("xylophone Żółw 猫", add_special_tokens=False).input_ids
    assert tokenizer.model_max_length == tokens.LENGTH


def test_ids_do_not_depend_on_the_order_of_learning() -> None:
    words = tokens.corpus()
    assert tokens.learn(words) == tokens.learn(words[::-1])


def test_captions_are_tokenized_as_the_pipeline_does(tmp_path: Path) -> None:
    tokenizer = tokens.build(tmp_path)
    caption = Caption(
        ("a", "cat", ",", "two", "doughnuts", "and", "jack-o-lantern"), ((1, (0,)), (4, (1, 2)), (6, (3,)))
    )
    ids, spans = tokenize(caption, tokenizer)
    stock = tokenizer(caption.text, padding="max_length", truncation=True).input_ids
    assert ids.tolist() == stock
    assert [tokenizer.decode(ids[start:stop]) for start, stop in spans] == ["cat", "doughnuts", "jack - o - lantern"]


def test_missing_npm_wrong_hash_and_lacking_sprites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="npm is not installed; install npm or give --sprites FILE"):
        sprites.fetch(tmp_path)
    (tmp_path / sprites.TARBALL).write_bytes(b"not it")
    with pytest.raises(ModelError, match="wrong hash; delete it and start again"):
        sprites.fetch(tmp_path)
    assert hashlib.sha256(b"not it").hexdigest() != sprites.SHA256
    from safetensors.torch import save_file

    file = tmp_path / "sprites.safetensors"
    save_file({"apple": torch.zeros(4, 8, 8, dtype=torch.uint8)}, file)
    with pytest.raises(UsageError, match="has no sprite of banana"):
        sprites.load_atlas(NOUNS[:2], 8, file)
    assert sprites.load_atlas(NOUNS[:1], 16, file).shape == (1, 4, 16, 16)
