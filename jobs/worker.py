"""One worker of a batch: holds a model, does rows, and says what became of them.

While the loop runs, the photos of the rows to come are read and the last results are written.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import torch

from ..editing.editor import Editor
from ..editing.guided import guidance_of
from ..editing.job import Method, Setup
from ..errors import InlayError, ModelError
from ..weights.adapters import Adapters
from ..weights.device import pick_device
from ..weights.diffusion import fingerprint
from .keys import key_of
from .ledger import sha256_of
from .outputs import Outputs
from .perform import Performed, Prepared, editor_for, prepare, weights_of
from .report import save_thumbnail
from .rows import Outcome, Row, sayable

MadeOf = tuple[str, Adapters]
"""A model, and what is loaded onto it."""

TOGETHER = {"cuda": 8, "mps": 4}
"""Rows that go through the loop together on a GPU; memory that does not hold them halves them. On a CPU it is one at a
time, and a picture is byte for byte that of `inlay edit`."""

PATIENCE = 0.05
"""The share of the loop's time that a worker waits for its results to be written before it goes on."""


@dataclass
class Worker:
    """Does rows. Whoever holds one asks it one thing at a time."""

    setup: Setup
    output: Path

    def __post_init__(self) -> None:
        self.reader, self.writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self.reading: dict[str, Future[Read]] = {}
        self.writing: list[Future[Outcome]] = []
        self.broken: dict[MadeOf, InlayError] = {}

    def answer(self, what: str, *arguments: Any) -> Any:
        """What a method gives, or the error that it raises on purpose."""
        try:
            return getattr(self, what)(*arguments)
        except InlayError as error:
            return error

    def ready(self) -> tuple[int, int]:
        """How many devices there are to have a worker each, and how many rows go through the loop at once.

        Raises:
            UsageError: no such device.
        """
        device = pick_device(self.setup.device)
        return torch.cuda.device_count() if device.type == "cuda" else 1, TOGETHER.get(device.type, 1)

    def look(
        self, models: Sequence[MadeOf], methods: Sequence[tuple[Method, ...]]
    ) -> tuple[dict[MadeOf, str], dict[MadeOf, str], list[str | None]]:
        """Before any model loads: the fingerprint of each model's weights and of what is loaded onto it, or why they
        cannot be had; and what is wrong with each choice of methods."""
        marks, missing = dict[MadeOf, str](), dict[MadeOf, str]()
        for made_of in models:
            try:
                path, found = weights_of(*made_of, self.setup)
                marks[made_of] = fingerprint(path) + found.mark
            except InlayError as error:
                missing[made_of] = str(error)
        return marks, missing, [refusal(chosen) for chosen in methods]

    def run(self, lot: Sequence[Row], ahead: Sequence[Row]) -> list[Outcome]:
        """Paint `lot`, reading `ahead` meanwhile; what became of rows whose results have been written since the last
        call. An empty lot waits for all of them."""
        reads = [self.reading.get(row.id) or self.reader.submit(self.read, row) for row in lot]
        self.reading = {row.id: self.reader.submit(self.read, row) for row in ahead}
        older, ended, ready = self.writing, list[Outcome](), list[tuple[Row, Read]]()
        self.writing, start = [], monotonic()
        for row, read in zip(lot, reads, strict=True):
            try:
                ready.append((row, read.result()))
            except Exception as error:
                ended.append(failed(row, error, row.key()))
        ended += self.painted(ready)
        wait(older)
        # what is quickly written is told at once; what is not goes on beside the next rows
        wait(self.writing, timeout=PATIENCE * (monotonic() - start) if lot else None)
        done = [write for write in [*older, *self.writing] if write.done()]
        self.writing = [write for write in self.writing if write not in done]
        return [*ended, *(write.result() for write in done)]

    def read(self, row: Row) -> Read:
        assert row.job is not None
        key = key_of(row.job, row.weights)
        return Read(key, prepare(row.job, self.setup))

    def painted(self, ready: Sequence[tuple[Row, Read]]) -> list[Outcome]:
        """Lead rows through the loop together, those of a batch that fails by themselves, and hand the results to the
        writer. What became of those that failed."""
        if not ready:
            return []
        start = monotonic()
        try:
            editor = self.editor(ready[0][1].prepared.job.made_of)
            results = editor.run_many([read.prepared.work for _, read in ready])
        except Exception as error:
            if len(ready) == 1:
                row, read = ready[0]
                return [failed(row, error, read.key, monotonic() - start)]
            return [outcome for one in ready for outcome in self.painted([one])]
        seconds = (monotonic() - start) / len(ready)
        for (row, read), result in zip(ready, results, strict=True):
            self.writing.append(
                self.writer.submit(written, self.output, row, read.key, read.prepared.performed(result), seconds)
            )
        return []

    def editor(self, made_of: MadeOf) -> Editor:
        """The loaded model; one that could not be loaded is not tried again."""
        if made_of in self.broken:
            raise self.broken[made_of]
        try:
            model, adapters = made_of
            return editor_for(model, self.setup, adapters)
        except ModelError as error:
            self.broken[made_of] = error
            raise


@dataclass(frozen=True)
class Read:
    """A row whose files are read, and its key."""

    key: str
    prepared: Prepared


def written(output: Path, row: Row, key: str, performed: Performed, seconds: float) -> Outcome:
    """Write a row's pictures, and what the report shows of it."""
    start = monotonic()
    assert row.output is not None
    assert row.job is not None
    try:
        outputs = Outputs(output / row.output, row.job, overwrite=True)
        saved = outputs.save(performed)
        best = performed.result.best.pixels
        save_thumbnail(output, row.id, performed.photo.pixels if performed.photo else None, best)
        hashes = {str(path): sha256_of(output / path) or "" for path in row.outputs}
    except Exception as error:
        return failed(row, error, key, seconds + monotonic() - start)
    notes = dict.fromkeys([*performed.notes, *(note for one in saved for note in one.warnings)])
    facts = saved[0].settings.facts.model_dump(mode="json", exclude_defaults=True)
    return Outcome(row.id, "done", row.where, key, hashes, seconds + monotonic() - start, facts, notes=tuple(notes))


def failed(row: Row, error: Exception, key: str = "", seconds: float = 0.0) -> Outcome:
    """A row that failed, in a sentence; or a disk that is full, of which no row is to blame."""
    cause = error.__cause__ or error
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    said = str(error) if isinstance(error, InlayError) else f"unexpected {type(error).__name__}: {error}"
    return Outcome(row.id, "stopped" if full else "failed", row.where, key, seconds=seconds, error=sayable(said))


def refusal(methods: tuple[Method, ...]) -> str | None:
    """What is wrong with a choice of methods."""
    try:
        guidance_of(methods)
    except InlayError as error:
        return str(error)
    return None


def serve(handle: int) -> None:
    """Answer what the driver asks through a pipe, until it hangs up. Signals are the driver's to answer."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Thread(target=leave_with, args=(os.getppid(),), daemon=True).start()
    driver: Any = Connection(handle)
    worker = Worker(*driver.recv())
    while True:
        try:
            name, arguments = driver.recv()
        except EOFError:
            return
        driver.send(worker.answer(name, *arguments))


def leave_with(parent: int) -> None:
    """End this process when its parent has ended, whatever it is doing."""
    while os.getppid() == parent:
        sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
