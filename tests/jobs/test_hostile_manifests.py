"""Whatever a manifest says: a sentence, never a traceback; no write outside the folder, no input changed."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inlay.errors import InlayError
from inlay.jobs.batch import batch

FIELDS = [
    "id",
    "output",
    "photo",
    "mask",
    "prompt",
    "seed",
    "steps",
    "strength",
    "box",
    "point",
    "action",
    "num_images",
    "layout",
    "words",
    "size",
    "mask_read",
    "frame",
    "colour",
    "feather",
    "left",
    "error",
    "nonsense",
]
VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 2**70, 1e308, float("nan"), "", " ", "a", "1e3", "1,2", "1,2,3,4", "0,0,10,10", "20%"),
    *(
        "../a.png",
        "/etc/passwd",
        "a.png",
        "sub/../../b.png",
        "out/a.png",
        "ledger.jsonl",
        "report.html",
        "report/a.jpg",
    ),
    *(".", "..", "a\x00b.png", "\ud800", "x" * 5000, "é.PNG", "link/a.png", "rows.jsonl", "-", "~", "\n", "m.png"),
    *([], [1, 2], [[1, 2, 3]], {"a": 1}, ["m.png", "m.png"], [None], [[[[]]]], {"__proto__": 0}),
    *("edit", "remove", "extend", "generate"),
]
VALID = [
    {"id": "r1", "photo": "a.png", "mask": "m.png", "prompt": "a fox", "seed": 3, "output": "sub/a.png"},
    {"photo": "b.jpg", "box": "8,8,30,30", "prompt": "a fox", "num_images": 2},
    {"prompt": "a cat", "size": "32x32", "id": "made"},
]


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """Valid rows with a few values, names or bytes changed."""
    rows = [dict(row) for row in VALID]
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.sampled_from(rows))
        name = draw(st.sampled_from([*FIELDS, *row]))
        if draw(st.booleans()):
            row[name] = draw(st.sampled_from(VALUES) | st.text(max_size=12) | st.integers())
        else:
            row.pop(name, None)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if draw(st.integers(0, 3)) == 0:
        cut = draw(st.integers(0, len(content)))
        content = content[:cut] + draw(st.binary(max_size=6)) + content[cut + draw(st.integers(0, 9)) :]
    return content


def hashes(folder: Path, but: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(but))
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("rows.jsonl", 25),
        ("rows.csv", 25),
        pytest.param("rows.jsonl", 300, marks=pytest.mark.slow),
        pytest.param("rows.csv", 200, marks=pytest.mark.slow),
    ],
)
def test_mutations_of_valid_manifests(folder, here, monkeypatch, name, count):
    monkeypatch.setattr("inlay.jobs.worker.Worker.run", painted_by_nobody)
    folder.out.mkdir()
    (folder.out / "link").symlink_to(folder.path)
    ends = set()

    @settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )
    @given(manifests())
    def check(content: bytes) -> None:
        path = folder.path / name
        path.write_bytes(content if name.endswith("l") else as_csv(content))
        before = hashes(folder.path, but=folder.out)
        try:
            for one in batch(path, folder.out, device="cpu", model=folder.common["model"], overwrite=True):
                ends.add(one.state)
                assert one.state != "failed" or one.error.strip()
                one.error.encode()
                assert all((folder.out / place).resolve().is_relative_to(folder.out) for place in one.outputs)
        except InlayError:
            ends.add("refused")
        assert hashes(folder.path, but=folder.out) == before

    check()
    assert ends >= {"done", "failed"}


def as_csv(content: bytes) -> bytes:
    """The rows as a table; what is no row is a line of its own."""
    import csv
    import io

    text, table = io.StringIO(), random.Random(len(content))
    columns = [*FIELDS[: table.randrange(3, len(FIELDS))]]
    writer = csv.writer(text)
    writer.writerow(columns)
    for line in content.decode("utf-8", "replace").split("\n"):
        try:
            row = json.loads(line)
            writer.writerow([row.get(column, "") for column in columns])
        except (ValueError, AttributeError, csv.Error, UnicodeError):
            text.write(line + "\n")
    return text.getvalue().encode("utf-8", "replace")


def painted_by_nobody(self: Any, lot: Any, ahead: Any) -> list[Any]:
    """The end of each row without a model: its files are read, and a picture is written where its output goes."""
    from inlay.jobs.rows import Outcome
    from inlay.jobs.worker import failed

    ended = []
    for row in lot:
        try:
            read = self.read(row)
            for path in row.outputs:
                (self.output / path).parent.mkdir(parents=True, exist_ok=True)
                (self.output / path).write_bytes(read.key.encode())
            ended.append(Outcome(row.id, "done", row.where, read.key, dict.fromkeys(map(str, row.outputs), "0")))
        except Exception as error:
            ended.append(failed(row, error))
    return ended
