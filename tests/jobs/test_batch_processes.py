"""Batches with processes of their own: killed from outside, by a row, by a signal; on a full disk; on a cluster."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from inlay.editing.job import EditJob
from inlay.errors import UsageError
from inlay.jobs.batch import batch
from inlay.jobs.perform import perform
from inlay.photos.photo import Photo

COMMAND = [sys.executable, "-c", "from inlay.cli import main; main()", "batch"]


def start(folder, *options):
    command = [*COMMAND, str(folder.path / "rows.jsonl"), "-o", str(folder.out), "--device", "cpu", *options]
    return subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in background jobs
    )


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def ledger_has(folder, state, count=1):
    path = folder.out / "ledger.jsonl"
    return path.exists() and path.read_text().count(f'"state": "{state}"') >= count


@pytest.mark.parametrize(
    ("rows", "kills"), [(3, 1), pytest.param(40, 25, marks=pytest.mark.slow)], ids=["quick", "40 rows, 25 kills"]
)
def test_killed_at_random_moments_it_ends_as_if_nothing_had_been(folder, rows, kills):
    model = {} if rows < 40 else {"model": "toybox", "prompt": "an apple on grass", "steps": 3}
    asked = [{"photo": "a.png", "id": f"r{k}", "seed": k, **model} for k in range(rows)]
    folder.manifest(*asked)
    chance = random.Random(0)
    for kill in range(kills):
        before = (folder.out / "ledger.jsonl").stat().st_size if kill else 0
        run = start(folder)
        ledger = folder.out / "ledger.jsonl"
        wait_for(lambda: run.poll() is not None or (ledger.exists() and ledger.stat().st_size > before))  # noqa: B023
        time.sleep(chance.random() * (3 if rows == 40 else 0.5))
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    out, err = start(folder).communicate()
    assert err == "" or "Traceback" not in err
    assert sorted(out.split()) == sorted(str(folder.out / f"r{k}.png") for k in range(rows))
    pictures = {name for name in folder.written() if not name.startswith("report")}
    assert pictures == {"ledger.jsonl", *(f"r{k}.png" for k in range(rows))}
    hashes = defaultdict(set)
    for line in folder.ledger():
        assert line["state"] != "failed"
        if line["state"] == "done":
            hashes[line["id"]].update(line["outputs"].values())
    assert {id: len(found) for id, found in hashes.items()} == {f"r{k}": 1 for k in range(rows)}
    for k, row in enumerate(asked[:: max(1, rows // 8)]):
        fields = folder.common | {name: value for name, value in row.items() if name != "id"}
        paths = {"photo": str(folder.path / "a.png"), "mask": str(folder.path / "m.png")}
        alone = perform(EditJob(**fields | paths)).result.best
        assert (Photo.open(folder.out / f"{row['id']}.png").pixels == alone.pixels).all(), k


def workers_of(run):
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = status.read_text().partition(" (")
            if int(rest.rpartition(") ")[2].split()[1]) == run.pid:
                found.append(int(pid))
        except (OSError, ValueError):
            continue
    return found


def test_a_row_that_kills_its_worker_twice_is_named_and_the_rest_is_done(folder):
    folder.manifest({"photo": "a.png", "id": "r0"}, {"photo": "a.png", "id": "bad", "seed": 1, "steps": 900})
    run = start(folder, "--json")
    for kill in (1, 2):  # r0 is started once, bad twice
        wait_for(lambda: ledger_has(folder, "started", 1 + kill))  # noqa: B023
        time.sleep(0.3)
        for pid in workers_of(run):
            os.kill(pid, signal.SIGKILL)
    out, err = run.communicate()
    outcomes = {one["id"]: one for one in map(json.loads, out.splitlines())}
    assert {id: one["state"] for id, one in outcomes.items()} == {"r0": "done", "bad": "failed"}
    assert "ended by SIGKILL" in outcomes["bad"]["error"]
    assert run.returncode == 3
    assert "1 of 2 rows failed" in err


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_puts_off_what_was_started(folder, sent, code):
    folder.manifest(*({"photo": "a.png", "id": f"r{k}", "steps": 900} for k in range(2)))
    run = start(folder)
    wait_for(lambda: ledger_has(folder, "started"))
    os.killpg(run.pid, sent)
    _, err = run.communicate()
    assert run.returncode == code
    assert "Traceback" not in err
    assert "Broken off after no row; the same command goes on from there." in err
    assert [line["state"] for line in folder.ledger()][-1] == "skipped"
    assert {name for name in folder.written() if name.endswith((".png", ".part"))} == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_full_stops_the_batch_whole(folder):
    folder.out.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=48k", "none", str(folder.out)]
    if subprocess.run(small, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        folder.manifest(*({"photo": "a.png", "id": f"r{k}", "seed": k} for k in range(12)))
        run = start(folder)
        _, err = run.communicate()
        assert run.returncode == 3
        assert "No space left" in err
        assert not [name for name in folder.written() if name.endswith(".part")]
        lines = folder.ledger()
        assert not [line for line in lines if line["state"] == "failed"]
        done = {line["id"] for line in lines if line["state"] == "done"}
        assert 0 < len(done) < 12
        subprocess.run(["mount", "-o", "remount,size=9m", str(folder.out)], check=True)
        again = start(folder)
        again.communicate()
        assert again.returncode == 0
        assert {f"r{k}.png" for k in range(12)} <= folder.written()
    finally:
        subprocess.run(["umount", str(folder.out)], check=True)


@pytest.mark.slow
def test_a_local_ray_cluster_does_the_same_and_names_a_row_that_kills_its_worker(folder, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    rows = [{"photo": "a.png", "id": f"r{k}", "seed": k} for k in range(4)]
    path = folder.manifest(*rows)
    done = {one.id: one for one in batch(path, folder.out, engine="ray", workers=2, device="cpu")}
    assert {id: one.state for id, one in done.items()} == {f"r{k}": "done" for k in range(4)}
    here = {one.id: one for one in batch(path, folder.path / "here", device="cpu")}
    assert {id: one.outputs for id, one in here.items()} == {id: one.outputs for id, one in done.items()}
    deadly = folder.manifest(*rows, {"photo": "a.png", "id": "bad", "steps": 100_000})
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(folder.out / "ledger.jsonl")])
    try:
        ends = {one.id: one for one in batch(deadly, folder.out, engine="ray", workers=2, device="cpu")}
    finally:
        killer.kill()
    assert {id: one.state for id, one in ends.items()} == {"bad": "failed"} | {f"r{k}": "skipped" for k in range(4)}
    assert "actor died" in ends["bad"].error
    with pytest.raises(UsageError, match="processors for 1000 workers"):
        list(batch(path, folder.path / "many", engine="ray", workers=1000, device="cpu"))


KILLER = """
import os, signal, sys, time
from pathlib import Path
seen = 0
while True:
    started = Path(sys.argv[1]).read_text().count('"id": "bad", "state": "started"')
    if started > seen:
        seen = started
        time.sleep(1)
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if status.read_bytes().startswith(b"ray::Actor"):
                    os.kill(int(status.parent.name), signal.SIGKILL)
            except (OSError, ValueError):
                pass
    time.sleep(0.2)
"""
