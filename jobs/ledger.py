"""The ledger of a batch: what became of every row, on disk before the next one ends.

One JSON object a line, appended and flushed to the disk by one writer: `started`, `done`, `failed`, or `skipped` (done
before, or put off). A crash can tear the last line alone, which the next run takes off.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import file_digest
from io import FileIO
from pathlib import Path
from typing import Any

from ..errors import BatchError, UsageError


@dataclass
class Past:
    """What the ledger says of a row."""

    ended: Mapping[str, Any] = field(default_factory=dict)
    """Its last line that says `done` or `failed`; once it is found done again, the one that says so."""
    done: Mapping[str, Any] = field(default_factory=dict)
    """Its last line that says `done`."""
    written: dict[str, str] = field(default_factory=dict)
    """All pictures that were ever made of its last photo: names in the folder, and the SHA-256 of the last of each."""
    interrupted: bool = False
    """Whether it was started and never ended: it may have taken the process with it."""

    @property
    def state(self) -> str:
        return str(self.ended.get("state", ""))

    @property
    def outputs(self) -> Mapping[str, str]:
        """Of the last time it was done: names in the folder, and their SHA-256."""
        return self.done.get("outputs") or {}


class Ledger:
    """The ledger at `path`, this process its only writer."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path, self.file = path, file
        self.rows = past(entries(path))

    def append(self, *lines: Mapping[str, Any]) -> None:
        """Add lines, on disk when this returns, or none of them.

        Raises:
            BatchError: the disk refuses.
        """
        if not lines:
            return
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        text = "".join(json.dumps({"time": time, **line}, default=str) + "\n" for line in lines)
        before = self.file.seek(0, os.SEEK_END)
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
            os.fsync(self.file.fileno())
        except OSError as error:
            os.truncate(self.path, before)
            raise BatchError(
                f"{self.path} cannot be written: {error.strerror}; mend that and start the same command again."
            ) from error
        past(lines, self.rows)


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """The ledger, for this process alone until the block ends, however it ends.

    Raises:
        UsageError: another process has it, or the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; name another folder.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"Another run is at work in {path.parent}; wait for it, or name another folder."
            ) from error
        mend(path)
        yield Ledger(path, file)


def mend(path: Path) -> None:
    """Take off a last line that a crash tore."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger that can be read; a row whose line cannot is as if it had not run."""
    try:
        content = path.read_bytes()
    except OSError:
        return
    for line in content.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            yield entry


def past(lines: Iterable[Mapping[str, Any]], rows: dict[str, Past] | None = None) -> dict[str, Past]:
    """What lines say of each row, after what `rows` already hold."""
    rows = {} if rows is None else rows
    for line in lines:
        row = rows.setdefault(line["id"], Past())
        row.interrupted = line.get("state") == "started"
        if line.get("state") == "done":
            if photo_of(line) != photo_of(row.done):
                row.written.clear()
            row.done = line
            row.written |= line.get("outputs") or {}
        if line.get("state") in ("done", "failed"):
            row.ended = line
        if line.get("state") == "skipped" and line.get("key"):
            row.ended = row.done
    return rows


def photo_of(done: Mapping[str, Any]) -> str:
    """The photo of the row that a line says is done; nothing for a row without one."""
    return str(done.get("row", {}).get("photo", ""))


def sha256_of(path: Path) -> str | None:
    """Of a file's bytes; None where there is no file."""
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def merge(ledgers: Iterable[Path], into: Ledger) -> None:
    """Add what other ledgers say, in the order of time; what is there already is not said twice."""
    known = {json.dumps(entry, sort_keys=True) for entry in entries(into.path)}
    new = {json.dumps(entry, sort_keys=True): entry for path in ledgers for entry in entries(path)}
    into.append(
        *sorted((entry for said, entry in new.items() if said not in known), key=lambda one: str(one.get("time")))
    )
