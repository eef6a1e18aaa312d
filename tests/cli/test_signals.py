"""Ctrl-C and SIGTERM stop a running edit: a real process, its exit code, and no partial file.

`test_interrupted_work_leaves_nothing` holds both within one process.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PATIENCE = 300
"""Seconds without a word before a test gives up; a busy machine imports slowly."""


def read_until(word: bytes, terminal: int) -> bytes:
    """What appears on a terminal up to `word`."""
    said = b""
    while word not in said:
        assert select.select([terminal], [], [], PATIENCE)[0], f"nothing more came after {said!r}"
        said += os.read(terminal, 4096)
    return said


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_stops_an_edit_at_its_step(
    number: signal.Signals, code: int, model_folder: Any, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray(np.full((40, 48), 255, np.uint8)).save(tmp_path / "mask.png")
    before = sorted(tmp_path.iterdir())
    command = [sys.executable, "-c", "from inlay.cli import main; main()", "edit", "photo.png", "--mask", "mask.png"]
    command += ["-m", str(model_folder("sd1")), "-p", "a cat", "--steps", "999", "-o", "new/out.png"]
    ours, theirs = os.openpty()  # progress is shown on a terminal alone
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=tmp_path,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in background jobs
    )
    os.close(theirs)
    try:
        read_until(b"/999", ours)
        running.send_signal(number)
        out, _ = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
        os.close(ours)
    assert (running.returncode, out) == (code, b"")
    assert sorted(tmp_path.iterdir()) == before
