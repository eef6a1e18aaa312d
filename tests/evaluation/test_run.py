"""Whole evaluations on a tiny random model; label maps written by hand make the scores known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inlay.editing.editor import Editor
from inlay.errors import InlayError, UsageError
from inlay.evaluation import evaluate
from inlay.evaluation.datasets import open_dataset
from inlay.evaluation.making import canvas
from inlay.evaluation.protocols import Scene, select_scenes
from inlay.evaluation.summary import Table
from inlay.tests.evaluation.coco import CATEGORIES, SIZE, box, thing, write
from inlay.tests.evaluation.tiny_networks import tiny_clip, tiny_semantic
from inlay.weights.diffusion import Belongings
from PIL import Image

PICTURES = [
    ([thing("cat", box(0, 0, 30, 40))], ["a cat"]),
    ([thing("cat", box(0, 0, 20, 20)), thing("dog", box(30, 10, 60, 40))], ["a dog and a cat"]),
    ([thing("dog", box(10, 10, 30, 30))], ["the dog"]),
]
CAT, DOG = (CATEGORIES.index(name) + 1 for name in ("cat", "dog"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write(tmp_path / "data", PICTURES)


def label_maps(folder: Path, scenes: list[Scene], system: str, label: Any, seed: int = 0) -> Path:
    """A map per scene: `label(category id, mask)` says what is seen where a category was asked for."""
    for scene in scenes:
        labels = np.zeros(SIZE, np.uint8)
        for category, mask in scene.class_masks().items():
            labels[label(mask)] = CATEGORIES.index(category) + 1
        (folder / system / str(seed)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(folder / system / str(seed) / f"{scene.name}.png")
    return folder


def row(table: Table, method: str) -> Any:
    return next(row for row in table.rows if row.method == method)


def test_a_table_end_to_end(editor: Editor, clip: str, dataset: Path, tmp_path: Path) -> None:
    scenes, _ = select_scenes(open_dataset(dataset), "all")
    maps = tmp_path / "maps"
    label_maps(maps, scenes, "real", lambda mask: mask)
    label_maps(maps, scenes, "plain", lambda mask: mask & False)
    label_maps(maps, scenes, "masked-attention", lambda mask: mask)
    label_maps(maps, scenes, "masked-attention_alpha=2", lambda mask: np.roll(mask, 10, axis=1))
    output = tmp_path / "out"
    table = evaluate(
        "generate",
        dataset,
        output=output,
        methods=["plain", "masked-attention"],
        sweep="masked-attention:alpha=2,2.0",
        editor=editor,
        judge=str(maps),
        features=clip,
        clip=clip,
        steps=2,
    )
    assert (row(table, "real").miou.mean, row(table, "real").frechet) == (1, None)
    assert (row(table, "plain").miou.mean, row(table, "plain").images) == (0, 3)
    assert row(table, "masked-attention").miou.mean == 1
    assert 0 < row(table, "masked-attention:alpha=2").miou.mean < 1
    assert row(table, "plain").unet_calls == 4
    assert row(table, "masked-attention").unet_calls == 5  # round(0.3 * 2) = 1 step is guided, by one forward more
    assert row(table, "plain").frechet > 0
    assert row(table, "plain").clip_score >= 0
    assert row(table, "plain").seconds > 0

    written = json.loads((output / "results.json").read_text())
    assert [entry["method"] for entry in written["rows"]] == [row.method for row in table.rows]
    gains = {(found["method"], found["against"]): found["gain"]["mean"] for found in written["differences"]}
    assert gains["masked-attention", "plain"] == 1
    assert gains["plain", "real"] == -1
    assert sum(image["method"] == "plain" for image in written["images"]) == 3
    report = (output / "report.md").read_text()
    assert "| `plain` | 3 | 0.000 ± 0.000 |" in report
    assert "There is no label map" in report  # for the second value of the sweep
    assert Image.open(output / "sheets" / "sheet-1.jpg").width > 400
    assert Image.open(output / "trade-off.png").size == (840, 600)


@pytest.fixture
def calls(editor: Editor) -> Iterator[list[int]]:
    """Grows by one entry with each UNet forward."""
    counted: list[int] = []
    hook = editor.model.unet.register_forward_pre_hook(lambda _, inputs: counted.append(1))
    yield counted
    hook.remove()


def test_recall_and_instances_kept_apart(tmp_path: Path) -> None:
    """Two cats and a dog; one system paints one cat over both places, another has all but half of the dog."""
    things = [thing("cat", box(0, 0, 20, 40)), thing("cat", box(40, 0, 60, 40)), thing("dog", box(25, 0, 35, 40))]
    dataset = write(tmp_path / "data", [(things, ["a dog and two cats"])])
    (scene,), _ = select_scenes(open_dataset(dataset), "all")
    dog = scene.class_masks()["dog"]
    maps = tmp_path / "maps"
    label_maps(maps, [scene], "real", lambda mask: mask)
    merged = label_maps(maps, [scene], "merged", lambda mask: mask) / "merged/0" / f"{scene.name}.png"
    Image.fromarray(np.full(SIZE, CAT, np.uint8)).save(merged)
    halved = label_maps(maps, [scene], "halved", lambda mask: mask) / "halved/0" / f"{scene.name}.png"
    labels = np.array(Image.open(halved))
    labels[20:][dog[20:]] = 0
    Image.fromarray(labels).save(halved)
    images = {name: dataset / "images" for name in ("merged", "halved")}
    table = evaluate("generate", dataset, output=tmp_path / "out", images=images, judge=str(maps))
    assert [(row.method, row.recall, row.apart) for row in table.rows] == [
        ("real", 1, 1),
        ("merged", 0.5, 0),
        ("halved", 1, 1),
    ]


def test_a_run_goes_on_where_it_was(editor: Editor, clip: str, dataset: Path, tmp_path: Path, calls: list[int]) -> None:
    output, segmenter = tmp_path / "out", str(tiny_semantic(tmp_path / "segmenter", ["cat", "dog"]))

    def run(**changes: Any) -> Table:
        calls.clear()
        settings: dict[str, Any] = {"methods": ["plain"], "steps": 2, "seeds": (0, 1), "features": clip}
        settings |= {"editor": editor, "judge": segmenter}
        return evaluate("generate", dataset, output=output, **settings | changes)

    first = run()
    assert len(calls) == 3 * 2 * 2
    lost = output / "images" / "plain" / "1" / "2.png"
    pixels = np.asarray(Image.open(lost))
    lost.unlink()
    again = run()
    assert len(calls) == 2
    assert (np.asarray(Image.open(lost)) == pixels).all()
    assert row(again, "plain").miou == row(first, "plain").miou
    assert row(again, "plain").unet_calls == row(first, "plain").unet_calls
    run(limit=2)
    assert not calls
    run(steps=3)
    assert len(calls) == 3 * 2 * 3
    run(steps=3, editor=Editor(replace(editor.model, belongings=Belongings({"masked-attention": {"alpha": 0.1}}))))
    assert len(calls) == 3 * 2 * 3


def test_what_is_loaded_onto_the_model_is_at_work_and_told(
    model_folder: Any, adapter: Any, clip: str, dataset: Path, tmp_path: Path
) -> None:
    """A LoRA, or another scheduler, makes other images, and those made without are not kept in their place."""
    segmenter = str(tiny_semantic(tmp_path / "segmenter", ["cat", "dog"]))
    common: dict[str, Any] = {"methods": ["plain"], "steps": 2, "features": clip, "judge": segmenter, "limit": 1}
    common |= {"output": tmp_path / "out", "model": str(model_folder("sd1"))}

    def run(**settings: Any) -> tuple[Table, bytes]:
        table = evaluate("generate", dataset, **common | settings)
        return table, next((tmp_path / "out" / "images").rglob("*.png")).read_bytes()

    (plain, drawn), (_, with_less) = run(), run(lora=[f"{adapter('lora')}:0.5"])
    styled, with_lora = run(lora=[f"{adapter('lora')}:2"])
    euler, by_euler = run(scheduler="euler")
    assert not plain.facts["adapters"]
    assert [Path(name).name for name in styled.facts["adapters"]] == [adapter("lora").name]
    assert euler.facts["scheduler"] == "euler"
    assert styled.facts["lora"] == [f"{adapter('lora')}:2"]
    assert len({drawn, with_less, with_lora, by_euler}) == 4


def test_seeds_and_the_scores_of_a_scene(editor: Editor, clip: str, dataset: Path, tmp_path: Path) -> None:
    scenes, _ = select_scenes(open_dataset(dataset), "all")
    maps = label_maps(tmp_path / "maps", scenes, "plain", lambda mask: mask)
    label_maps(maps, scenes, "plain", lambda mask: mask & False, seed=5)
    settings: dict[str, Any] = {"methods": ["plain"], "steps": 1, "seeds": (0, 5), "features": clip}
    table = evaluate("generate", dataset, output=tmp_path / "out", editor=editor, judge=str(maps), **settings)
    plain = row(table, "plain")
    assert (plain.images, plain.miou.count) == (6, 3)
    assert (plain.miou.mean, plain.miou.deviation) == (0.5, 0)
    assert plain.pooled_miou == 0.5
    assert all(found.method != "real" for found in table.rows)
    assert "There is no label map" in table.failures["real"]["1, seed 0"]


def test_images_made_elsewhere(clip: str, dataset: Path, tmp_path: Path) -> None:
    """A folder that lacks an image, in another size and format: the rest is scored, and compared on what both have."""
    scenes, _ = select_scenes(open_dataset(dataset), "all")
    maps = label_maps(tmp_path / "maps", scenes, "real", lambda mask: mask)
    label_maps(maps, scenes, "theirs", lambda mask: mask)
    (tmp_path / "theirs").mkdir()
    for scene in scenes[:2]:
        Image.new("RGB", (32, 32), "red").save(tmp_path / "theirs" / f"{scene.name}.jpg")
    settings: dict[str, Any] = {"images": {"theirs": tmp_path / "theirs"}, "features": clip}
    table = evaluate("generate", dataset, output=tmp_path / "out", judge=str(maps), **settings)
    theirs = row(table, "theirs")
    assert (theirs.images, theirs.miou.mean, theirs.unet_calls) == (2, 1, None)
    assert list(table.failures["theirs"]) == ["3, seed 0"]
    assert [found.gain.count for found in table.differences] == [2]


def test_images_are_seen_as_their_exif_says(clip: str, dataset: Path, tmp_path: Path) -> None:
    """The photos themselves, stored a quarter turn away: nothing of the background has changed."""
    scenes, _ = select_scenes(open_dataset(dataset), "same")
    maps = label_maps(tmp_path / "maps", scenes, "turned", lambda mask: mask)
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "turned").mkdir()
    for scene in scenes:
        stored = Image.open(scene.picture.file).transpose(Image.Transpose.ROTATE_90)
        stored.save(tmp_path / "turned" / f"{scene.name}.png", exif=exif)
    settings: dict[str, Any] = {"images": {"turned": tmp_path / "turned"}, "features": clip}
    table = evaluate("edit", dataset, output=tmp_path / "out", judge=str(maps), **settings)
    assert row(table, "turned").changed == 0


def test_edits_keep_their_background(editor: Editor, clip: str, dataset: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"methods": ["plain", "masked-attention"], "steps": 2, "features": clip}
    segmenter = str(tiny_semantic(tmp_path / "segmenter", ["cat", "dog"]))
    table = evaluate("edit", dataset, output=tmp_path / "out", editor=editor, judge=segmenter, **settings)
    assert table.facts["protocol"] == "same"
    for method in ("plain", "masked-attention"):
        found = row(table, method)
        assert found.images == 3
        assert found.changed < 0.3  # only the feather band
        assert found.psnr > 15
        assert found.ssim > 0.5
    assert row(table, "real").changed == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"][0]["psnr"] is None  # infinite
    assert "LPIPS" in " ".join(table.facts["notes"])


def test_a_damaged_picture_costs_its_own_rows_alone(editor: Editor, clip: str, dataset: Path, tmp_path: Path) -> None:
    broken = dataset / "images" / "2.png"
    broken.write_bytes(broken.read_bytes()[:300])
    segmenter = str(tiny_semantic(tmp_path / "segmenter", ["cat", "dog"]))
    settings: dict[str, Any] = {"methods": ["plain"], "steps": 1, "features": clip, "judge": segmenter}
    made = evaluate("generate", dataset, output=tmp_path / "out", editor=editor, **settings)
    assert (row(made, "real").images, row(made, "plain").images) == (2, 3)
    assert row(made, "plain").frechet is not None
    assert list(made.failures) == ["real"]
    edited = evaluate("edit", dataset, output=tmp_path / "edits", editor=editor, **settings)
    assert row(edited, "plain").images == 2


def test_one_exact_background_does_not_make_all_exact(clip: str, dataset: Path, tmp_path: Path) -> None:
    scenes, _ = select_scenes(open_dataset(dataset), "same")
    maps = label_maps(tmp_path / "maps", scenes, "theirs", lambda mask: mask)
    (tmp_path / "theirs").mkdir()
    for number, scene in enumerate(scenes):
        pixels = np.array(Image.open(scene.picture.file))
        Image.fromarray(pixels + np.uint8(10 * (number > 0))).save(tmp_path / "theirs" / f"{scene.name}.png")
    settings: dict[str, Any] = {"images": {"theirs": tmp_path / "theirs"}, "features": clip}
    found = row(evaluate("edit", dataset, output=tmp_path / "out", judge=str(maps), **settings), "theirs")
    worse = 20 * np.log10(255 / 10)
    assert found.frechet is not None, "the judge has no maps of the dataset's own images"
    assert found.psnr == pytest.approx((58.92 + (len(scenes) - 1) * worse) / len(scenes), abs=0.01)


def test_another_precision_makes_images_anew(model_folder: Any, clip: str, dataset: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"methods": ["plain"], "steps": 1, "features": clip}
    settings["judge"] = str(tiny_semantic(tmp_path / "segmenter", ["cat", "dog"]))
    made = []
    for dtype in ("float32", "bfloat16"):
        one = Editor.from_pretrained(model_folder("sd1"), "cpu", dtype)
        table = evaluate("generate", dataset, output=tmp_path / "out", editor=one, **settings)
        assert table.facts["dtype"] == dtype
        made.append((tmp_path / "out" / "images" / "plain" / "0" / "1.png").stat().st_mtime_ns)
    assert made[0] < made[1]


def test_a_dataset_without_images_is_generated_from_all_the_same(editor: Editor, clip: str, tmp_path: Path) -> None:
    dataset = write(tmp_path / "data", PICTURES, images=False)
    segmenter = str(tiny_semantic(tmp_path / "segmenter", ["cat", "dog"]))
    settings: dict[str, Any] = {"methods": ["plain"], "steps": 1, "features": clip}
    table = evaluate("generate", dataset, output=tmp_path / "out", editor=editor, judge=segmenter, **settings)
    assert [found.method for found in table.rows] == ["plain"]
    assert row(table, "plain").frechet is None


def test_classes_that_the_segmenter_does_not_know(editor: Editor, clip: str, dataset: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"methods": ["plain"], "steps": 1, "features": clip, "editor": editor}
    only_cats = str(tiny_semantic(tmp_path / "cats", ["Cat"]))
    table = evaluate("generate", dataset, output=tmp_path / "out", judge=only_cats, **settings)
    assert table.facts["scenes"] == 1
    assert table.facts["left out"]["a class that the judge does not know"] == 2
    neither = str(tiny_semantic(tmp_path / "cars", ["car"]))
    with pytest.raises(UsageError, match="knows the classes of none"):
        evaluate("generate", dataset, output=tmp_path / "out", judge=neither, **settings)


def test_a_prompt_that_is_too_long_for_its_words_is_counted(editor: Editor, clip: str, tmp_path: Path) -> None:
    pictures = [*PICTURES, ([thing("person", box(0, 0, 30, 40))], ["zzzzzzzzzzzzzzzzzzzzzz person"])]
    dataset = write(tmp_path / "data", pictures)
    segmenter = str(tiny_semantic(tmp_path / "segmenter", ["cat", "dog", "person"]))
    settings: dict[str, Any] = {"methods": ["masked-attention"], "steps": 1, "features": clip}
    table = evaluate("generate", dataset, output=tmp_path / "out", editor=editor, judge=segmenter, **settings)
    assert row(table, "masked-attention").images == 3
    assert list(table.failures["masked-attention"]) == ["4, seed 0"]


@pytest.mark.parametrize(
    ("task", "changes", "words"),
    [
        ("generate", {}, "nothing to evaluate"),
        ("generate", {"methods": ["plain"], "protocol": "same"}, "protocol cannot be 'same'"),
        ("edit", {"methods": ["plain"], "protocol": "mag"}, "protocol cannot be 'mag'"),
        ("edit", {"methods": ["magic"]}, "no method 'magic'"),
        ("edit", {"methods": ["zest:colour=1"]}, "zest has no parameter"),
        ("edit", {"sweep": "zest"}, "no one list"),
        ("edit", {"methods": ["zest:fraction=1"], "sweep": "zest:fraction=1,0"}, "zest:fraction=1 is named twice"),
        ("generate", {"methods": ["plain"], "images": {"plain": "elsewhere"}}, "plain is named twice"),
        ("generate", {"images": {"real": "elsewhere"}}, "real is named twice"),
    ],
)
def test_bad_requests_are_one_sentence(task: Any, changes: Any, words: str, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        evaluate(task, dataset, output=tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_images_are_made_at_the_area_asked_for(editor: Editor, dataset: Path, tmp_path: Path) -> None:
    """An image made at another size is made anew."""
    maps = label_maps(tmp_path / "maps", select_scenes(open_dataset(dataset), "all")[0], "plain", lambda mask: mask)
    settings: Any = {"output": tmp_path / "out", "methods": ["plain"], "editor": editor, "judge": str(maps)}
    for size in (None, (96, 144)):
        evaluate("generate", dataset, **settings, features="judge", steps=1, size=size)
        made = Image.open(next((tmp_path / "out/images/plain/0").glob("*.png")))
        assert (made.height, made.width) == (size or (48, 80))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 64), (64, 64)), ((480, 640), (56, 72)), ((640, 100), (160, 24)), ((5000, 10), (1432, 8))],
)
def test_canvas_keeps_aspect_and_area(size: tuple[int, int], expected: tuple[int, int], tmp_path: Path) -> None:
    (scene, *_), _ = select_scenes(open_dataset(write(tmp_path / "data", PICTURES)), "all")
    scene.placements[0].segment.rle["size"] = list(size)
    assert canvas(scene, (64, 64), 8) == expected


def test_junk_in_a_resumed_folder_is_made_anew(
    editor: Editor, clip: str, dataset: Path, tmp_path: Path, calls: list[int]
) -> None:
    output, judge = tmp_path / "out", str(tiny_semantic(tmp_path / "judge", ["cat", "dog"]))

    def run() -> Table:
        calls.clear()
        settings: dict[str, Any] = {"methods": ["plain"], "steps": 1, "features": clip, "judge": judge}
        return evaluate("generate", dataset, output=output, editor=editor, **settings)

    run()
    text, torn, strange = sorted((output / "images/plain/0").glob("*.png"))
    text.write_text("no picture")
    torn.write_bytes(torn.read_bytes()[:-40])
    Image.new("RGB", (8, 8)).save(strange)
    table = run()
    assert len(calls) == 3
    assert table.failures == {}
    run()
    assert not calls


def test_nothing_made_is_an_error(dataset: Path, tmp_path: Path) -> None:
    """The report is there all the same, and says why."""
    maps = label_maps(tmp_path / "maps", select_scenes(open_dataset(dataset), "all")[0], "real", lambda mask: mask)
    images = {"theirs": str(tmp_path / "nowhere")}
    with pytest.raises(InlayError, match="nowhere has no image named 1"):
        evaluate("generate", dataset, output=tmp_path / "out", images=images, judge=str(maps))
    assert "`theirs`: 3" in (tmp_path / "out" / "report.md").read_text()


def test_images_are_read_in_display_orientation(clip: str, dataset: Path, tmp_path: Path) -> None:
    """The dataset's own pictures, stored turned with an EXIF tag, score as the upright ones do."""
    turned = tmp_path / "turned"
    turned.mkdir()
    for file in (dataset / "images").glob("*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(file).transpose(Image.Transpose.ROTATE_90).save(turned / file.name, exif=exif)
    judge = str(tiny_semantic(tmp_path / "judge", ["cat", "dog"]))
    settings: dict[str, Any] = {"images": {"turned": str(turned)}, "features": clip, "judge": judge}
    table = evaluate("generate", dataset, output=tmp_path / "out", **settings)
    assert row(table, "turned").miou == row(table, "real").miou
    assert row(table, "turned").frechet == pytest.approx(0, abs=1e-4)
