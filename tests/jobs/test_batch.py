"""In the end each row is the picture that it asked for, or a sentence that says why not."""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from inlay.editing.job import EditJob
from inlay.errors import BatchError, UsageError
from inlay.jobs.batch import batch, in_shard, merge_ledgers
from inlay.jobs.manifest import read_rows
from inlay.jobs.perform import perform
from inlay.jobs.rows import checked_rows
from inlay.photos.photo import Photo
from PIL import Image

pytestmark = pytest.mark.usefixtures("here")


def run(folder, *rows, **options):
    return {one.id: one for one in batch(folder.manifest(*rows), folder.out, device="cpu", **options)}


def states(outcomes):
    return {id: one.state for id, one in outcomes.items()}


def test_each_picture_is_that_of_an_edit_with_the_rows_settings(folder):
    done = run(folder, {"photo": "a.png", "seed": 3}, {"photo": "b.jpg", "id": "other", "output": "x/y.png"})
    assert states(done) == {"a.png": "done", "other": "done"}
    job = EditJob(
        **folder.common | {"photo": str(folder.path / "a.png"), "mask": str(folder.path / "m.png"), "seed": 3}
    )
    alone = perform(job).result.best
    assert (Photo.open(folder.out / "a.png").pixels == alone.pixels).all()
    assert done["a.png"].outputs == {"a.png": sha256((folder.out / "a.png").read_bytes()).hexdigest()}
    assert {"a.png", "x/y.png", "ledger.jsonl", "report.html"} <= folder.written()
    assert "errors.jsonl" not in folder.written()


def test_what_is_done_is_not_done_again(folder):
    rows = {"photo": "a.png"}, {"photo": "b.jpg", "num_images": 2}
    assert states(run(folder, *rows)) == {"a.png": "done", "b.jpg": "done"}
    before = {name: (folder.out / name).stat().st_mtime_ns for name in ("a.png", "b-1.jpg", "b-2.jpg")}
    assert states(run(folder, *rows)) == {"a.png": "skipped", "b.jpg": "skipped"}
    assert before == {name: (folder.out / name).stat().st_mtime_ns for name in before}


def test_a_photo_replaced_or_a_setting_changed_is_made_anew(folder):
    run(folder, {"photo": "a.png"}, {"photo": "b.jpg"}, {"photo": "sub/a.png"})
    folder.picture("a.png", seed=77)
    changed = run(folder, {"photo": "a.png"}, {"photo": "b.jpg", "seed": 8}, {"photo": "sub/a.png"})
    assert states(changed) == {"a.png": "done", "b.jpg": "done", "sub/a.png": "skipped"}


def test_a_picture_edited_by_hand_is_kept_aside(folder):
    run(folder, {"photo": "a.png"})
    made = (folder.out / "a.png").read_bytes()
    Image.new("RGB", (40, 48), "red").save(folder.out / "a.png")
    edited = (folder.out / "a.png").read_bytes()
    assert states(run(folder, {"photo": "a.png"})) == {"a.png": "done"}
    assert (folder.out / "a.png").read_bytes() == made
    assert (folder.out / "a-edited-1.png").read_bytes() == edited
    (folder.out / "a.png").unlink()
    assert states(run(folder, {"photo": "a.png"})) == {"a.png": "done"}


def test_a_picture_of_another_photo_of_that_name_is_not_replaced(folder):
    def outcomes(photos, **options):
        asked = folder.common | {"mask": folder.path / "m.png", "device": "cpu"} | options
        return {one.id: one for one in batch(photos, folder.out, **asked)}

    for number, name in enumerate(("mon/one.png", "tue/one.png", "tue/two.png")):
        folder.picture(name, seed=number)
    mon, tue = folder.path / "mon", folder.path / "tue"
    assert states(outcomes(mon)) == {"one.png": "done"}
    made = (folder.out / "one.png").read_bytes()
    found = outcomes(tue)
    assert states(found) == {"one.png": "failed", "two.png": "done"}
    assert found["one.png"].error == (
        f"The id one.png was that of {mon}/one.png in an earlier run: name another output folder, or pass --overwrite."
    )
    assert (folder.out / "one.png").read_bytes() == made
    (folder.path / "link").symlink_to(mon)
    shutil.copytree(mon, folder.path / "copy")
    for same in ("tue/../mon", "link", "copy"):
        assert states(outcomes(folder.path / same)) == {"one.png": "skipped"}
    assert states(outcomes(folder.path / "link", seed=1)) == {"one.png": "done"}
    assert states(outcomes(tue, overwrite=True)) == {"one.png": "done", "two.png": "skipped"}
    tue.rename(folder.path / "moved")
    assert states(outcomes(mon)) == {"one.png": "done"}


def test_a_picture_of_another_photo_stays_when_the_number_of_pictures_changes_twice(folder):
    def state(day, number):
        asked = folder.common | {"mask": folder.path / "m.png", "device": "cpu", "num_images": number}
        return [one.state for one in batch(folder.path / day, folder.out, **asked)]

    folder.picture("mon/one.png", seed=0)
    folder.picture("tue/one.png", seed=1)
    assert state("mon", 1) == ["done"]
    made = (folder.out / "one.png").read_bytes()
    assert state("tue", 2) == ["done"]
    with pytest.raises(UsageError, match=r"one\.png exists and is not of this batch"):
        state("tue", 1)
    assert (folder.out / "one.png").read_bytes() == made


def test_an_earlier_picture_that_may_not_be_read_fails_its_row_alone(folder, monkeypatch):
    rows = {"photo": "a.png"}, {"photo": "b.jpg"}
    run(folder, *rows)
    locked, may = folder.out / "a.png", os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and may(path, mode))
    outcomes = run(folder, *rows)
    assert states(outcomes) == {"a.png": "failed", "b.jpg": "skipped"}
    assert "out/a.png may not be read: mend its permissions" in outcomes["a.png"].error


def test_pictures_of_an_earlier_number_are_the_batchs_own(folder):
    for number in (1, 2, 1):
        assert states(run(folder, {"photo": "a.png"}, num_images=number)) == {"a.png": "done"}
    pictures = {"a.png", "a-1.png", "a-2.png"}
    assert {name for name in folder.written() if name.endswith(".png")} == pictures
    Image.new("RGB", (40, 48), "red").save(folder.out / "a-2.png")
    assert states(run(folder, {"photo": "a.png"}, num_images=2)) == {"a.png": "done"}
    assert {name for name in folder.written() if name.endswith(".png")} == {*pictures, "a-2-edited-1.png"}


def test_bad_rows_are_named_and_good_ones_go_on(folder):
    (folder.path / "torn.png").write_bytes((folder.path / "a.png").read_bytes()[:200])
    rows = [{"photo": "none.png"}, {"photo": "torn.png"}, "nonsense", {"photo": "a.png"}]
    outcomes = run(folder, *rows)
    assert [one.state for one in outcomes.values()].count("failed") == 3
    assert outcomes["a.png"].state == "done"
    assert "none.png does not exist" in outcomes["none.png"].error
    errors = [json.loads(line) for line in (folder.out / "errors.jsonl").read_text().splitlines()]
    assert {row["id"] for row in errors} == outcomes.keys() - {"a.png"}
    assert all(row["error"] for row in errors)
    page = (folder.out / "report.html").read_text()
    assert "1 done, 3 failed" in page
    assert "none.png does not exist" in page
    folder.picture("none.png")
    folder.picture("torn.png")
    mended = {one.id: one.state for one in batch(folder.out / "errors.jsonl", folder.out, device="cpu")}
    assert mended == {"none.png": "done", "torn.png": "done", "row-3": "failed"}


def test_a_row_to_mend_keeps_its_output_and_its_photo(folder):
    rows = [
        {"photo": "a.png", "output": "final/one.png", "strength": 1.5},
        {"photo": "b.jpg", "output": "final/two.png", "action": "edti"},
        {"photo": "sub/a.png", "id": ["three"], "output": "final/three.png"},
        {"photo": "a.png", "id": "good"},
    ]
    run(folder, *rows)
    mended = [json.loads(line) | {"strength": 0.5} for line in (folder.out / "errors.jsonl").read_text().splitlines()]
    for row in mended:
        row["action"], row["id"] = "edit", str(row["id"])
    assert [row["output"] for row in mended] == ["final/one.png", "final/two.png", "final/three.png"]
    folder.picture("out/a.png", seed=9)  # what relative names would mean from there
    done = list(batch(folder.manifest(*map(json.dumps, mended), name="out/mended.jsonl"), folder.out, device="cpu"))
    assert [one.state for one in done] == ["done"] * 3
    assert [list(one.outputs) for one in done] == [["final/one.png"], ["final/two.png"], ["final/three.png"]]


def test_rows_to_mend_that_were_not_reached_stay_to_mend(folder):
    run(folder, *({"photo": f"none-{number}.png"} for number in range(3)), {"photo": "a.png"})
    errors = folder.out / "errors.jsonl"
    mended = [json.loads(line) for line in errors.read_text().splitlines()]
    for number, row in enumerate(mended):
        folder.picture(f"none-{number}.png")
        row["id"] = row["output"] = f"new-{number}.png"
    errors.write_text("".join(json.dumps(row) + "\n" for row in mended))
    left = ["new-0.png", "new-1.png", "new-2.png"]
    for _ in range(3):
        (done,) = batch(errors, folder.out, device="cpu", limit=1)
        assert (done.id, done.state) == (left.pop(0), "done")
        stand = errors.read_text().splitlines() if errors.exists() else []
        assert [json.loads(line)["id"] for line in stand] == left


def test_paths_in_rows_are_as_good_as_their_names(folder):
    common = {**folder.common, "mask": folder.path / "m.png"}
    rows = [{"photo": folder.path / "a.png", "id": "one"}, {"photo": Path("sub/a.png")}, {"output": Path("z.png")}]
    found = list(batch([{**common, "action": "remove"} | row for row in rows], folder.out, dry_run=True))
    assert [one.id for one in found] == ["one", "sub/a.png", "z.png"]
    assert list(found[0].outputs) == ["one.png"]
    assert "is no file name" not in found[2].error


@pytest.mark.parametrize("name", ["at 3.04.05\u202fPM.png", "写真\u3000一.png", "fam\u200dily.png"])
def test_names_that_cameras_and_people_give_are_ids(folder, name):
    folder.picture(name)
    (one,) = batch(folder.path / name, folder.out, box="8,8,30,30", prompt="a cat", dry_run=True)
    assert (one.id, one.state, list(one.outputs)) == (name, "planned", [name])


def test_a_row_that_failed_while_it_was_read_is_not_started_again(folder):
    Image.new("L", (48, 40)).save(folder.path / "empty.png")
    row = {"photo": "a.png", "mask": "empty.png"}
    assert states(run(folder, row, {"photo": "b.jpg"})) == {"a.png": "failed", "b.jpg": "done"}
    assert states(run(folder, row, {"photo": "b.jpg"})) == {"a.png": "failed", "b.jpg": "skipped"}
    assert [line["state"] for line in folder.ledger() if line["id"] == "a.png"].count("started") == 1


def test_options_for_rows_that_are_not_there_are_refused(folder):
    with pytest.raises(UsageError, match="No row has use for 'left', which is for extend"):
        run(folder, {"photo": "a.png"}, left=8)
    with pytest.raises(UsageError, match="say --engine ray"):
        run(folder, {"photo": "a.png"}, address="here:1")
    assert states(run(folder, {"photo": "a.png"}, {"photo": "b.jpg", "action": "edti"}, left=8)) == {
        "a.png": "done",
        "b.jpg": "failed",  # it may have been the row to extend
    }


def test_mask_options_of_a_batch_are_for_its_masks_alone(folder):
    layout = {"prompt": "a cat", "regions": [{"words": "cat", "box": [0.2, 0.2, 0.8, 0.8]}]}
    (folder.path / "places.json").write_text(json.dumps(layout))
    rows = [{"photo": "a.png", "mask": "m.png"}, {"photo": "b.jpg", "layout": "places.json"}]
    path = manifest(folder, *rows)
    found = batch(path, folder.out, prompt="a cat", mask_grow=3, dry_run=True, model=folder.common["model"])
    assert [(one.state, one.error) for one in found] == [("planned", "")] * 2


def test_an_empty_shard_is_no_failure(folder):
    empty = next(part for part in (1, 2) if not in_shard("a.png", (part, 2)))
    assert run(folder, {"photo": "a.png"}, shard=(empty, 2)) == {}
    assert run(folder, {"photo": "a.png"}, shard=(empty, 2), dry_run=True) == {}


def test_leaving_between_rows_that_ended_together_leaves_both_done(folder, here, monkeypatch):
    monkeypatch.setattr(here, "lot", 2)
    monkeypatch.setattr("inlay.jobs.worker.PATIENCE", 1e6)  # both are written before either is told
    rows = [{"photo": "a.png", "id": f"r{k}"} for k in range(2)]
    outcomes = batch(folder.manifest(*rows), folder.out, device="cpu")
    assert next(outcomes).state == "done"
    outcomes.close()
    assert {line["id"]: line["state"] for line in folder.ledger()} == {"r0": "done", "r1": "done"}
    assert {"r0.png", "r1.png"} <= folder.written()


def test_strict_does_nothing(folder):
    with pytest.raises(UsageError, match="1 of 2 rows cannot be done"):
        run(folder, {"photo": "none.png"}, {"photo": "a.png"}, strict=True)
    assert "a.png" not in folder.written()


def test_nothing_can_start(folder):
    with pytest.raises(UsageError, match="nothing was started"):
        run(folder, {"photo": "none.png"})
    with pytest.raises(UsageError, match="no rows"):
        run(folder)
    with pytest.raises(UsageError, match="no option 'sped'"):
        run(folder, {"photo": "a.png"}, sped=3)
    failed = list(folder.ledger())
    assert [line["state"] for line in failed] == ["failed"]


def test_models_and_methods_are_looked_at_before_any_row(folder):
    outcomes = run(
        folder,
        {"photo": "a.png", "model": "/no/where"},
        {"photo": "b.jpg", "method": "nonsense"},
        {"photo": "sub/a.png", "scheduler": "pndmm"},
        {"photo": "a.png", "id": "good"},
    )
    assert states(outcomes) == {"a.png": "failed", "b.jpg": "failed", "sub/a.png": "failed", "good": "done"}
    assert "no model at /no/where" in outcomes["a.png"].error
    assert "no method 'nonsense'" in outcomes["b.jpg"].error


def test_rows_that_agree_go_through_the_loop_together(folder, here, monkeypatch):
    monkeypatch.setattr(here, "lot", 4)
    rows = [{"photo": "a.png", "id": f"r{k}", "seed": k, "steps": 1 + (k == 2)} for k in range(4)]
    together = run(folder, *rows)
    assert here.lots[:2] == [["r0", "r1", "r3"], ["r2"]]
    monkeypatch.setattr(here, "lot", 1)
    first = {id: Photo.open(folder.out / f"{id}.png").pixels for id in together}
    for one in batch(folder.manifest(*rows), folder.path / "alone", device="cpu"):
        pixels = Photo.open(folder.path / "alone" / f"{one.id}.png").pixels
        assert abs(pixels.astype(int) - first[one.id]).max() <= 1  # rounding to bytes


def test_a_batch_that_fails_is_done_row_by_row(folder, here, monkeypatch):
    from inlay.editing.editor import Editor

    whole = Editor.run_many

    def only_one(self, works):
        if len(works) > 1:
            raise RuntimeError("too many")
        if works[0].job.seed == 1:
            raise RuntimeError("bad row")
        return whole(self, works)

    monkeypatch.setattr(Editor, "run_many", only_one)
    monkeypatch.setattr(here, "lot", 3)
    outcomes = run(folder, *({"photo": "a.png", "id": f"r{k}", "seed": k} for k in range(3)))
    assert states(outcomes) == {"r0": "done", "r1": "failed", "r2": "done"}
    assert outcomes["r1"].error == "unexpected RuntimeError: bad row"


def test_a_row_that_ends_its_worker_is_tried_once_more_alone_and_then_named(folder, here, monkeypatch):
    monkeypatch.setattr(here, "lot", 2)
    rows = [{"photo": "a.png", "id": f"r{k}", "prompt": "a deadly cat" if k == 1 else "a cat"} for k in range(4)]
    outcomes = run(folder, *rows)
    assert states(outcomes) == {"r0": "done", "r1": "failed", "r2": "done", "r3": "done"}
    assert "ended by SIGKILL" in outcomes["r1"].error
    assert [lot for lot in here.lots if "r1" in lot] == [["r0", "r1"], ["r1"]]
    here.lots.clear()
    assert states(run(folder, *rows)) == {"r0": "skipped", "r1": "failed", "r2": "skipped", "r3": "skipped"}
    assert here.lots == []
    run(folder, *rows, retry_failed=True)
    assert ["r1"] in here.lots


def test_what_a_crash_interrupted_comes_last_and_by_itself(folder, here, monkeypatch):
    rows = [{"photo": "a.png", "id": f"r{k}"} for k in range(4)]
    folder.out.mkdir()
    started = [json.dumps({"id": id, "state": "started"}) + "\n" for id in ("r0", "r1")]
    (folder.out / "ledger.jsonl").write_text("".join(started) + '{"id": "r1", "sta')
    (folder.out / "r0.png").write_bytes(b"half known")
    (folder.out / f".{'0' * 32}.part").write_bytes(b"half")
    monkeypatch.setattr(here, "lot", 4)
    assert set(states(run(folder, *rows)).values()) == {"done"}
    assert [lot for lot in here.lots if lot] == [["r2", "r3"], ["r0"], ["r1"]]
    assert not [name for name in folder.written() if name.endswith(".part") or "edited" in name]


def test_leaving_early_puts_off_what_was_started(folder):
    outcomes = batch(folder.manifest(*({"photo": "a.png", "id": f"r{k}"} for k in range(4))), folder.out, device="cpu")
    assert next(outcomes).state == "done"
    outcomes.close()
    last = {line["id"]: line["state"] for line in folder.ledger()}
    assert set(last.values()) <= {"done", "skipped"}
    pictures = {name for name in folder.written() if name.endswith(".png")}
    assert pictures == {f"{id}.png" for id, state in last.items() if state == "done"}
    rest = states(run(folder, *({"photo": "a.png", "id": f"r{k}"} for k in range(4))))
    assert sorted(rest.values()) == sorted(["skipped"] * len(pictures) + ["done"] * (4 - len(pictures)))


def test_a_full_disk_stops_the_batch_and_blames_no_row(folder, monkeypatch):
    import errno

    from inlay.errors import PhotoError
    from inlay.jobs.outputs import Outputs

    def full(self, performed):
        raise PhotoError(f"{self.path} cannot be written: No space left on device") from OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(Outputs, "save", full)
        with pytest.raises(BatchError, match="make room and start the same command again"):
            run(folder, {"photo": "a.png"}, {"photo": "b.jpg"})
    assert all(line["state"] in ("started", "skipped") for line in folder.ledger())
    assert set(states(run(folder, {"photo": "a.png"}, {"photo": "b.jpg"})).values()) == {"done"}


def test_errors_enough_stop_it(folder):
    rows = [{"photo": "none.png", "id": "r0"}, *({"photo": "a.png", "id": f"r{k}"} for k in range(1, 4))]
    with pytest.raises(BatchError, match="1 rows have failed"):
        run(folder, *rows, max_errors=1)
    assert "r1.png" not in folder.written()


def test_limit_dry_run_and_foreign_files(folder):
    rows = [{"photo": "a.png", "id": f"r{k}"} for k in range(3)]
    assert states(run(folder, *rows, dry_run=True)) == dict.fromkeys(("r0", "r1", "r2"), "planned")
    assert not folder.out.exists()
    assert states(run(folder, *rows, limit=1)) == {"r0": "done"}
    (folder.out / "r1.png").write_bytes(b"somebody's")
    outcomes = run(folder, *rows)
    assert states(outcomes) == {"r0": "skipped", "r1": "failed", "r2": "done"}
    assert (folder.out / "r1.png").read_bytes() == b"somebody's"
    assert states(run(folder, *rows, overwrite=True))["r1"] == "done"


def test_shards_part_the_rows_and_their_ledgers_join(folder):
    rows = [{"photo": "a.png", "id": f"r{k}"} for k in range(6)]
    parts = [set(run(folder, *rows, shard=f"{k}/2")) for k in (1, 2)]
    assert parts[0] | parts[1] == {f"r{k}" for k in range(6)}
    assert not parts[0] & parts[1]
    joined = list(merge_ledgers([], folder.out))
    assert {one.id: one.state for one in joined} == {f"r{k}": "done" for k in range(6)}
    assert "6 done, 0 failed" in (folder.out / "report.html").read_text()
    assert set(states(run(folder, *rows)).values()) == {"skipped"}
    with pytest.raises(UsageError, match="not I/N"):
        run(folder, *rows, shard="3/2")


def test_pictures_of_other_shards_ask_for_their_ledgers(folder):
    rows = [{"photo": "a.png", "id": f"r{k}"} for k in range(4)]
    mine = next(row["id"] for row in rows if in_shard(row["id"], (1, 2)))
    run(folder, *rows, shard="1/2")
    said = run(folder, *rows)[mine].error
    assert said == (
        f"{folder.out / mine}.png was written by a run with other shards: join their ledgers (inlay batch --merge -o "
        f"{folder.out}), then go on without --shard."
    )
    assert "other shards" in next(
        one.error for one in batch(folder.manifest(*rows), folder.out, shard="2/2", dry_run=True)
    )
    list(merge_ledgers([], folder.out))
    assert set(states(run(folder, *rows)).values()) == {"skipped"}


def test_shards_are_even():
    counts = [sum(in_shard(f"photo-{k}.jpg", (part, 4)) for k in range(4000)) for part in (1, 2, 3, 4)]
    assert sum(counts) == 4000
    assert min(counts) > 900


def test_folders_removal_extension_and_generation(folder):
    masks = folder.path / "masks"
    masks.mkdir()
    for name in ("a.png", "b.png"):
        (masks / name).write_bytes((folder.path / "m.png").read_bytes())
    (folder.path / "m.png").unlink()
    common = {"model": folder.common["model"], "steps": 1, "device": "cpu"}
    found = batch(folder.path, folder.out, masks=masks, prompt="a cat", **common)
    assert {one.id: one.state for one in found} == dict.fromkeys(("a.png", "b.jpg", "sub/a.png"), "done")
    assert {"a.png", "b.jpg", "sub/a.png"} <= folder.written()
    rows = [
        {"action": "extend", "photo": str(folder.path / "a.png"), "left": 8, "id": "wide"},
        {"prompt": "a cat", "size": [32, 32], "id": "made", "action": "generate"},
    ]
    common["action"] = "remove"  # of rows that do not say so
    assert {one.id: one.state for one in batch(rows, folder.path / "more", **common)} == {
        "wide": "done",
        "made": "done",
    }
    assert Photo.open(folder.path / "more" / "wide.png").size == (56, 40)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"output": "../x.png"}, "leaves the output folder"),
        ({"output": "/tmp/x.png"}, "leaves the output folder"),
        ({"id": "../../x"}, "leaves the output folder"),
        ({"output": "link/x.png"}, "leads out of the output folder"),
        ({"output": "x.gif"}, "must end in one of"),
        ({"output": "report/x.png"}, "which the report takes"),
        ({"output": 3}, "is no file name"),
        ({"output": "x\x00.png"}, "cannot be"),
        ({"id": ["a"]}, "is no text"),
        ({"id": "\ud800"}, "cannot be written down"),
        ({"photo": "\ud800.png"}, "does not exist"),
        ({"seed": -1}, "seed"),
        ({"strenght": 0.5}, "no setting strenght; did you mean strength?"),
        ({"action": "paint"}, "no action 'paint'"),
        ({"mask": "small.png"}, "small.png is 10 x 10 pixels"),
        ({"mask": "none.png"}, "none.png"),
        ({"mask": "endless.json"}, "endless.json cannot be read"),
        ({"kind": "portrait"}, "no setting kind"),
        ({"action": "extend", "mask": None, "left": f"{10**400}%"}, "neither a number of pixels"),
        ({"mask": None, "point": "100,3"}, "lies outside the photo"),
        ({"mask": None}, "Nothing is pointed at"),
        ({"layout": "none.json", "mask": None}, "none.json"),
        ({"layout": "none.json", "mask": None, "mask_grow": 3}, "leave out what fills, grows"),
        ({"colour": {"#ff0000": "cat"}}, "give that picture as --layout"),
        ({"id": "a\u2028b"}, "cannot be written down"),
    ],
)
def test_rows_that_cannot_be_done_are_told_from_headers(folder, row, said):
    folder.picture("small.png", size=(10, 10))
    (folder.path / "endless.json").write_text('{"size": [1e999, 96], "counts": [4]}')
    folder.out.mkdir()
    (folder.out / "link").symlink_to(folder.path)
    fields = {key: value for key, value in (folder.common | {"photo": "a.png"} | row).items() if value is not None}
    (checked,) = checked_rows(read_rows([manifest(folder, fields)], folder.out, None), {}, folder.out, 10**8)
    assert said in checked.error


def manifest(folder, *rows):
    path = folder.path / "bare.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_collisions_and_outputs_that_are_inputs(folder):
    common = folder.common
    rows = [
        {"photo": "a.png"},
        {"photo": "a.png"},
        {"photo": "b.jpg", "output": "a.png"},  # an output names its row
        {"photo": "b.jpg", "id": "n", "output": "n.png", "num_images": 2},
        {"photo": "b.jpg", "id": "n1", "output": "n-1.png"},
        {"photo": "b.jpg", "id": "self", "output": "m.png"},
    ]
    path = manifest(folder, *(common | row for row in rows))
    checked = checked_rows(read_rows([path], folder.path, None), {}, folder.path, 10**8)
    assert "is a file that a row reads" in checked[0].error  # the output folder is the photos' own
    checked = checked_rows(read_rows([path], folder.out, None), {}, folder.out, 10**8)
    assert ["" if not row.error else row.error.split(" is that of ")[0] for row in checked] == [
        "", "The id a.png", "The id a.png", "", "The output n-1.png", "",
    ]  # fmt: skip
    assert len({row.id for row in checked}) == len(rows)
