"""The ledger survives what happens at night."""

import json
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest
from inlay.errors import BatchError, UsageError
from inlay.jobs.ledger import merge, opened, past


def test_a_torn_last_line_is_taken_off(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with opened(path) as ledger:
        ledger.append({"id": "a", "state": "done", "outputs": {"a.png": "1"}}, {"id": "b", "state": "started"})
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[1]) + 1):
        path.write_bytes(whole[:-cut])
        with opened(path) as ledger:
            assert list(ledger.rows) == ["a"]
            ledger.append({"id": "c", "state": "failed", "error": "x"})
        assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "c"]
    path.write_bytes(b'{"id": "a", "st')
    with opened(path) as ledger:
        assert ledger.rows == {}


def test_one_run_at_a_time_and_a_crash_leaves_no_lock(tmp_path):
    path = tmp_path / "ledger.jsonl"
    code = "import sys, os; from inlay.jobs.ledger import opened; from pathlib import Path\n"
    code += "with opened(Path(sys.argv[1])): print('has it', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"has it\n"
        with pytest.raises(UsageError, match="Another run"), opened(path):
            pass
        other.kill()
    with opened(path) as ledger:
        assert ledger.rows == {}


def test_what_lines_say_of_a_row():
    done = {"id": "a", "state": "done", "key": "k", "outputs": {"a.png": "1"}}
    assert past([{"id": "a", "state": "started"}])["a"].interrupted
    assert not past([{"id": "a", "state": "started"}, done])["a"].interrupted
    assert not past([{"id": "a", "state": "started"}, {"id": "a", "state": "skipped"}])["a"].interrupted
    failed = past([done, {"id": "a", "state": "failed", "error": "x"}])["a"]
    assert (failed.state, failed.outputs) == ("failed", {"a.png": "1"})
    twice = past([done, {"id": "a", "state": "done", "outputs": {"a-1.png": "2"}}])["a"]
    assert (twice.outputs, twice.written) == ({"a-1.png": "2"}, {"a.png": "1", "a-1.png": "2"})
    found = past([done, {"id": "a", "state": "failed"}, {"id": "a", "state": "skipped", "key": "k"}])["a"]
    assert found.state == "done"


@contextmanager
def files_of_at_most(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses_leaves_whole_lines(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with opened(path) as ledger:
        ledger.append({"id": "a", "state": "started"})
        with files_of_at_most(path.stat().st_size + 20), pytest.raises(BatchError, match="cannot be written"):
            ledger.append({"id": "b", "state": "started"})
        ledger.append({"id": "c", "state": "started"})
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "c"]


def test_merging_says_nothing_twice(tmp_path):
    parts = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path, id in zip(parts, "ab", strict=True):
        with opened(path) as ledger:
            ledger.append({"id": id, "state": "done"})
    for _ in range(2):
        with opened(tmp_path / "ledger.jsonl") as ledger:
            merge(parts, ledger)
            assert sorted(ledger.rows) == ["a", "b"]
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 2
