"""The command line answers at once, and its exit codes reach the shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from inlay.cli import main; main()"
"""The command line where PyTorch cannot be imported: whatever it says, it says before it would be."""
HEAVY = ("torch", "numpy", "PIL", "rich", "jaxtyping", "diffusers", "transformers")


def inlay(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from inlay.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = f"import sys, inlay.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_help_and_version_are_quick(tmp_path: Path) -> None:
    seconds = []
    for arguments in (["--help"], ["--version"], ["edit", "--help"]):
        before = os.times()
        ran = inlay(*arguments, folder=tmp_path)
        after = os.times()
        assert ran.returncode == 0
        seconds.append(after.children_user - before.children_user)
    assert min(seconds) < 0.5  # the processor's time: other work on the machine does not count


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    ran = inlay("edit", "photo.png", folder=tmp_path)
    assert ran.returncode == 2
    assert "--output" in ran.stderr
    assert inlay("no-such-command", folder=tmp_path).returncode == 2


def test_a_missing_photo_exits_with_1_in_one_sentence(tmp_path: Path) -> None:
    ran = inlay("edit", "gone.png", "--point", "1,1", "-p", "a cat", "-o", "out.png", folder=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.strip() == "inlay: gone.png does not exist: check its name"
    assert ran.stdout == ""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (48, 40), "grey").save(tmp_path / "photo.png")
    Image.new("L", (30, 20), 255).save(tmp_path / "small.png")
    (tmp_path / "old.png").write_bytes(b"mine")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--box 5,5,20,20 -o old.png", "old.png exists"),
        ("--box 5,5,20,20 -o new.bmp", "must end in one of"),
        ("--box 5,5,20,20 -o new.png --quality 80", "PNG keeps every pixel and has no quality"),
        ("--box 5,5,20,20 -o new.jpg --quality 101", "quality"),
        ("--box 5,5,90,20 -o new.png", "leaves the photo, which is 48 x 40"),
        ("--mask small.png -o new.png", "30 x 20 pixels and the photo 48 x 40"),
        ("-o new.png", "Nothing is pointed at"),
        ("--box 5,5,20,20 -o new.png --scheduler dim", "no scheduler 'dim'; choose one of ddim"),
        ("--box 5,5,20,20 -o new.png --method zets", "no method 'zets'; did you mean zest"),
        ("--box 5,5,20,20 -n 2 -o -", "Standard output takes one picture"),
        ("--box 5,5,20,20 --json -o -", "Standard output takes the picture or its record"),
    ],
)
def test_what_needs_no_model_is_refused_before_pytorch(photo: Path, arguments: str, said: str) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "edit", "photo.png", "-p", "a cat", *arguments.split()]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=photo)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("how", [["-p", "a zebra"], ["--layout", "layout.json"]])
def test_words_that_toybox_never_saw_are_said_before_pytorch(photo: Path, how: list[str]) -> None:
    (photo / "layout.json").write_text('{"prompt": "a zebra", "regions": [{"words": "zebra", "box": [0, 0, 1, 1]}]}')
    command = [sys.executable, "-c", WITHOUT_TORCH, "generate", *how, "-o", "new.png"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=photo)
    said, end = ran.stderr.strip().splitlines()
    assert said.startswith("inlay: toybox has never seen zebra; it knows apple,")
    assert "torch" in end


def test_every_option_says_what_it_is_for() -> None:
    from inlay.cli import app

    commands = [typer.main.get_command(app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
    said = {(of.name, one.name): one.get_help_record(typer.Context(of)) for of in commands for one in of.params}
    assert not [name for name, (_, meaning) in said.items() if not meaning or meaning.startswith("None")]
