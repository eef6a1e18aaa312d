"""README in its own order: its commands, and its Python, run in an empty folder."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = ("models download", "stable-diffusion-v1-5", "stabilityai", "my-model.safetensors", "./sd15", "inlay ui")
"""What stands in commands that need the network, weights that are not here, or a browser."""


def commands() -> list[list[str]]:
    lines = [line.strip() for line in README.splitlines() if line.startswith("    inlay ")]
    return [shlex.split(line, comments=True)[1:] for line in lines if not any(name in line for name in ELSEWHERE)]


@pytest.mark.slow  # four minutes of one core: pointing with every click of a photo, and twenty pictures
def test_readme_runs_from_top_to_bottom(inlay_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "photos.py"))
    for arguments in commands():
        few = [] if arguments[0] == "mask" else ["--steps", "2"]
        ran = inlay_command(*arguments, *few)
        assert ran.code == 0, f"inlay {shlex.join(arguments)}: {ran.err}"
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "pumpkin.png").is_file()


def test_readmes_commands_are_known_and_write_no_file_twice(inlay_command: Any) -> None:
    written = [arguments[arguments.index("-o") + 1] for arguments in commands() if arguments[0] != "batch"]
    assert len(written) == len(set(written))
    for name in {arguments[0] for arguments in commands()}:
        assert inlay_command(name, "--help").code == 0
