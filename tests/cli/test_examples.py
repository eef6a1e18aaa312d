"""The examples run as they stand, on a tiny model and few steps."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import inlay
import pytest
from inlay.tests.jobs.conftest import Here

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("photos", "rocket.png"),
        ("replace", "replaced.png"),
        ("add", "added.png"),
        ("candidates", "candidates.png"),
        ("generate", "generated.png"),
        ("explain", "words/0-frog.png"),
        ("batch", "retouched/rocket.png"),
    ],
)
def test_scripts(name: str, made: str, model_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", str(model_folder("sd1")), "1"])
    monkeypatch.setattr("inlay.jobs.batch.Processes", Here)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert (tmp_path / made).is_file()


@pytest.mark.parametrize("name", ["replace", "add", "batch", "candidates", "generate"])
def test_shell_scripts_parse_and_say_what_the_scripts_do(name: str) -> None:
    assert subprocess.run(["sh", "-n", str(EXAMPLES / f"{name}.sh")]).returncode == 0
    assert os.access(EXAMPLES / f"{name}.sh", os.X_OK)
    assert (EXAMPLES / f"{name}.py").is_file()


@pytest.mark.parametrize("name", ["retouch.jsonl", "retouch.csv"])
def test_every_row_of_the_manifests_can_be_done(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "photos.py"), run_name="__main__")
    (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    assert {one.state for one in inlay.batch(tmp_path / name, tmp_path / "out", dry_run=True)} == {"planned"}
