"""Removal against a known truth, on a tiny dataset whose grounds are flat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inlay.editing.editor import Editor
from inlay.editing.job import checked
from inlay.errors import UsageError
from inlay.evaluation import evaluate
from inlay.evaluation.datasets import open_dataset
from inlay.evaluation.job import RemoveEvaluation
from inlay.evaluation.protocols import Scene, select_scenes
from inlay.evaluation.removal import Remover, behind
from inlay.evaluation.segmenters import load_segmenter
from inlay.photos.photo import Photo
from inlay.tests.evaluation.coco import SIZE, box, thing, write
from PIL import Image


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Grey noise with a cat, and what is behind it: green, given as what differs, or as a whole picture."""
    pictures = [([thing("cat", box(10, 10, 30, 30), id=number)], ["a cat"]) for number in (1, 2)]
    folder = write(tmp_path / "data", [*pictures, ([thing("dog", box(0, 0, 9, 9), id=3)], ["a dog"])])
    (folder / "without").mkdir()
    green = np.zeros((*SIZE, 4), np.uint8)
    green[10:30, 10:30] = (0, 200, 0, 255)
    Image.fromarray(green).save(folder / "without" / "1.png")
    whole = np.array(Image.open(folder / "images" / "2.png"))
    whole[10:30, 10:30] = (0, 200, 0)
    Image.fromarray(whole).save(folder / "without" / "2.png")
    content = json.loads((folder / "instances.json").read_text())
    for image in content["images"]:
        image["ground"] = "grass"
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def scenes(dataset: Path) -> list[Scene]:
    found, left_out = select_scenes(open_dataset(dataset), "remove")
    assert left_out == {"no instance that is known to hide something": 1}
    assert [(scene.name, scene.prompt) for scene in found] == [("1", "grass"), ("2", "grass")]
    return found


@pytest.fixture
def judge(tmp_path: Path, scenes: list[Scene]) -> Path:
    """Label maps: the cat is seen whole in the photos, in part in what one system made and another thing in another's;
    what is seen in truth, too, says nothing."""
    seen = {"photo": (20, 1), "smooth": (10, 1), "plain": (5, 2)}
    for system in ("photo", "truth", "smooth", "plain", "ground+plain", "theirs"):
        for scene in scenes:
            labels = np.zeros(SIZE, np.uint8)
            rows, thing = seen.get(system, (0, 0))
            labels[10 : 10 + rows, 10:30] = thing
            labels[28:30, 10:30] = 2
            (tmp_path / "maps" / system / "0").mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(tmp_path / "maps" / system / "0" / f"{scene.name}.png")
    return tmp_path / "maps"


def test_the_truth_is_the_picture_with_what_is_behind(scenes: list[Scene]) -> None:
    for scene in scenes:
        truth, photo = behind(scene), Photo.open(scene.picture.file).pixels
        inside = scene.masks[0]
        assert (truth[inside] == (0, 200, 0)).all()
        assert (truth[~inside] == photo[~inside]).all()


def test_a_table_of_removals(editor: Editor, dataset: Path, judge: Path, scenes: list[Scene], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for scene in scenes:
        Image.fromarray(behind(scene)).save(theirs / f"{scene.name}.png")
    output = tmp_path / "out"
    settings: dict[str, Any] = {"methods": "smooth,plain,ground+plain", "steps": 2, "images": {"theirs": theirs}}
    table = evaluate("remove", dataset, output=output, editor=editor, judge=str(judge), **settings)
    rows = {row.method: row for row in table.rows}
    assert list(rows) == ["photo", "truth", "smooth", "plain", "ground+plain", "theirs"]
    for name in ("truth", "theirs"):
        assert rows[name].psnr.mean == pytest.approx(58.92, abs=0.01)
        assert rows[name].ssim.mean == pytest.approx(1)
    assert {name: row.gone.mean for name, row in rows.items()} == {
        **{"photo": 0, "smooth": 0, "plain": 0, "ground+plain": 1, "truth": 1, "theirs": 1}
    }
    assert rows["smooth"].unet_calls == 0
    assert rows["plain"].unet_calls
    gains = {(found.method, found.against): found.gain.mean for found in table.gone}  # type: ignore[union-attr]
    assert gains["ground+plain", "smooth"] == 1
    report = (output / "report.md").read_text()
    assert "| `truth` | 2 | 58.92 (58.92 … 58.92) |" in report
    images = json.loads((output / "results.json").read_text())["images"]
    for name, things in (("photo", 0.9), ("smooth", 0.5), ("plain", 0.25), ("theirs", 0)):
        assert [image["things"] for image in images if image["method"] == name] == [things] * 2
    assert (output / "sheets" / "sheet-1.jpg").is_file()


def test_every_method_gets_the_same_grown_mask(editor: Editor, scenes: list[Scene], tmp_path: Path) -> None:
    """A filling and a method change pixels beyond the thing's own mask, and none far from it."""
    job = checked(RemoveEvaluation, steps=2)
    photo = Photo.open(scenes[0].picture.file).pixels
    for method in ("neutral", "plain"):
        made = Photo.open(Remover(editor, method, job, tmp_path)(scenes[0], 0)[0]).pixels
        changed = (made != photo).any(-1)
        assert changed[9, 10:30].any()
        assert not changed[:2].any()
        assert not changed[:, 45:].any()


@pytest.mark.parametrize(
    ("methods", "words"),
    [("magic", "no method 'magic'"), ("ground+magic", "no method 'magic'"), ("ground+smooth", "no method 'smooth'")],
)
def test_unknown_methods_are_refused_before_anything_is_made(
    methods: str, words: str, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        evaluate("remove", dataset, output=tmp_path / "out", methods=methods)
    assert not (tmp_path / "out").exists()


def test_fillings_stand_between_commas() -> None:
    assert checked(RemoveEvaluation, methods="zest:fraction=1,smooth,ground+plain").methods == (
        *("zest:fraction=1", "smooth", "ground+plain"),
    )


def test_every_embedded_scene_knows_what_is_behind_one_thing() -> None:
    """The judge sees each thing in its picture, and in hardly a truth."""
    scenes, left_out = select_scenes(open_dataset("toybox"), "remove")
    assert (len(scenes), left_out) == (120, {})
    judge = load_segmenter("judge", {})
    for scene in scenes[::15]:
        (mask,), (category,) = scene.masks, scene.categories
        truth, photo = behind(scene), Photo.open(scene.picture.file).pixels
        assert (truth[mask] != photo[mask]).any(-1).mean() > 0.9
        assert (judge.label(photo, "")[mask] == judge.classes[category]).mean() > 0.5
        assert (judge.label(truth, "")[mask] == judge.classes[category]).mean() < 0.25
