"""The renderer: seeds, masks, captions."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inlay.evaluation.datasets import open_dataset
from inlay.tests.toybox.tiny_world import COLOURS, WORLD, atlas, renderer
from inlay.toybox.workshop import make_benchmark
from inlay.toybox.workshop.captions import write
from inlay.toybox.workshop.grounds import PAINTERS, paint
from inlay.toybox.workshop.scenes import Renderer
from inlay.toybox.workshop.world import GROUNDS, NOUNS, PHOTO
from PIL import Image


def test_same_seed_same_scenes() -> None:
    first, again, other = renderer()(5, 8), renderer()(5, 8), renderer()(6, 8)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert first.captions == again.captions
    assert not torch.equal(first.images, other.images)


def test_masks_are_where_the_sprites_are() -> None:
    """Against the same scenes with invisible sprites: the sprite's colour inside, the bare ground far from masks."""
    scenes, bare = renderer()(1, 32), Renderer(WORLD, torch.zeros_like(atlas()))(1, 32)
    assert bare.masks.sum() == 0
    inner = -torch.nn.functional.max_pool2d(-scenes.masks.float(), 5, 1, 2) > 0
    for scene, object_ in (scenes.nouns >= 0).nonzero().tolist():
        inside = inner[scene, object_]
        if not inside.any():
            continue
        colour = scenes.images[scene][:, inside]
        painted = torch.tensor(COLOURS[scenes.nouns[scene, object_]])[:, None]
        assert (colour - painted).abs().max() < 0.2  # brightness varies by a tenth, edges of other things show through
    solid = scenes.masks.any(1)
    near = torch.nn.functional.max_pool2d(solid[:, None].float(), 7, 1, 3)[:, 0] > 0
    same = (scenes.images - bare.images).abs().amax(1) < 1e-3
    assert same[~near].all()


def test_a_photo_lights_what_stands_on_it() -> None:
    """On a dark photo a thing is darker than on a bright one, on a red one redder; painted grounds light nothing."""

    def mean_colour(photo: tuple[int, int, int], share: float = 1.0) -> torch.Tensor:
        drawn = renderer()
        drawn.photos = torch.tensor(photo, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, WORLD.size, WORLD.size)
        scenes = drawn(4, 16, objects=1, photos=share)
        return scenes.images.movedim(1, -1)[scenes.masks.any(1)].mean(0)

    dark, bright, red = (mean_colour(photo) for photo in ((30, 30, 30), (130, 130, 130), (130, 30, 30)))
    assert (dark < 0.7 * bright).all()
    assert red[0] == pytest.approx(bright[0])
    assert (red[1:] < 0.7 * bright[1:]).all()
    assert torch.equal(mean_colour((30, 30, 30), 0.0), mean_colour((130, 130, 130), 0.0))


def test_a_thing_alone_on_a_photo_stands_as_in_an_edit() -> None:
    """Whole, in the middle half of the side, and its caption names no place; on painted grounds, anywhere."""
    drawn = renderer()
    drawn.photos = torch.full((1, 3, WORLD.size, WORLD.size), 120, dtype=torch.uint8)
    edits, painted = drawn(4, 32, objects=1, photos=1.0), drawn(4, 32, objects=1, photos=0.0)
    quarter = WORLD.size // 4
    outside = torch.ones(WORLD.size, WORLD.size, dtype=torch.bool)
    outside[quarter - 1 : 1 - quarter, quarter - 1 : 1 - quarter] = False
    assert edits.masks.flatten(1).any(1).all()
    assert not edits.masks[..., outside].any()
    assert painted.masks[..., outside].any()
    places = {phrase for ground in (*GROUNDS, PHOTO) for phrase in ground.phrases}
    assert not any(caption.text.endswith(tuple(places)) for caption in edits.captions)
    assert any(caption.text.endswith(tuple(places)) for caption in painted.captions)


def test_masks_never_overlap_and_make_the_class_map() -> None:
    scenes = renderer()(2, 32)
    assert scenes.masks.sum(1).max() == 1
    for scene, row in enumerate(scenes.nouns.tolist()):
        assert set(scenes.classes[scene].unique().tolist()) <= {0, *(noun + 1 for noun in row)}
        assert not scenes.masks[scene, [noun < 0 for noun in row]].any()


def test_the_count_of_objects_can_be_asked_for() -> None:
    assert (renderer()(3, 8, objects=2).nouns >= 0).all()
    assert ((renderer()(3, 8, objects=1).nouns >= 0).sum(1) == 1).all()


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_grounds_are_pictures(name: str) -> None:
    picture = paint(name, 3, 64, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert picture.shape == (3, 3, 64, 64)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert not torch.equal(picture[0], picture[1])


def test_every_ground_has_its_painter() -> None:
    assert {ground.name for ground in GROUNDS} == set(PAINTERS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, len(NOUNS) - 1), min_size=1, max_size=3))
def test_captions_name_every_object_once(seed: int, indices: list[int]) -> None:
    nouns = [NOUNS[index] for index in indices]
    caption = write(Random(seed), nouns, Random(seed).choice((*GROUNDS, PHOTO)))
    named = sorted(object_ for _, objects in caption.names for object_ in objects)
    assert named == list(range(len(nouns)))
    for place, objects in caption.names:
        assert {caption.words[place]} <= set(nouns[objects[0]].forms)
    assert "  " not in caption.text


def test_order_of_mention_says_nothing() -> None:
    nouns = [NOUNS[0], NOUNS[1]]
    first = [write(Random(seed), nouns, PHOTO).names[0][1] for seed in range(200)]
    assert 60 < first.count((0,)) < 140


def test_pairs_are_of_one_kind_and_apart(tmp_path: Path) -> None:
    make_benchmark.write(renderer(), tmp_path, make_benchmark.pairs(renderer(), 3, 5))
    pictures = open_dataset(tmp_path).pictures
    assert len(pictures) == 3
    for picture in pictures:
        one, other = picture.instances
        assert one.category == other.category
        apart = np.argwhere(one.mask)[:, None] - np.argwhere(other.mask)[None]
        assert np.linalg.norm(apart, axis=-1).min() >= make_benchmark.GAP


def test_what_is_behind_a_thing_is_the_same_scene_without_it(tmp_path: Path) -> None:
    """Beside the removed thing and its shadow nothing changes; on its mask the ground shows, or the thing behind."""
    chosen = make_benchmark.mixed(renderer(), 2, 3)
    make_benchmark.write(renderer(), tmp_path, chosen)
    annotations = {one["id"]: one for one in json.loads((tmp_path / "instances.json").read_text())["annotations"]}
    files = list((tmp_path / "without").iterdir())
    assert len(files) == len(chosen)
    for file in files:
        removed = annotations[int(file.stem)]
        scenes, row, seed, objects = chosen[removed["image_id"] - 1]
        slot = [one for one in annotations.values() if one["image_id"] == removed["image_id"]].index(removed)
        behind = np.asarray(Image.open(file))
        mask = scenes.masks[row, slot].numpy()
        assert (behind[mask][:, 3] == 255).mean() > 0.9
        other = renderer()(seed, make_benchmark.BATCH, objects, without=slot)
        assert int((other.nouns[row] >= 0).sum()) == int((scenes.nouns[row] >= 0).sum()) - 1
        image = np.asarray(Image.open(tmp_path / "images" / f"{removed['image_id']:06d}.webp"))
        whole = (other.images[row].permute(1, 2, 0) * 255).round().byte().numpy()
        assert (np.where(behind[..., 3:] > 0, behind[..., :3], image) == whole).all()
