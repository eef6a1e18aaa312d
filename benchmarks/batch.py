"""Rows a minute: a batch, a process of `inlay edit` for each row, and a loop over `Editor.edit` in one process.

python benchmarks/batch.py                             24 rows of toybox on the CPU, all three ways in one run
python benchmarks/batch.py --device cuda --rows 64     the same, and eight guided edits together against one by one
python benchmarks/batch.py --check 10000               time and memory of checking so many rows
python benchmarks/batch.py --memory 300                a worker's memory after 30 rows and after so many
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from inlay.jobs.batch import batch
from PIL import Image


def rows_of(folder: Path, count: int, asked: dict[str, Any]) -> Path:
    """A manifest of edits of eight photos, each row with a seed of its own."""
    rng = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (192, 256, 3), np.uint8)).save(folder / f"{number}.png")
    mask = np.zeros((192, 256), np.uint8)
    mask[48:144, 64:160] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    rows = [
        {"id": f"r{k}", "photo": f"{k % 8}.png", "mask": "mask.png", "prompt": "an apple on grass", "seed": k, **asked}
        for k in range(count)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def by_batch(path: Path, device: str) -> None:
    ends = [one.state for one in batch(path, path.parent / "batch", device=device)]
    assert set(ends) == {"done"}, ends


def by_processes(path: Path, device: str) -> None:
    command = [sys.executable, "-c", "from inlay.cli import main; main()", "edit"]
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        options = [f"--{name}={value}" for name, value in row.items() if name not in ("id", "photo", "mask")]
        files = [str(path.parent / row["photo"]), "--mask", str(path.parent / "mask.png")]
        output = path.parent / "processes" / f"{row['id']}.png"
        subprocess.run([*command, *files, *options, "--device", device, "-q", "-o", str(output)], check=True)


def by_loop(path: Path, device: str) -> None:
    from inlay import Editor, Photo

    editor = Editor.from_pretrained("toybox", device=device)
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        id, photo, prompt = row.pop("id"), Photo.open(path.parent / row.pop("photo")), row.pop("prompt")
        mask = np.asarray(Image.open(path.parent / row.pop("mask")))
        made = editor.edit(photo, mask, prompt, **row)
        made.best.save(path.parent / "loop" / f"{id}.png", settings=made.settings[0].model_dump(mode="json"))


def together(folder: Path, device: str, asked: dict[str, Any], size: int) -> dict[str, float]:
    """Edits a minute through the loop one by one, and `size` at once, in a model that is loaded and warm."""
    from inlay import Editor, Photo
    from inlay.editing.job import EditJob
    from inlay.editing.task import Work

    editor = Editor.from_pretrained("toybox", device=device)
    mask = np.asarray(Image.open(folder / "mask.png")) > 127
    photos = [Photo.open(folder / f"{number}.png") for number in range(8)]
    works = [Work(EditJob(prompt="an apple on grass", seed=k, **asked), photos[k % 8], mask) for k in range(3 * size)]
    found = {}
    for lot in (1, size):
        editor.run_many(works[:lot])
        seconds = timed(lambda lot=lot: [editor.run_many(works[at : at + lot]) for at in range(0, len(works), lot)])
        found[f"{lot} at once"] = 60 * len(works) / seconds
    return found


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def check(folder: Path, count: int) -> None:
    """Time and this process's peak memory of a dry run."""
    path = rows_of(folder, count, {})
    states = [one.state for one in batch(path, folder / "out", dry_run=True)]
    assert states == ["planned"] * count


def memory(folder: Path, count: int, device: str) -> dict[str, float]:
    """MB that the worker's process holds after 30 rows and after `count`."""
    seen = {}
    outcomes = batch(rows_of(folder, count, {"steps": 1}), folder / "out", device=device, workers=1)
    for one in outcomes:
        if one.number in (30, count):
            (worker,) = children()
            seen[f"after {one.number}"] = held(worker) / 1024
    return seen


def children() -> list[int]:
    """The processes that this one started."""
    tasks = Path("/proc/self/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def held(process: int) -> int:
    """Resident kB that are the process's own: pages of files come and go as the system likes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--method", default="masked-attention")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--check", type=int)
    parser.add_argument("--memory", type=int)
    options = parser.parse_args()
    asked = {"steps": options.steps, "method": options.method, "words": "apple"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.check:
            seconds = timed(lambda: check(folder, options.check))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{options.check} rows checked in {seconds:.1f} s, at most {peak:.0f} MB")
        elif options.memory:
            for name, size in memory(folder, options.memory, options.device).items():
                print(f"{name} rows: {size:.1f} MB")
        else:
            path = rows_of(folder, options.rows, asked)
            for way in (by_batch, by_processes, by_loop):
                seconds = timed(lambda way=way: way(path, options.device))
                print(f"{way.__name__:14} {60 * options.rows / seconds:7.1f} rows a minute", flush=True)
            for name, pace in together(folder, options.device, asked, 8).items():
                print(f"{name:14} {pace:7.1f} edits a minute", flush=True)


if __name__ == "__main__":
    main()
