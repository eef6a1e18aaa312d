"""Folders of photos and masks, and a batch whose workers live in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


class Folder:
    """A folder with photos `a.png`, `b.jpg`, `sub/a.png`, a mask `m.png` of their size, and a model."""

    def __init__(self, path: Path, model: Path) -> None:
        self.path, self.out = path, path / "out"
        self.common = {"mask": "m.png", "prompt": "a cat", "steps": 1, "model": str(model)}
        for number, name in enumerate(("a.png", "b.jpg", "sub/a.png")):
            self.picture(name, seed=number)
        mask = np.zeros((40, 48), np.uint8)
        mask[8:32, 8:32] = 255
        Image.fromarray(mask).save(path / "m.png")

    def picture(self, name: str, seed: int = 0, size: tuple[int, int] = (40, 48)) -> Path:
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    def manifest(self, *rows: dict[str, Any] | str, name: str = "rows.jsonl") -> Path:
        lines = (row if isinstance(row, str) else json.dumps(self.common | row) for row in rows)
        path = self.path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def ledger(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "ledger.jsonl").read_text().splitlines()]

    def written(self) -> set[str]:
        return {str(path.relative_to(self.out)) for path in self.out.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path, model_folder: Any) -> Folder:
    return Folder(tmp_path, model_folder("sd1"))


class Here:
    """Workers in this process. A row whose prompt says so ends the worker that it is given to."""

    def __init__(self, setup: Any, output: Path, count: int | None) -> None:
        from inlay.jobs.worker import Worker

        self.make = lambda: Worker(setup, output)
        self.size, self.together = count or 1, Here.lot
        self.workers = [self.make() for _ in range(self.size)]
        self.waiting: list[tuple[int, str, tuple[Any, ...]]] = []
        self.open = True

    lot = 1
    lots: list[list[str]] = []  # noqa: RUF012 - each test's own, by the fixture

    def ask(self, worker: int, what: str, *arguments: Any) -> None:
        self.waiting.append((worker, what, arguments))

    def answers(self) -> list[tuple[int, Any]]:
        from inlay.jobs.crew import Died

        worker, what, arguments = self.waiting.pop(0)
        if what == "run":
            Here.lots.append([row.id for row in arguments[0]])
            if any("deadly" in row.job.prompt for row in arguments[0]):
                self.workers[worker] = self.make()
                return [(worker, Died("its process was ended by SIGKILL"))]
        return [(worker, self.workers[worker].answer(what, *arguments))]

    def close(self) -> None:
        self.open = False


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    """Batches of this test do without processes."""
    monkeypatch.setattr("inlay.jobs.batch.Processes", Here)
    monkeypatch.setattr(Here, "lots", [])
    monkeypatch.setattr(Here, "lot", 1)
    return Here
