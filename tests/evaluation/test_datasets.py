"""COCO folders: what is read, what is left out and counted, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from inlay.errors import UsageError
from inlay.evaluation.datasets import names_of, open_dataset, union
from inlay.evaluation.protocols import select_scenes
from inlay.tests.evaluation.coco import SIZE, box, runs, thing, write
from pycocotools import mask as coco_mask

MASK = np.zeros(SIZE, bool)
MASK[5:15, 10:30] = True
PACKED = coco_mask.encode(np.asfortranarray(MASK.astype(np.uint8)))
COMPRESSED = {"size": list(SIZE), "counts": PACKED["counts"].decode()}


@pytest.mark.parametrize("outline", [box(10, 5, 30, 15), runs(MASK), COMPRESSED], ids=["polygon", "runs", "compressed"])
def test_every_kind_of_outline_gives_the_same_mask(tmp_path: Path, outline: object) -> None:
    folder = write(tmp_path / "data", [([thing("cat", outline)], ["a cat"])])
    (picture,) = open_dataset(folder).pictures
    (instance,) = picture.instances
    assert (instance.mask == MASK).all()
    assert instance.share == MASK.mean()
    assert instance.category == "cat"


def test_mixture_and_union(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", [([thing("cat", box(0, 0, 5, 5)), thing("cat", runs(MASK))], [])])
    both = union(list(open_dataset(folder).pictures[0].instances)).mask
    assert both.sum() == 25 + MASK.sum()
    assert both[:5, :5].all()
    assert both[MASK].all()


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        (None, "an instance without a mask"),
        ([], "an instance without a mask"),
        ([[1, 2, 3]], "a mask that cannot be decoded"),
        ([[]], "a mask that cannot be decoded"),
        ("words", "a mask that cannot be decoded"),
        ({"size": list(SIZE)}, "a mask that cannot be decoded"),
        ({"size": [9, 9], "counts": [0, 81]}, "a mask of another size than its picture"),
        (runs(np.zeros(SIZE, bool)), "an instance with an empty mask"),
        ({"size": list(SIZE), "counts": "X11W11"}, "a mask that cannot be decoded"),
        ({"size": list(SIZE), "counts": [100, 200]}, "a mask that cannot be decoded"),
        ({"size": [400_000, 600_000], "counts": "X11W11"}, "a mask of another size than its picture"),
        ([[0, 0, 9, 0, float("nan"), 9]], "a mask that cannot be decoded"),
    ],
)
def test_a_picture_with_an_unusable_mask_is_left_out_and_counted(tmp_path: Path, outline: object, reason: str) -> None:
    folder = write(tmp_path / "data", [([thing("cat", outline)], []), ([thing("dog", box(0, 0, 9, 9))], [])])
    dataset = open_dataset(folder)
    assert [picture.id for picture in dataset.pictures] == [2]
    assert dataset.skipped == {reason: 1}


def test_unknown_category_is_counted(tmp_path: Path) -> None:
    good, bad = thing("cat", box(0, 0, 9, 9)), {**thing("cat", box(0, 0, 9, 9)), "category_id": 77}
    assert open_dataset(write(tmp_path / "data", [([good], []), ([bad], [])])).skipped == {
        "an instance of an unknown category": 1
    }


def test_a_polygon_far_beyond_its_picture_is_cut(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", [([thing("cat", [[30, -1e9, 1e9, -1e9, 1e9, 1e9, 30, 1e9]])], [])])
    (instance,) = open_dataset(folder).pictures[0].instances
    assert instance.share == 0.5


def test_pictures_of_one_name_in_several_folders_stay_apart(tmp_path: Path) -> None:
    assert names_of(["val/1.png", "val/2.png"]) == {"val/1.png": "1", "val/2.png": "2"}
    assert names_of(["a/1.png", "b/1.png"]) == {"a/1.png": "a/1", "b/1.png": "b/1"}
    assert list(names_of(["/a/1.png", "../b/1.png"]).values()) == ["a/1", "b/1"]
    assert list(names_of(["a/1.png", "a/1.jpg"]).values()) == ["a/1.png", "a/1.jpg"]
    folder = write(tmp_path / "data", [([thing("cat", box(0, 0, 9, 9))], ["a cat"])] * 2)
    content = json.loads((folder / "instances.json").read_text())
    for image, name in zip(content["images"], ("a/1.png", "b/1.png"), strict=True):
        image["file_name"] = name
    (folder / "instances.json").write_text(json.dumps(content))
    assert [scene.name for scene in select_scenes(open_dataset(folder), "all")[0]] == ["a/1", "b/1"]


def test_missing_captions_and_images_are_no_error_yet(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", [([thing("cat", box(0, 0, 9, 9))], [])], images=False, captions=False)
    (picture,) = open_dataset(folder).pictures
    assert picture.captions == ()
    assert not picture.file.exists()


def test_official_layout_with_stuff(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat", [([thing("cat", box(0, 0, 9, 9))], ["a cat"])])
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (flat / "images").rename(folder / "val2017")
    for kind in ("instances", "captions"):
        (flat / f"{kind}.json").rename(folder / "annotations" / f"{kind}_val2017.json")
    grass = {"image_id": 1, "category_id": 124, "segmentation": runs(MASK)}
    stuff = {"annotations": [grass], "categories": [{"id": 124, "name": "grass"}]}
    (folder / "annotations" / "stuff_val2017.json").write_text(json.dumps(stuff))
    (picture,) = open_dataset(folder).pictures
    assert picture.file.is_file()
    assert [segment.category for segment in picture.stuff] == ["grass"]
    assert open_dataset(folder / "annotations" / "instances_val2017.json").pictures == (picture,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "lacks the list `images`"),
        ('{"images": [], "annotations": []}', "lacks the list `categories`"),
        ('{"images": [], "annotations": [], "categories": []}', "has no masks"),
    ],
)
def test_broken_files_are_refused_in_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(UsageError, match=words):
        open_dataset(tmp_path)


def test_no_or_several_instances_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no instances\*\.json"):
        open_dataset(tmp_path)
    for split in ("train", "val"):
        (tmp_path / f"instances_{split}.json").write_text("{}")
    with pytest.raises(UsageError, match=r"name one: .*train.*val"):
        open_dataset(tmp_path)


def test_a_dataset_of_boxes_alone_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", [([thing("cat", None, bbox=[0, 0, 9, 9])], ["a cat"])])
    with pytest.raises(UsageError, match="has no masks"):
        open_dataset(folder)
