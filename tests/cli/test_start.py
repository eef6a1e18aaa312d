"""The command line answers at once, and its exit codes reach the shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
