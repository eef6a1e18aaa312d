"""The papers' protocols against counts made by hand and by other code."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from inlay.errors import UsageError
from inlay.evaluation.datasets import Dataset, open_dataset
from inlay.evaluation.protocols import PROTOCOLS, named_classes, select_scenes
from inlay.tests.evaluation.coco import SIZE, box, thing, write
from skimage.draw import polygon2mask

COCO_MINI = Path(__file__).parents[3] / "shared" / "data" / "coco-mini"
NAMES = ("cat", "dog", "hot dog", "knife", "bus", "wine glass", "teddy bear", "bear", "strawberry")
SPELLINGS = {**{name: (name,) for name in NAMES}, "cat": ("cat", "kitty", "house_cat")}


@pytest.fixture(scope="module")
def coco_mini() -> Dataset:
    if not COCO_MINI.is_dir():
        pytest.skip("coco-mini is not beside this checkout")
    return open_dataset(COCO_MINI)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A Cat and two dogs.", {"cat": "Cat", "dog": "dogs"}),
        ("a hot dog", {"hot dog": "hot dog"}),
        ("hot dogs for a dog", {"hot dog": "hot dogs", "dog": "dog"}),
        ("a caterpillar, bussing", {}),
        ("two kitties on a bus", {"cat": "kitties", "bus": "bus"}),
        ("the House cat's dog", {"cat": "House cat", "dog": "dog"}),
        ("knives and wine glasses on buses", {"knife": "knives", "wine glass": "wine glasses", "bus": "buses"}),
        ("two strawberries and a teddy bear", {"strawberry": "strawberries", "teddy bear": "teddy bear"}),
    ],
)
def test_classes_that_a_caption_names(caption: str, expected: dict[str, str]) -> None:
    assert named_classes(caption, SPELLINGS) == expected


def test_mag_on_coco_mini(coco_mini: Dataset) -> None:
    """By eye: four pictures have 2 to 4 instances and no person; one of their 20 captions names every class."""
    scenes, left_out = select_scenes(coco_mini, "mag")
    assert [(scene.picture.id, scene.prompt) for scene in scenes] == [
        (196393, "A cat eating from a bowl next to a bird.")
    ]
    assert [placement.words for placement in scenes[0].placements] == ["bird", "cat", "bowl", "bowl"]
    assert sum(left_out.values()) == 25
    assert left_out["no caption that names every class"] == 3


def test_zest_on_coco_mini(coco_mini: Dataset) -> None:
    """Against masks drawn from the raw polygons by scikit-image; shares close to the limit may go either way."""
    raw = json.loads((COCO_MINI / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in raw["categories"]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in raw["images"]}
    classes: dict[int, dict[str, np.ndarray]] = defaultdict(dict)
    for annotation in raw["annotations"]:
        number, size = annotation["image_id"], sizes[annotation["image_id"]]
        mask = np.zeros(size, bool)
        if isinstance(annotation["segmentation"], list):
            for outline in annotation["segmentation"]:
                mask |= polygon2mask(size, np.reshape(outline, (-1, 2))[:, ::-1])
        else:
            counts = annotation["segmentation"]["counts"]
            values = np.arange(len(counts)) % 2 == 1
            mask = np.repeat(values, counts).reshape(size[::-1]).T
        name = names[annotation["category_id"]]
        classes[number][name] = classes[number].get(name, np.zeros(size, bool)) | mask
    shares = {number: {name: mask.mean() for name, mask in found.items()} for number, found in classes.items()}

    everything, _ = select_scenes(coco_mini, "zest-all")
    assert {scene.picture.id: set(scene.class_masks()) for scene in everything} == {
        number: set(found) for number, found in shares.items()
    }
    filtered = {scene.picture.id: set(scene.class_masks()) for scene in select_scenes(coco_mini, "zest-filtered")[0]}
    for number, found in shares.items():
        kept = filtered.get(number, set())
        assert {name for name, share in found.items() if share > 0.052} <= kept
        assert kept <= {name for name, share in found.items() if share > 0.048}
    few, _ = select_scenes(coco_mini, "zest-few")
    assert {scene.picture.id for scene in few} == filtered.keys()
    for scene in few:
        assert 1 <= len(scene.placements) <= 3
        assert set(scene.class_masks()) <= filtered[scene.picture.id]
        assert scene.prompt.endswith(", " + ", ".join(placement.words for placement in scene.placements))
    assert any(len(scene.placements) < len(filtered[scene.picture.id]) for scene in few)


def test_edits_on_coco_mini(coco_mini: Dataset) -> None:
    for scene in select_scenes(coco_mini, "same")[0]:
        (placement,) = scene.placements
        present = [instance.category for instance in scene.picture.instances]
        assert present.count(placement.segment.category) == 1
        assert placement.segment.share >= 0.01
        assert scene.prompt.endswith(placement.words)
    for scene in select_scenes(coco_mini, "other")[0]:
        present = [instance.category for instance in scene.picture.instances]
        assert scene.placements[0].segment.category not in present
        masks = [instance.rle for instance in scene.picture.instances]
        assert scene.placements[0].segment.rle in masks


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) - {"remove"}))  # nobody knows what is behind a photo
def test_the_choice_for_a_picture_is_seeded_and_its_own(coco_mini: Dataset, protocol: str) -> None:
    scenes, _ = select_scenes(coco_mini, protocol)
    assert scenes == select_scenes(coco_mini, protocol)[0]
    alone = Dataset(coco_mini.name, (scenes[-1].picture,), coco_mini.categories, coco_mini.spellings, {})
    if protocol != "other":  # whose classes come from the whole dataset
        assert select_scenes(alone, protocol)[0] == scenes[-1:]


def test_seeds_choose_other_captions(coco_mini: Dataset) -> None:
    prompts = {tuple(scene.prompt for scene in select_scenes(coco_mini, "zest-all", seed)[0]) for seed in range(3)}
    assert len(prompts) == 3


def test_mag_filter_by_reason(tmp_path: Path) -> None:
    cat, dog, person = (thing(name, box(0, 0, 20, 20)) for name in ("cat", "dog", "person"))
    crowd = thing("cat", box(0, 0, 20, 20), iscrowd=1)
    pictures = [
        ([cat, dog], ["a bird", "a cat and a dog"]),
        ([cat, person], ["a cat and a person"]),
        ([cat], ["a cat"]),
        ([cat] * 5, ["cats"]),
        ([cat, dog], ["a cat", "a dog"]),
        ([cat, dog], []),
        ([crowd, dog], ["cats and a dog"]),
    ]
    scenes, left_out = select_scenes(open_dataset(write(tmp_path / "data", pictures)), "mag")
    assert [(scene.name, scene.prompt) for scene in scenes] == [("1", "a cat and a dog")]
    assert left_out == {
        "a person": 1,
        "not 2 to 4 instances": 2,
        "no caption that names every class": 1,
        "no caption": 1,
        "a crowd": 1,
    }


def test_class_masks_merge_instances(tmp_path: Path) -> None:
    pictures = [([thing("cat", box(0, 0, 10, 10)), thing("cat", box(30, 0, 40, 10))], ["two cats"])]
    (scene,) = select_scenes(open_dataset(write(tmp_path / "data", pictures)), "all")[0]
    mask = scene.class_masks()["cat"]
    assert mask.shape == SIZE
    assert mask.sum() == 200
    assert len(scene.placements) == 2


def test_edit_leaves_out_pictures_without_image_and_small_instances(tmp_path: Path) -> None:
    large, small = thing("cat", box(0, 0, 20, 20)), thing("dog", box(0, 0, 4, 4))
    pictures = [([large], []), ([large], []), ([small], []), ([large, large], [])]
    folder = write(tmp_path / "data", pictures)
    (folder / "images" / "2.png").unlink()
    scenes, left_out = select_scenes(open_dataset(folder), "same")
    assert [scene.name for scene in scenes] == ["1"]
    assert left_out == {"no image file": 1, "no instance that is large enough and alone of its class": 2}


def test_nothing_left_and_unknown_protocols_are_one_sentence(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path / "data", [([thing("cat", box(0, 0, 20, 20))], [])], captions=False))
    with pytest.raises(UsageError, match=r"No picture of data suits .*no caption: 1"):
        select_scenes(dataset, "all")
    with pytest.raises(UsageError, match="no protocol 'coco'"):
        select_scenes(dataset, "coco")
