"""Bad input gets one sentence and the right exit code, and nothing is written; odd input works."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

SIZE = (48, 40)
BOX = ("--box", "10,8,30,30")
OUT = "out.png"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own working folder with a photo in it."""
    monkeypatch.chdir(tmp_path)
    picture().save("photo.png")
    return tmp_path


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([x, y, 255 - x], axis=-1).astype(np.uint8) // 2
    pixels[14:26, 14:26] = (250, 240, 200)  # a thing, in `BOX`
    return Image.fromarray(pixels).convert(mode)


def white(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = SIZE) -> Image.Image:
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[y0:y1, x0:x1] = 255
    return Image.fromarray(mask)


@pytest.fixture
def edit(inlay_command: Any, model_folder: Any) -> Any:
    """Runs `inlay edit PHOTO` with one step of the tiny model and an output, unless `more` says otherwise."""

    def run(photo: object = "photo.png", *more: object, prompt: str = "a cat", out: str = OUT) -> Any:
        common = ("-m", model_folder("sd1"), "--steps", 1, "-p", prompt, "-o", out)
        return inlay_command("edit", photo, *common, *more)

    return run


def refused(ran: Any, code: int, *said: str) -> None:
    """One sentence with these words, the exit code, no result."""
    assert ran.code == code, ran.err
    assert all(word in ran.err for word in said), ran.err
    assert len(ran.err.strip().splitlines()) == 1, ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert not Path(OUT).exists()


@pytest.mark.parametrize("option", ["--lora", "--vae", "--model", "--layout"])
def test_names_longer_than_any_file_has_are_refused(edit: Any, option: str) -> None:
    place = () if option == "--layout" else BOX
    ran = edit("photo.png", *place, option, "x" * 5000)
    assert ran.code == 2, ran.err[-300:]
    assert "unexpected" not in ran.err


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_photos_are_edited_as_they_are_shown(edit: Any, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    picture().save("turned.png", exif=exif)
    shown = (SIZE[1], SIZE[0]) if orientation >= 5 else SIZE
    white(2, 3, 12, 9, shown).save("mask.png")
    assert edit("turned.png", "--mask", "mask.png", "--feather", 0).code == 0
    made = Image.open(OUT)
    assert made.size == shown
    assert made.getexif().get(274, 1) == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "CMYK", "I;16"])
def test_every_mode_is_edited_and_its_background_kept(edit: Any, mode: str) -> None:
    name = "photo.tif" if mode == "CMYK" else "modes.png"
    source = picture("L" if mode == "I;16" else "RGB" if mode == "P" else mode)
    if mode == "I;16":
        source = Image.fromarray(np.asarray(source).astype(np.uint16) * 257)
    if mode == "P":
        source = source.quantize(32)
    source.save(name)
    white(10, 8, 30, 30).save("mask.png")
    out = name.replace("modes", "out").replace("photo", "out")
    ran = edit(name, "--mask", "mask.png", "--feather", 0, out=out)
    assert ran.code == 0, ran.err
    before, after = (np.asarray(Image.open(path).convert("RGB")) for path in (name, out))
    if mode == "I;16":
        before, after = np.asarray(Image.open(name))[..., None], cv2.imread(out, cv2.IMREAD_UNCHANGED)
        assert before.dtype == after.dtype
    assert (before[:8] == after[:8]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_stays_and_is_never_the_mask(edit: Any, mode: str) -> None:
    source = picture(mode[:1] if mode == "LA" else "RGB")
    source.putalpha(white(0, 0, 24, 40))
    (source.quantize(32) if mode == "P" else source).save("clear.png")
    white(10, 8, 30, 30).convert("RGB").save("opaque.png")
    refused(edit("clear.png", "--mask", "opaque.png", "--mask-read", "alpha"), 2, "alpha")
    assert edit("clear.png", *BOX).code == 0
    before, after = (np.asarray(Image.open(path).convert("RGBA")) for path in ("clear.png", OUT))
    assert (before[..., 3] == after[..., 3]).all()
    assert (before[:4] == after[:4]).all()


def test_a_profile_goes_along(edit: Any) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture().save("managed.png", icc_profile=profile)
    assert edit("managed.png", *BOX).code == 0
    assert Image.open(OUT).info["icc_profile"] == profile


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "pages.tif"])
def test_one_picture_of_several_is_chosen(edit: Any, name: str) -> None:
    picture().save(name, save_all=True, append_images=[picture().effect_spread(2), picture().effect_spread(3)])
    refused(edit(name, *BOX), 2, name, "--frame")
    refused(edit(name, *BOX, "--frame", 9), 2, "no frame 9")
    assert edit(name, *BOX, "--frame", 1).code == 0


def test_names_with_spaces_and_other_alphabets(edit: Any) -> None:
    picture().save("mein Foto 写真.png")
    ran = edit("mein Foto 写真.png", *BOX, out="été à la mer/ответ 1.png")
    assert (ran.code, [str(path) for path in ran.paths]) == (0, ["été à la mer/ответ 1.png"])
    assert ran.paths[0].is_file()
    refused(edit("kein Foto ü.png", *BOX), 1, "kein Foto ü.png")


def test_files_that_are_no_photos(edit: Any, folder: Path) -> None:
    whole = Path("photo.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("text.png").write_text("this is no picture")
    Path("nothing.png").write_bytes(b"")
    for name in ("cut.png", "text.png", "nothing.png", str(folder), "missing.png"):
        refused(edit(name, *BOX), 1, name)


def test_bombs_are_refused_from_the_header(edit: Any) -> None:
    refused(edit("photo.png", *BOX, "--max-pixels", 1000), 1, "48 × 40", "limit")


def test_the_limit_of_pixels_holds_for_masks_and_for_pictures_that_a_model_is_shown(edit: Any) -> None:
    white(10, 8, 30, 30, (96, 80)).save("large.png")
    more = ("--mask-fit", "resize", "--max-pixels", 2000)
    refused(edit("photo.png", "--mask", "large.png", *more), 1, "96 × 80", "limit of 2000")
    for shown in (("--control", "canny=large.png"), ("--reference", "large.png")):
        refused(edit("photo.png", *BOX, *shown, *more), 1, "96 × 80", "limit of 2000")


def test_masks_of_every_kind(edit: Any) -> None:
    white(0, 0, 0, 0).save("empty.png")
    refused(edit("photo.png", "--mask", "empty.png"), 2, "empty")
    white(0, 0, 9, 9, (30, 20)).save("small.png")
    refused(edit("photo.png", "--mask", "small.png"), 2, "30", "48", "--mask-fit resize")
    refused(edit("photo.png", "--mask", "gone.png"), 1, "gone.png")
    assert edit("photo.png", "--mask", "small.png", "--mask-fit", "resize", out="fit.png").code == 0
    white(0, 0, 48, 40).save("all.png")
    ran = edit("photo.png", "--mask", "all.png", out="all-out.png")
    assert ran.code == 0
    assert "whole photo" in ran.err
    white(20, 20, 21, 21).convert("RGB").save("pixel.png")
    assert edit("photo.png", "--mask", "pixel.png", out="pixel-out.png").code == 0
    soft = white(10, 10, 30, 30).resize((12, 10), Image.Resampling.BOX).resize(SIZE, Image.Resampling.BILINEAR)
    soft.save("soft.png")
    assert edit("photo.png", "--mask", "soft.png", "--mask-read", "opacity", out="soft-out.png").code == 0
    refused(edit("photo.png", "--mask", "soft.png", "--mask-read", "alpha"), 2, "alpha")
    refused(edit("photo.png", "--mask", "soft.png", "--mask-grow", -40), 2, "left of the mask")
    refused(edit("photo.png"), 2, "--point")
    refused(edit("photo.png", *BOX, "--mask", "soft.png"), 2, "one way")


@pytest.mark.parametrize(
    "pointing",
    ["--point=48,3", "--point=-1,3", "--point=nan,3", "--box=0,0,99,9", "--box=5,5,5,20", "--box=nan,0,9,9"],
)
def test_pointing_outside_names_the_photo(edit: Any, pointing: str) -> None:
    refused(edit("photo.png", pointing), 2, "area" if "5,5,5" in pointing else "48 x 40")


@pytest.mark.parametrize("pointing", ["--point=3", "--point=a,b", "--point=3,3,7", "--box=1,2,3"])
def test_pointing_that_cannot_be_read(edit: Any, pointing: str) -> None:
    refused(edit("photo.png", pointing), 2, pointing.partition("=")[2])


@pytest.mark.parametrize("size", [(47, 33), (1, 60), (60, 1), (1, 1)])
def test_every_size_works(edit: Any, size: tuple[int, int]) -> None:
    picture(size=size).save("odd.png")
    white(0, 0, max(size[0] // 2, 1), max(size[1] // 2, 1), size).save("mask.png")
    ran = edit("odd.png", "--mask", "mask.png")
    assert ran.code == 0, ran.err
    assert Image.open(OUT).size == size


def test_prompts(edit: Any, inlay_command: Any) -> None:
    assert edit("photo.png", *BOX, prompt="", out="empty.png").code == 0
    ran = edit("photo.png", *BOX, prompt="a cat and " * 9 + "a dog", out="long.png")
    assert ran.code == 0
    assert "does not see" in ran.err
    refused(edit("photo.png", *BOX, "--words", "catt"), 2, "'catt'", "Did you mean 'cat'")
    refused(inlay_command("edit", "photo.png", *BOX, "-o", OUT), 2, "--prompt")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--strength=2", "strength"),
        ("--steps=0", "steps"),
        ("--seed=-1", "seed"),
        ("--seed=9999999999999999999", "seed"),
        ("--num-images=0", "num_images"),
        ("--guidance-scale=nan", "guidance_scale"),
        ("--scheduler=pndm", "discards"),
        ("--scheduler=dim", "ddim"),
        ("--composite=glue", "composite"),
        ("--method=zst", "zest"),
        ("--method=zest:strenth=1", "strength"),
        ("--method=zest:fraction", "no value"),
        ("--segmenter=magic", "grabcut"),
        ("--words=", "words"),
        ("--prompt=\udcff", "UTF-8"),
        ("--negative-prompt=a \udcff", "UTF-8"),
        ("--source-prompt=\udcff", "UTF-8"),
    ],
)
def test_settings_that_cannot_be(edit: Any, option: str, said: str) -> None:
    refused(edit("photo.png", *BOX, option), 4 if "segmenter" in option else 2, said)


def test_outputs_are_checked_before_the_work(edit: Any, folder: Path) -> None:
    before = Path("photo.png").read_bytes()
    for out, code in (("photo.png", 2), ("out.bmp", 2), (str(folder), 2), ("photo.png/out.png", 1)):
        refused(edit("missing.png", *BOX, out=out), code, out)
    assert Path("photo.png").read_bytes() == before
    assert edit("photo.png", *BOX, out="deep/er/out.png").code == 0
    assert edit("photo.png", *BOX, "--overwrite", out="photo.png").code == 0
    assert Path("photo.png").read_bytes() != before
    Path("many-2.png").write_bytes(b"mine")
    refused(edit("missing.png", *BOX, "-n", 2, out="many.png"), 2, "many-2.png")


def test_formats_that_hold_too_few_pixels_are_refused_before_the_work(
    edit: Any, inlay_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inlay.jobs.perform.perform", None)
    picture(size=(16_384, 2)).save("wide.png")
    refused(edit("wide.png", "--box", "0,0,9,2", out="out.webp"), 2, "at most 16383 pixels")
    picture(size=(16_000, 2)).save("wide.png")
    refused(inlay_command("extend", "wide.png", "--left", "3%", "-o", "out.webp"), 2, "at most 16383 pixels")


def test_folders_for_attention_are_checked_before_the_work(edit: Any) -> None:
    Path("used").mkdir()
    Path("used/3-steps.png").write_bytes(b"mine")
    more = (*BOX, "--seed", 2, "-n", 2, "--save-attention")
    refused(edit("missing.png", *more, "used"), 2, "used/3-steps.png exists")
    refused(edit("missing.png", *more, "photo.png"), 2, "photo.png is a file: name a folder")
    refused(edit("missing.png", *more, "photo.png/words"), 1, "photo.png/words cannot be written")
    assert edit("photo.png", *BOX, "--seed", 4, "--save-attention", "used", out="other-seed.png").code == 0
    assert edit("photo.png", *more, "used", "--overwrite", out="over.png").code == 0
    assert Path("used/3-steps.png").read_bytes() != b"mine"


def test_attention_of_no_words_is_refused(inlay_command: Any, model_folder: Any) -> None:
    nothing = inlay_command(
        "remove", "photo.png", *BOX, "-o", "o.png", "--save-attention", "w", "-m", model_folder("sd1")
    )
    refused(nothing, 2, "no words whose attention")
    assert not Path("w").exists()
    assert not Path("o.png").exists()


def test_standard_output_takes_no_candidates(inlay_command: Any) -> None:
    refused(inlay_command("mask", "photo.png", *BOX, "--candidates", "-o", "-"), 2, "Standard output takes one mask")


def test_a_full_disk_leaves_no_half_file(edit: Any, folder: Path) -> None:
    assert edit("photo.png", *BOX, out="warm.png").code == 0  # whatever is cached on disk is cached now
    before = sorted(folder.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        ran = edit("photo.png", *BOX)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ran.code == 1, ran.err
    assert "cannot be written" in ran.err
    assert sorted(folder.iterdir()) == before


def test_models_that_are_not_there(inlay_command: Any, folder: Path) -> None:
    Path("old.ckpt").write_bytes(b"x")
    Path("broken.safetensors").write_bytes(b"not safetensors at all")
    Path("bare").mkdir()
    for model in ("gone/model/folder", "owner/name", "old.ckpt", "broken.safetensors", "bare"):
        refused(inlay_command("edit", "photo.png", *BOX, "-p", "x", "-m", model, "--offline", "-o", OUT), 4, model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_not_there(edit: Any) -> None:
    refused(edit("photo.png", *BOX, "--device", "cuda"), 2, "cuda", "--device cpu")


def test_segmentation_weights_whose_hash_differs(edit: Any, inlay_command: Any, tmp_path: Path) -> None:
    from inlay.weights.catalogue import known_model

    for file in known_model("sam").files:
        file_path = known_model("sam").folder / file.name
        file_path.parent.mkdir(parents=True, exist_ok=True)
        file_path.write_bytes(b"something else")
    refused(edit("photo.png", *BOX, "--segmenter", "sam"), 4, "corrupt", "inlay models download")
    ran = inlay_command("models", "verify", "sam")
    assert ran.code == 4
    assert "encoder.onnx: corrupt" in ran.out
    assert "inlay models download" in ran.err


def test_broken_weights_never_make_a_picture(inlay_command: Any, model_folder: Any, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model_folder("sd1"), "broken")
    (weights,) = Path("broken/unet").glob("*.safetensors")
    save_file({name: value * torch.nan for name, value in load_file(weights).items()}, weights)
    refused(
        inlay_command("edit", "photo.png", *BOX, "-p", "x", "-m", "broken", "--steps", 1, "-o", OUT),
        1,
        "NaN",
        "weights",
    )


def test_memory_that_runs_out(edit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from inlay.diffusion.model import Model

    decode, most = Model.decode, 1

    def decode_few(model: Model, latents: torch.Tensor) -> torch.Tensor:
        if len(latents) > most:
            raise torch.OutOfMemoryError("out of memory")
        return decode(model, latents)

    monkeypatch.setattr(Model, "decode", decode_few)
    ran = edit("photo.png", *BOX, "-n", 2, "--json", out="two.png")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[0])["settings"]["facts"]["fallbacks"] == ["batches of 1"]
    most = 0
    refused(edit("photo.png", *BOX), 5, "Memory ran out")


@pytest.mark.parametrize("content", [b"root:x:0:0:root\n", b"", b"PK\3\4", b"q\0", b"\x80\2}q\1."])
def test_a_segmenter_that_is_no_checkpoint(edit: Any, content: bytes) -> None:
    Path("weights.pth").write_bytes(content)
    refused(edit("photo.png", *BOX, "--segmenter", "weights.pth"), 4, "weights.pth")
    refused(edit("photo.png", *BOX, "--segmenter", "/dev/null"), 4, "/dev/null is a pipe or a device")


def test_results_without_settings(inlay_command: Any) -> None:
    refused(inlay_command("edit", "--from", "photo.png", "-o", OUT), 2, "photo.png", "settings")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_work_leaves_nothing(edit: Any, folder: Path, number: signal.Signals, code: int) -> None:
    assert edit("photo.png", *BOX, out="warm.png").code == 0
    before = sorted(folder.iterdir())
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    kept = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        ran = edit("photo.png", *BOX, "--steps", 999)  # many seconds of work
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)
        signal.signal(signal.SIGINT, interrupt)
    assert ran.code == code
    assert sorted(folder.iterdir()) == before


def test_unexpected_errors_and_memory_are_told_apart() -> None:
    from inlay.cli import explained

    assert explained(MemoryError()) == 5
    assert explained(RuntimeError("CUDA out of memory")) == 5
    assert explained(ValueError("a bug")) == 1
