"""Adapters as options of a job: on the command line, in records, in batches, on the page, in the list of models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inlay.editing.editor import Editor
from inlay.editing.job import EditJob, GenerateJob, checked
from inlay.errors import UsageError
from inlay.jobs.batch import batch
from inlay.ui import form
from inlay.ui.history import History
from inlay.weights.at_hand import weights_at_hand
from PIL import Image
from safetensors.torch import load_file, save_file


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture
def loaded(folder, adapter) -> list[Any]:
    """Options that load one of each kind of adapter; the LoRA is a copy, which a test may change."""
    lora = shutil.copy(adapter("lora"), folder.path / "style.safetensors")
    shown = folder.picture("map.png", seed=8)
    thing = folder.picture("thing.png", seed=9, size=(30, 30))
    net = adapter("controlnet")
    return [
        *("--lora", f"{lora}:0.5", "--embedding", adapter("embedding"), "--vae", folder.common["model"] + "/vae"),
        *("--control", f"{net}={shown}:0.5", "--control", f"{adapter('t2i_adapter')}=canny"),
        *("--reference", f"{adapter('ip_adapter')}={thing}:0.8"),
    ]


def test_a_record_replays_all_adapters_and_says_which_have_changed(inlay_command, folder, loaded):
    common = ["-m", folder.common["model"], "--steps", 2, "--mask", folder.path / "m.png", *loaded]
    asked = [folder.path / "a.png", "-p", "a red <thing>", "--words", "<thing>", "--method", "masked-attention"]
    first = inlay_command("edit", *asked, *common, "--json", "-o", folder.path / "one.png")
    assert first.code == 0, first.err
    record = json.loads(first.out)["settings"]
    assert record["job"]["lora"] == [{"weights": loaded[1].rpartition(":")[0], "scale": 0.5}]
    assert len(record["facts"]["adapters"]) == 6
    assert len(record["facts"]["control_sha256"]) == 2
    again = inlay_command("edit", "--from", folder.path / "one.png", "-o", folder.path / "two.png")
    assert again.code == 0, again.err
    assert "Not as when" not in again.err
    assert (pixels(folder.path / "one.png") == pixels(folder.path / "two.png")).all()

    from inlay.jobs.perform import editor_for

    editor_for.cache_clear()
    lora = folder.path / "style.safetensors"
    save_file({name: value * 2 for name, value in load_file(lora).items()}, lora)
    changed = inlay_command("edit", "--from", folder.path / "one.png", "-o", folder.path / "three.png")
    assert "Not as when the settings were stored: adapters." in changed.err


def test_python_says_the_same(folder, adapter, tmp_path):
    lora, net = str(adapter("lora")), str(adapter("controlnet"))
    photo, shown = folder.path / "a.png", folder.picture("map.png", seed=8)
    mask = pixels(folder.path / "m.png")[..., 0] > 0
    editor = Editor.from_pretrained(folder.common["model"], device="cpu", lora=f"{lora}:0.5", control=net)
    one = editor.edit(Image.open(photo), mask, "a cat", steps=2, control=[(shown, 0.5)])
    job = one.settings[0].job
    assert (str(job.lora[0]), str(job.control[0])) == (f"{lora}:0.5", f"{net}={shown}:0.5")
    plain = Editor.from_pretrained(folder.common["model"], device="cpu").edit(Image.open(photo), mask, "a cat", steps=2)
    assert (one.best.pixels != plain.best.pixels).any()
    edges = editor.edit(Image.open(photo), mask, "a cat", steps=2, control=["canny"])
    assert (one.best.pixels != edges.best.pixels).any()
    with pytest.raises(UsageError, match="loaded with 1 controls and is given 0"):
        editor.edit(Image.open(photo), mask, "a cat")
    with pytest.raises(UsageError, match="no photo whose edges"):
        editor.generate("a cat", control=["canny"])


def test_a_window_sees_its_part_of_the_controls_picture(folder, adapter, monkeypatch):
    """A control's picture that differs far from the place alone changes nothing: the window does not see it."""
    from inlay.editing.crop import crops_for
    from inlay.editing.shown import Shown

    photo = np.zeros((200, 300, 3), np.uint8)
    shown = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    mask = np.zeros((200, 300), bool)
    mask[90:110, 40:60] = True
    (crop,) = crops_for(mask, 64, 16)
    (seen,) = Shown((shown,)).within(crop, photo)
    assert seen.shape == (crop.size[1], crop.size[0], 3)
    elsewhere = shown.copy()
    elsewhere[:, 200:] = 0
    assert (Shown((elsewhere,)).within(crop, photo)[0] == seen).all()
    assert (seen == crop.cut(shown)).all()
    photo[:, 50:] = 255
    (edge,) = Shown((None,)).within(crop, photo)
    assert set(np.unique(edge)) == {0, 255}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["-p", "a cat", "--embedding", "EMBEDDING"], 2, "<thing>, is not in the prompt"),
        (["-p", "a cat", "--control", "NET=small.png"], 2, "is 20x20 and the photo 48x40"),
        (["-p", "a cat", "--control", "NET"], 2, "=PICTURE"),
        (["-p", "a cat", "--control", "canny"], 2, "knows no weights for canny"),
        (["-p", "a cat", "--reference", "thing.png"], 2, "knows no weights for a reference"),
        (["-p", "a cat", "--control", "NET=nowhere.png"], 1, "nowhere.png"),
        (["-p", "a cat", "--lora", "nowhere.safetensors"], 4, "nowhere.safetensors"),
        (["-p", "a cat", "--lora", "x.ckpt"], 4, "is a pickle"),
        (["-p", "a cat", "--lora", "XL"], 4, "is not for"),
        (["-p", "a cat", "--control", "NET=canny:-1"], 2, "greater than or equal to 0"),
    ],
)
def test_bad_input_is_one_sentence_before_the_model_is_loaded(
    inlay_command, folder, adapter, monkeypatch, options, code, said
):
    monkeypatch.chdir(folder.path)
    monkeypatch.setattr("inlay.editing.editor.Editor.from_pretrained", None)
    folder.picture("small.png", size=(20, 20))
    folder.picture("thing.png")
    places = {"EMBEDDING": adapter("embedding"), "NET": adapter("controlnet"), "XL": adapter("lora", "sdxl")}
    for name, place in places.items():
        options = [option.replace(name, str(place)) for option in options]
    ran = inlay_command("edit", "a.png", "--mask", "m.png", "-m", folder.common["model"], *options, "-o", "out.png")
    assert (ran.code, ran.err.count("\n")) == (code, 1), ran.err
    assert said in ran.err


def test_without_peft_a_lora_says_how_to_get_it(inlay_command, folder, adapter, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    lora = folder.path / "new.safetensors"
    shutil.copy(adapter("lora"), lora)
    common = ["-m", folder.common["model"], "-o", folder.path / "out.png"]
    ran = inlay_command("generate", "-p", "a cat", "--lora", lora, *common)
    assert ran.code == 1
    assert "pip install 'inlay[lora]'" in ran.err


@pytest.mark.usefixtures("here")
def test_a_batch_resolves_refuses_and_notices_adapters(folder, adapter):
    lora = Path(shutil.copy(adapter("lora"), folder.path / "style.safetensors"))
    folder.picture("map.png", seed=8)
    folder.picture("small.png", size=(20, 20))
    net = adapter("controlnet")
    rows = [
        {"photo": "a.png", "lora": f"{lora}:0.5", "control": f"{net}=map.png"},
        {"photo": "b.jpg", "lora": [{"weights": str(lora)}], "control": [{"weights": str(net), "picture": "canny"}]},
        {"photo": "sub/a.png", "control": f"{net}=small.png"},
        {"photo": "sub/a.png", "id": "other", "lora": "nowhere.safetensors"},
    ]

    def run() -> dict[str, Any]:
        return {one.id: one for one in batch(folder.manifest(*rows), folder.out, device="cpu")}

    first = run()
    assert {id: one.state for id, one in first.items()} == {
        "a.png": "done",
        "b.jpg": "done",
        "sub/a.png": "failed",
        "other": "failed",
    }
    assert "make them one size" in first["sub/a.png"].error
    assert "nowhere.safetensors" in first["other"].error
    assert {one.state for one in run().values()} == {"skipped", "failed"}
    folder.picture("map.png", seed=80)
    assert run()["a.png"].state == "done"
    tensors = load_file(lora)
    save_file({name: value + 1 for name, value in tensors.items()}, lora)
    again = run()
    assert (again["a.png"].state, again["b.jpg"].state) == ("done", "done")


@pytest.mark.parametrize(
    "fields",
    [
        {"lora": "a.safetensors:0.5;owner/name"},
        {"embedding": "a.safetensors;b.safetensors"},
        {"control": "canny:0.5;./net=canny"},
        {"vae": "owner/vae"},
    ],
)
def test_the_page_says_adapters_as_a_shell_does_and_takes_those_that_were_offered(fields):
    job = checked(EditJob, prompt="x", **fields)
    assert form.filled_in(job) == {"prompt": "x", **fields}
    given = {"prompt": "x", "model": "toybox", **fields}
    assert form.job_of("edit", given, ["toybox"], job.adapters.names, Path) == checked(
        EditJob, model="toybox", prompt="x", **fields
    )
    with pytest.raises(UsageError, match="was not offered"):
        form.job_of("edit", given, ["toybox"], [], Path)


def test_the_page_opens_pictures_that_it_has_sent_and_no_other_by_its_path(tmp_path):
    history = History(tmp_path)
    history.photos.mkdir()
    (history.photos / "one-0123456789abcdef.png").touch()
    (tmp_path / "secret.png").touch()
    given = {"prompt": "x", "model": "toybox", "control": "./net=canny;./net=one-0123456789abcdef.png:0.5"}
    given["reference"] = "./face.safetensors=one-0123456789abcdef.png"
    job = form.job_of("generate", given, ["toybox"], ["./net", "./face.safetensors"], history.sent)
    assert [one.picture for one in job.control] == ["canny", str(history.photos / "one-0123456789abcdef.png")]
    assert job.reference.picture == job.control[1].picture
    assert form.filled_in(job) == {name: value for name, value in given.items() if name != "model"}
    for name in ("/etc/passwd", "../secret.png", "..", "two.png"):
        for field, weights in (("control", "./net"), ("reference", "./face.safetensors")):
            asked = {"prompt": "x", "model": "toybox", field: f"{weights}={name}"}
            with pytest.raises(UsageError, match="has sent no picture"):
                form.job_of("generate", asked, ["toybox"], [weights], history.sent)
    with pytest.raises(UsageError, match="No IP-Adapter"):
        form.job_of("generate", given | {"reference": "one.png"}, ["toybox"], ["./net"], history.sent)


def test_a_scale_belongs_to_a_name_with_colons_in_it():
    job = checked(GenerateJob, prompt="x", lora=["C:\\a.safetensors:0.5", "C:\\b.safetensors", "x:-1"])
    assert [(one.weights, one.scale) for one in job.lora] == [
        ("C:\\a.safetensors", 0.5),
        ("C:\\b.safetensors", 1.0),
        ("x", -1.0),
    ]
    assert GenerateJob.model_validate_json(job.model_dump_json()) == job


def test_adapters_in_the_hubs_cache_are_listed_and_used_by_id(tmp_path, monkeypatch, adapter, model_folder):
    import huggingface_hub.constants as constants
    from inlay.diffusion.model import Model
    from inlay.weights.adapters import Adapters

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def snapshot(name: str) -> Path:
        root = tmp_path / f"models--{name.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("abc")
        return root / "snapshots" / "abc"

    shutil.copytree(adapter("lora").parent, snapshot("me/style"))
    shutil.copytree(adapter("embedding").parent, snapshot("me/thing"))
    shutil.copytree(model_folder("sd1") / "vae", snapshot("me/vae"))
    shutil.copytree(adapter("controlnet"), snapshot("me/net"))
    shutil.copytree(adapter("ip_adapter").parent, snapshot("me/ip") / "models")
    listed = {one.name: (one.kind, one.state) for one in weights_at_hand() if one.name.startswith("me/")}
    assert listed == {
        "me/style": ("lora", "ready"),
        "me/thing": ("embedding", "ready"),
        "me/vae": ("vae", "ready"),
        "me/net": ("control", "ready"),
        "me/ip": ("reference", "ready"),
    }
    model = Model.from_pretrained(
        model_folder("sd1"),
        device="cpu",
        offline=True,
        adapters=Adapters(
            (("me/style", 1.0), ("me/style/pytorch_lora_weights.safetensors", 0.5)),
            ("me/thing",),
            "me/vae",
            ("me/net",),
            "me/ip/models/ip-adapter.safetensors",
        ),
    )
    assert set(model.marks) >= {"me/style", "me/thing", "me/vae", "me/net"}
    assert torch.isfinite(model.unet.conv_in.weight).all()
