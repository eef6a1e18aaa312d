"""Fixtures that several rooms share.

The checkout is the package `inlay`, so what tests and benchmarks share is imported from it as anything else:
`inlay.tests.tiny`, `inlay.tests.guidance.guided`, `inlay.benchmarks.counting`.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks a hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads only wait for each other


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """kind -> a tiny random `Model` on the CPU in fp32, built once: "sd1", "sd2", "sdxl"."""
    from inlay.diffusion.model import Model
    from inlay.tests import tiny

    made: dict[str, Model] = {}

    def get(kind: str) -> Model:
        if kind not in made:
            made[kind] = Model.assemble(kind, tiny.parts(kind, tmp_path_factory.mktemp(kind)))
        return made[kind]

    return get


@pytest.fixture(scope="session")
def editor(models: Any) -> Any:
    """An `Editor` of the tiny "sd1"."""
    from inlay.editing.editor import Editor

    return Editor(models("sd1"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """kind -> a folder in diffusers layout with a tiny random model."""
    from inlay.tests import tiny

    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tiny.save(kind, tmp_path_factory.mktemp("saved-" + kind))
        return made[kind]

    return get


@pytest.fixture(scope="session")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny random model that finds things by text."""
    from inlay.tests import tiny

    folder = tmp_path_factory.mktemp("clipseg")
    tiny.save_clipseg(folder)
    return str(folder)


@pytest.fixture(scope="session")
def adapter(model_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(what, kind, ...) -> an adapter's file or folder, made once."""
    from inlay.tests import adapters

    made: dict[Any, Path] = {}

    def get(what: str, kind: str = "sd1", **options: Any) -> Path:
        key = (what, kind, *options.items())
        if key not in made:
            to = tmp_path_factory.mktemp(what)
            folder = () if what in ("embedding", "t2i_adapter") else (model_folder(kind),)
            made[key] = getattr(adapters, what)(kind, *folder, to, **options)
        return made[key]

    return get


@dataclass(frozen=True)
class Ran:
    """What the command line answered."""

    code: int
    out: str
    err: str

    @property
    def paths(self) -> list[Path]:
        return [Path(line) for line in self.out.splitlines()]


@pytest.fixture
def inlay_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Runs the command line `inlay` in this process: arguments -> Ran."""
    from inlay import cli

    # masks come from GrabCut, whatever weights this machine has
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path_factory.mktemp("cache")))

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["inlay", *(str(argument) for argument in arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        return Ran(code, *capsys.readouterr())

    before = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, before)
