"""`inlay edit` and `inlay generate` on a tiny model: what is written, said, and made again."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

BOX = "5,5,30,50"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A 90 x 62 photo: a bright and a red thing on a dark gradient."""
    x, y = np.meshgrid(np.arange(90), np.arange(62))
    pixels = np.stack([x // 2, y // 2, 40 + 0 * x], axis=-1).astype(np.uint8)
    pixels[15:40, 12:24] = (240, 230, 200)
    pixels[15:40, 58:72] = (220, 30, 30)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def edit(inlay_command: Any, model_folder: Any, photo: Path) -> Any:
    """Runs `inlay edit photo` with two steps of the tiny model."""
    return lambda *more: inlay_command("edit", photo, "-m", model_folder("sd1"), "--steps", 2, *more)


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_an_edit_changes_the_place_alone_and_prints_its_path(edit: Any, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.png"
    mask = np.zeros((62, 90), np.uint8)
    mask[10:40, 20:52] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    ran = edit("--mask", tmp_path / "mask.png", "-p", "a red apple", "--feather", 3, "-o", out)
    assert (ran.code, ran.paths) == (0, [out])
    changed = (pixels(out) != pixels(photo)).any(-1)
    assert changed[10:40, 20:52].mean() > 0.9
    changed[7:43, 17:55] = False
    assert not changed.any()


def test_settings_in_the_file_make_it_again(edit: Any, inlay_command: Any, tmp_path: Path) -> None:
    several = edit("--box", BOX, "-p", "a cat", "-n", 2, "--seed", 5, "--method", "zest", "-o", tmp_path / "out.png")
    assert several.paths == [tmp_path / "out-1.png", tmp_path / "out-2.png"]
    again = inlay_command("edit", "--from", tmp_path / "out-2.png", "-o", tmp_path / "again.png")
    assert again.code == 0, again.err
    alone, among = pixels(tmp_path / "again.png"), pixels(tmp_path / "out-2.png")
    assert np.abs(alone.astype(int) - among).max() <= 1  # a batch of two rounds otherwise than one
    assert inlay_command("edit", "--from", tmp_path / "again.png", "-o", tmp_path / "same.png").code == 0
    assert (pixels(tmp_path / "same.png") == alone).all()
    assert "Not as when" not in again.err
    other = inlay_command("edit", "--from", tmp_path / "out-2.png", "--seed", 1, "-o", tmp_path / "other.png")
    assert other.code == 0
    assert (pixels(tmp_path / "other.png") != pixels(tmp_path / "out-2.png")).any()


def test_what_a_result_names_is_found_beside_it(edit: Any, inlay_command: Any, photo: Path, tmp_path: Path) -> None:
    mask, kept = tmp_path / "mask.png", tmp_path / "kept"
    Image.fromarray(np.uint8(255 * (pixels(photo)[..., 0] > 200))).save(mask)
    assert edit("--mask", mask, "-p", "a cat", "-o", kept / photo.name).code == 0
    mask.rename(kept / mask.name)
    photo.rename(tmp_path / "elsewhere.png")
    again = ("edit", "--from", kept / photo.name, "-o", tmp_path / "again.png")
    assert f"{photo} does not exist" in inlay_command(*again).err, "a result of that name is not its photo"
    (kept / photo.name).rename(kept / "made.png")
    (tmp_path / "elsewhere.png").rename(kept / photo.name)
    ran = inlay_command(*again[:2], kept / "made.png", *again[3:])
    assert ran.code == 0, ran.err
    assert "Not as when" not in ran.err
    assert (pixels(tmp_path / "again.png") == pixels(kept / "made.png")).all()


def test_a_record_says_all(edit: Any, tmp_path: Path) -> None:
    ran = edit("--box", BOX, "--point", "18,28", "-p", "a cat", "-o", tmp_path / "out.jpg", "--json")
    record = json.loads(ran.out)
    assert record["path"] == str(tmp_path / "out.jpg")
    assert record["settings"]["job"]["box"] == [[5, 5, 30, 50]]
    assert record["settings"]["facts"]["image_seed"] == 0
    assert record["changed_outside"] > 0  # a JPEG
    assert "grabcut" in ran.err


def test_preview_and_attention_are_pictures(edit: Any, tmp_path: Path) -> None:
    ran = edit(
        "--box",
        BOX,
        "-p",
        "a red apple",
        "-n",
        2,
        "-o",
        tmp_path / "o.png",
        "--preview",
        "--save-attention",
        tmp_path / "words",
    )
    assert ran.code == 0, ran.err
    assert Image.open(tmp_path / "o-preview.png").width > 4 * 180
    assert {path.name for path in (tmp_path / "words").iterdir()} == {
        f"{seed}-{word}.png" for seed in (0, 1) for word in ("red", "apple", "steps")
    }


def test_places_with_words_of_their_own(edit: Any, tmp_path: Path) -> None:
    boxes = ("--box", BOX, "--box", "50,5,80,50")
    ran = edit(
        *boxes, "--words", "apple", "--words", "cup", "-p", "an apple and a cup", "-o", tmp_path / "o.png", "--json"
    )
    assert ran.code == 0, ran.err
    job = json.loads(ran.out)["settings"]["job"]
    assert job["words"] == ["apple", "cup"]
    assert job["method"][0]["name"] == "masked-attention"
    for given in (["apple"], ["apple", "cup", "an"]):
        words = [item for word in given for item in ("--words", word)]
        wrong = edit(*boxes, *words, "-p", "an apple and a cup", "-o", tmp_path / "p.png")
        assert wrong.code == 2
        assert f"The number of --words is {len(given)}, that of places 2" in wrong.err


def test_what_guidance_does_is_said_on_stderr(edit: Any, inlay_command: Any, model_folder: Any, tmp_path: Path) -> None:
    mask = Image.new("L", (90, 62), 255)
    mask.save(tmp_path / "mask.png")
    masks = ("--mask", tmp_path / "mask.png")
    common = ("-p", "an apple and a cup", "-o", tmp_path / "o.png", "--overwrite")
    ran = edit(*masks, *common, "--method", "zest")
    assert "inlay: The words are 'apple cup', all of the prompt; name the thing with --words" in ran.err
    assert "words" not in edit(*masks, *common).err
    assert "Nothing guides 'cup'" in edit(*masks, *common, "--words", "cup", "--method", "plain").err
    ran = edit(*masks, *masks, *common, "--words", "apple", "--words", "cup")
    assert ran.err.count("'apple' and 'cup' overlap on 100.0 %") == 1
    layout = tmp_path / "layout.json"
    regions = [{"words": "apple", "box": [0, 0, 1, 1]}, {"words": "cup", "box": [0, 0, 1, 0.5]}]
    layout.write_text(json.dumps({"prompt": "an apple and a cup", "regions": regions}))
    ran = edit("--layout", layout, "-o", tmp_path / "o.png", "--overwrite")
    assert ran.err.count("overlap on 50.0 %") == 1
    made = ("generate", *common, "-m", model_folder("sd1"), "--steps", 1)
    assert "zest guides nothing without regions; give a layout." in inlay_command(*made, "--method", "zest").err


def test_a_layout_that_changed_since_is_said(inlay_command: Any, model_folder: Any, tmp_path: Path) -> None:
    layout, mask = tmp_path / "layout.json", tmp_path / "mask.png"
    Image.new("L", (32, 32), 255).save(mask)
    layout.write_text(json.dumps({"prompt": "a cup", "regions": [{"words": "cup", "mask": "mask.png"}]}))
    common = ("-m", model_folder("sd1"), "--steps", 1)
    assert inlay_command("generate", "--layout", layout, *common, "-o", tmp_path / "made.png").code == 0
    again = ("generate", "--from", tmp_path / "made.png", "--overwrite", "-o", tmp_path / "again.png")
    assert "Not as when" not in inlay_command(*again).err
    Image.new("L", (32, 32), 200).save(mask)
    ran = inlay_command(*again)
    assert ran.code == 0
    assert "Not as when the settings were stored: layout." in ran.err


def test_a_layout_edits_and_generates(edit: Any, inlay_command: Any, model_folder: Any, tmp_path: Path) -> None:
    layout = tmp_path / "layout.json"
    regions = [{"words": "apple", "box": [0.1, 0.1, 0.5, 0.9]}, {"words": "cup", "box": [0.6, 0.1, 0.9, 0.9]}]
    layout.write_text(json.dumps({"prompt": "an apple and a cup", "regions": regions}))
    ran = edit("--layout", layout, "-o", tmp_path / "edit.png")
    assert ran.code == 0, ran.err
    common = ("-m", model_folder("sd1"), "--steps", 2)
    ran = inlay_command(
        "generate", "--layout", layout, *common, "--size", "50x37", "-o", tmp_path / "made.webp", "--json"
    )
    assert ran.code == 0, ran.err
    assert Image.open(tmp_path / "made.webp").size == (50, 37)
    assert json.loads(ran.out)["settings"]["job"]["method"][0]["name"] == "masked-attention"
    again = inlay_command("generate", "--from", tmp_path / "made.webp", "-o", tmp_path / "again.png")
    assert again.code == 0, again.err
    assert (pixels(tmp_path / "again.png") == pixels(tmp_path / "made.webp")).all()
    assert inlay_command("edit", "--from", tmp_path / "made.webp", "-o", tmp_path / "no.png").code == 2


def test_off_means_off(edit: Any, tmp_path: Path) -> None:
    off = "masked-attention:fraction=0+paint-with-words:strength=0"
    assert edit("--box", BOX, "-p", "a cat", "-o", tmp_path / "plain.png").code == 0
    ran = edit("--box", BOX, "-p", "a cat", "--method", off, "-o", tmp_path / "off.png")
    assert ran.code == 0, ran.err
    assert (pixels(tmp_path / "plain.png") == pixels(tmp_path / "off.png")).all()


def test_quiet_says_nothing(edit: Any, tmp_path: Path) -> None:
    assert edit("--box", BOX, "-p", "a cat", "-o", tmp_path / "o.png", "--quiet").err == ""


def test_masks_are_written_and_shown(inlay_command: Any, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.png"
    ran = inlay_command("mask", photo, "--box", BOX, "-o", out, "--overlay", tmp_path / "look.png", "--mask-grow", 2)
    assert (ran.code, ran.paths) == (0, [out])
    mask = pixels(out)[..., 0]
    assert set(np.unique(mask)) == {0, 255}
    red = (pixels(tmp_path / "look.png") != pixels(photo)).any(-1)
    assert not red[mask == 0].any()
    runs = inlay_command("mask", photo, "--mask", out, "--mask-invert", "-o", tmp_path / "mask.json", "--json")
    assert json.loads(runs.out)["share"] == pytest.approx(1 - (mask > 0).mean())
    each = inlay_command("mask", photo, "--point", "18,28", "--candidates", "-o", tmp_path / "c.png")
    assert each.paths[0] == tmp_path / "c-1.png"
    taken = inlay_command(
        "mask", photo, "--point", "18,28", "--candidates", "-o", tmp_path / "c.png", "--overlay", "l.png"
    )
    assert (taken.code, Path("l.png").exists()) == (2, False), "what is refused has written nothing"
    both = inlay_command("mask", photo, "--box", BOX, "-o", tmp_path / "n.png", "--overlay", tmp_path / "n.png")
    assert (both.code, (tmp_path / "n.png").exists()) == (2, False)
    assert inlay_command("mask", photo, "--box", BOX, "-o", out).code == 2
    assert inlay_command("mask", photo, "--box", BOX, "-o", tmp_path / "mask.jpg").code == 2


def test_everything_is_mapped(inlay_command: Any, photo: Path, tmp_path: Path) -> None:
    out, look = tmp_path / "map.png", tmp_path / "look.png"
    ran = inlay_command("mask", photo, "--everything", "-o", out, "--overlay", look, "--json")
    assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    with Image.open(out) as picture:
        labels = np.asarray(picture)
    assert record["backend"] == "grabcut"
    assert record["share"] == pytest.approx((labels > 0).mean())
    assert 0 < labels.max() <= record["count"]
    assert (pixels(look)[labels == 0] == pixels(photo)[labels == 0]).all()
    for more in (("--box", BOX), ("--point", "18,28"), ("--mask", out), ("--candidates",), ("--mask-grow", 2)):
        ran = inlay_command("mask", photo, "--everything", *more, "-o", tmp_path / "no.png")
        assert ran.code == 2
        assert "--everything stands alone" in ran.err
    assert not (tmp_path / "no.png").exists()


def test_the_machine_is_described(inlay_command: Any) -> None:
    listed = inlay_command("models", "list")
    assert listed.code == 0
    assert {"toybox", "minisam"} <= {line.split()[0] for line in listed.out.splitlines()}
    assert "torch" in json.loads(inlay_command("doctor", "--json").out)["packages"]
    assert inlay_command("models", "verify", "no-such-model").code == 4
    assert inlay_command("models", "download", "owner/name", "--offline").code == 4


def test_a_quality_is_kept_and_stored(edit: Any, inlay_command: Any, tmp_path: Path) -> None:
    common = ("--box", BOX, "-p", "a cat", "-o")
    sizes = {}
    for quality in (20, 95):
        out = tmp_path / f"{quality}.jpg"
        record = json.loads(edit(*common, out, "--quality", quality, "--json").out)
        assert record["settings"]["job"]["quality"] == quality
        sizes[quality] = out.stat().st_size
    assert sizes[20] < sizes[95]
    again = ("edit", "--from", tmp_path / "20.jpg", "-o")
    assert inlay_command(*again, tmp_path / "again.jpg").code == 0
    assert (tmp_path / "again.jpg").stat().st_size == pytest.approx(sizes[20], rel=0.1)
    assert inlay_command(*again, tmp_path / "whole.png").code == 0
    assert inlay_command(*again, tmp_path / "no.png", "--quality", 20).code == 2


def test_a_photo_comes_and_goes_by_standard_streams(
    edit: Any, inlay_command: Any, model_folder: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--box", BOX, "-p", "a cat", "-m", model_folder("sd1"), "--steps", 2)
    assert edit("--box", BOX, "-p", "a cat", "-o", tmp_path / "named.png").code == 0
    for command, out in (("edit", "-"), ("mask", tmp_path / "mask.png"), ("edit", tmp_path / "empty.png")):
        piped = b"" if "empty" in str(out) else photo.read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
        sent = io.BytesIO()
        stdout = io.TextIOWrapper(sent, write_through=True)
        with monkeypatch.context() as patched:
            if out == "-":
                patched.setattr(sys, "stdout", stdout)
            ran = inlay_command(command, "-", *(settings if command == "edit" else settings[:2]), "-o", out)
        if "empty" in str(out):
            assert (ran.code, ran.err) == (1, "inlay: standard input is empty: it has no bytes\n")
            continue
        assert ran.code == 0, ran.err
        if out == "-":
            assert (pixels(sent) == pixels(tmp_path / "named.png")).all()  # type: ignore[arg-type]  # Pillow reads both
