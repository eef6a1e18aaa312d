"""A batch: many rows from one machine to a cluster, so that in the end each is a picture or a sentence.

The driver, in this file, reads headers, keeps the ledger and holds no model; workers paint (`inlay.jobs.worker`).
"""

from __future__ import annotations

import filecmp
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path, PurePosixPath
from time import time
from typing import Any

from ..editing.job import JOBS, SHARED, Frozen, Job, SamplingJob, Setup, checked
from ..errors import BatchError, InlayError, UsageError
from ..photos.save import leftovers
from ..weights.adapters import Adapters, find, kind_at
from ..weights.diffusion import fingerprint, locate
from ..weights.hub import on_hub
from .batching import Batching
from .crew import Crew, Died, Processes, asked
from .ledger import Ledger, Past, merge, opened, past, photo_of, sha256_of
from .ledger import entries as ledger_entries
from .manifest import LEDGERS, REPORT, read_rows
from .report import as_json, save_report
from .rows import Outcome, Row, checked_rows

Source = str | Path | Mapping[str, Any] | Job


def batch(rows: Source | Iterable[Source], output: str | Path, **options: Any) -> Generator[Outcome, None, None]:
    """Edit or generate row after row into a folder, and yield what became of each as it ends.

    Nothing happens until the outcomes are asked for; leaving the loop early puts the rest off. Called again with the
    same rows it does what is left: a row is done when the ledger says so, what it asks for and reads is as it was, and
    its picture is as it was written. A picture that was made of another photo under the same id is not replaced.

        for outcome in inlay.batch([{"photo": "a.jpg", "mask": "m.png", "prompt": "a fox"}], "out", steps=25):
            print(outcome.id, outcome.state, outcome.error)

    Args:
        rows: manifests (JSONL, CSV, Parquet), photos, folders and patterns, as for `inlay batch`; or rows: mappings
            from option names, with `id` and `output` if you like, or job records such as `EditJob`.
        output: a folder for the pictures, ledger.jsonl, report.html and errors.jsonl.
        options: fields of `Batching` and of `inlay.editing.job.Setup`; all others are what rows leave out.

    Raises:
        UsageError: nothing can start: no rows, a source that is not there, an unknown option, another run at work in
            `output`, or with `strict` a row that cannot be done.
        BatchError: the disk is full, or `max_errors` have failed.
    """
    how = checked(Batching, **chosen(Batching, options))
    if how.address and how.engine != "ray":
        raise UsageError("--address is that of a Ray cluster; say --engine ray, too.")
    setup = checked(Setup, **chosen(Setup, options))
    known = {name for kind in JOBS.values() for name in kind.model_fields}
    defaults = {
        name: value for name, value in options.items() if name not in {*Batching.model_fields, *Setup.model_fields}
    }
    if unknown := defaults.keys() - known:
        raise UsageError(f"There is no option {min(unknown)!r}; see the fields of the jobs, Batching and Setup.")
    folder = Path(output).absolute()
    sources = [rows] if isinstance(rows, str | Path | Mapping | Frozen) else rows
    stated = read_rows((as_row(source) for source in sources), folder, how.masks)
    every = checked_rows(stated, {**defaults, "action": how.action}, folder, setup.max_pixels)
    if not every:
        raise UsageError("There are no rows; name a manifest, a photo, or a folder that has some.")
    check_used(defaults, every)
    found = [row for row in every if in_shard(row.id, how.shard)]
    if not found:  # few rows, many shards
        return
    if how.dry_run:
        yield from foretold(found, folder, how, setup)
        return
    with opened(folder / f"ledger{how.mark}.jsonl") as ledger, closing(Run(found, folder, ledger, how, setup)) as run:
        yield from run.outcomes()


def chosen(kind: type[Frozen], options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in kind.model_fields}


def check_used(defaults: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Refuse what was said for rows of a kind that there is none of.

    Raises:
        UsageError: an option that no row's action has.
    """
    if any(row.job is None for row in rows):  # one that cannot be read may be of the kind
        return
    used = {name for row in rows if row.job for name in type(row.job).model_fields}
    if unused := defaults.keys() - used:
        name = min(unused)
        actions = " or ".join(action for action, kind in JOBS.items() if name in kind.model_fields)
        raise UsageError(f"No row has use for {name!r}, which is for {actions}; leave it out, or say --action.")


def as_row(source: Source) -> str | Path | Mapping[str, Any]:
    """A manifest or a photo by its name; or a row, in which paths are text."""
    if isinstance(source, SamplingJob):
        return source.model_dump(exclude_unset=True) | {"action": source.action}
    if isinstance(source, Mapping):
        return {name: str(value) if isinstance(value, Path) else value for name, value in source.items()}
    return source


def in_shard(id: str, shard: tuple[int, int] | None) -> bool:
    """Whether a row belongs to part I of N: its id decides, whatever rows there are beside it."""
    return shard is None or int.from_bytes(sha256(id.encode()).digest()[:8]) % shard[1] == shard[0] - 1


def foretold(rows: Sequence[Row], output: Path, how: Batching, setup: Setup) -> Iterator[Outcome]:
    """What would become of rows, as far as it can be told without loading, fetching or writing anything."""
    ledger = past(ledger_entries(output / f"ledger{how.mark}.jsonl"))
    others = cache(lambda: other_shards(output, how))
    rows = [refused_output(row, output, ledger, others, how) for row in rows]
    if any(row.job and row.job.method for row in rows if not row.error):
        with closing(Processes(setup, output, 1)) as crew:
            rows = looked_over(rows, crew, models=False)
    marks = {made_of: fingerprint_at_hand(*made_of, setup) for made_of in {row.job.made_of for row in rows if row.job}}
    rows = [with_mark(row, marks) for row in rows]
    for number, row in enumerate(rows, start=1):
        outcome = None if row.error else known(row, output, ledger.get(row.id, Past()), how)
        names = dict.fromkeys(map(str, row.outputs), "")
        outcome = outcome or Outcome(
            row.id, "failed" if row.error else "planned", row.where, outputs=names, error=row.error
        )
        yield replace(outcome, number=number, total=len(rows))
    if all(row.error for row in rows):
        raise UsageError("Not one row can be done.")


def with_mark(row: Row, marks: Mapping[tuple[str, Adapters], str | InlayError]) -> Row:
    """A row with its weights' fingerprint, or with why they cannot be had."""
    if row.error or row.job is None:
        return row
    mark = marks[row.job.made_of]
    return row.failed(mark) if isinstance(mark, InlayError) else replace(row, weights=mark)


def fingerprint_at_hand(model: str, adapters: Adapters, setup: Setup) -> str | InlayError:
    """Of a model's weights and of what is loaded onto it; none where some would be fetched first, and what is wrong
    where they cannot be had."""
    try:
        path = locate(model, offline=True, allow_pickle=setup.allow_pickle)
        return fingerprint(path) + (find(adapters, kind_at(path), offline=True).mark if adapters else "")
    except InlayError as error:
        return "" if not setup.offline and any(map(on_hub, (model, *adapters.names))) else error


def intact(row: Row, output: Path, before: Past) -> bool:
    """Whether the row was done and its pictures are what was written then."""
    names = [str(path) for path in row.outputs]
    return bool(before.outputs) and all(sha256_of(output / name) == before.outputs.get(name, "") for name in names)


def other_shards(output: Path, how: Batching) -> dict[str, Past]:
    """What the ledgers of the folder say of each row, but for this run's own."""
    files = {file for pattern in LEDGERS for file in output.glob(pattern)} - {output / f"ledger{how.mark}.jsonl"}
    return past(entry for file in files for entry in ledger_entries(file))


def refused_output(
    row: Row, output: Path, ledger: Mapping[str, Past], others: Callable[[], Mapping[str, Past]], how: Batching
) -> Row:
    """The row, with a sentence where a file stands in its place that cannot be read, is that of another photo, or is
    not of this batch, as far as its `ledger` tells; `others` reads what the folder's other ledgers say."""
    before = ledger.get(row.id, Past())
    there = [path for path in row.outputs if (output / path).exists()]
    if row.error or not there:
        return row
    if locked := [path for path in there if not os.access(output / path, os.R_OK)]:
        return row.failed(f"{output / locked[0]} may not be read: mend its permissions, or name another output.")
    if how.overwrite:
        return row
    if earlier := another_photo(row, before):
        said = f"The id {row.id} was that of {earlier} in an earlier run"
        return row.failed(f"{said}: name another output folder, or pass --overwrite.")
    foreign = [path for path in there if str(path) not in before.written]
    if not foreign or before.interrupted:
        return row
    if str(foreign[0]) in others().get(row.id, Past()).written:
        said = f"{output / foreign[0]} was written by a run with other shards"
        return row.failed(f"{said}: join their ledgers (inlay batch --merge -o {output}), then go on without --shard.")
    said = f"{output / foreign[0]} exists and is not of this batch: name another output, or pass --overwrite."
    return row.failed(said)


def another_photo(row: Row, before: Past) -> str:
    """The photo that a row of this id was last done from, where it is still there and not that of `row`, however named
    or copied; else nothing."""
    earlier, photo = photo_of(before.done), str(row.fields.get("photo", ""))
    if not photo or earlier == photo or not os.access(earlier, os.R_OK):
        return ""
    return "" if filecmp.cmp(earlier, photo, shallow=False) else earlier


@dataclass
class Run:
    """One run of a batch, with the ledger its own."""

    rows: list[Row]
    output: Path
    ledger: Ledger
    how: Batching
    setup: Setup
    crew: Crew | None = None
    held: dict[str, Row] = field(default_factory=dict)
    """Rows that were started and have not ended."""
    doubtful: list[Row] = field(default_factory=list)
    """Rows that were started once and never ended: they come last, each with a worker for itself."""
    ended: int = 0
    failures: int = 0

    def outcomes(self) -> Iterator[Outcome]:
        """All that happens, as it does."""
        self._sweep()
        others = cache(lambda: other_shards(self.output, self.how))
        self.rows = [refused_output(row, self.output, self.ledger.rows, others, self.how) for row in self.rows]
        self.by_id = {row.id: row for row in self.rows}
        bad = [row for row in self.rows if row.error]
        if len(bad) < len(self.rows) and not (bad and self.how.strict):
            self.crew = self._hired()
            self.rows = looked_over(self.rows, self.crew)
            self.by_id = {row.id: row for row in self.rows}
            bad = [row for row in self.rows if row.error]
        yield from self._end([Outcome(row.id, "failed", row.where, error=row.error) for row in bad])
        if bad and (self.how.strict or len(bad) == len(self.rows)):
            share = f"{len(bad)} of {len(self.rows)} rows cannot be done"
            raise UsageError(f"{share}, so nothing was started; the first: {bad[0].error}")
        assert self.crew is not None
        todo = []
        for row, outcome in self._known([row for row in self.rows if not row.error]):
            if outcome:
                yield self._numbered(outcome)
            else:
                todo.append(row)
        todo = sorted(todo, key=likeness)[: self.how.limit]
        self.doubtful = [row for row in todo if self._before(row).interrupted]
        yield from self._work(self.crew, deque(row for row in todo if not self._before(row).interrupted))
        yield from self._work(self.crew, deque(self.doubtful), alone=True)

    def close(self) -> None:
        """Put off what was started, whole, and write the report."""
        if self.crew:
            self.crew.close()
        with suppress(InlayError):  # a full disk, which the caller is told already
            for row in self.held.values():
                self._drop(row)
            if self.held:
                self.ledger.append(*({"id": id, "state": "skipped"} for id in self.held))
            self._sweep()
            save_report(self.output, self.how.mark, self.rows, self.ledger.rows)

    def _sweep(self) -> None:
        sweep(self.rows, self.output, age=3600 if self.how.shard else 0)

    def _before(self, row: Row) -> Past:
        return self.ledger.rows.get(row.id, Past())

    def _hired(self) -> Crew:
        if self.how.engine == "ray":
            from .cluster import Actors

            return Actors(self.setup, self.output, self.how.workers, self.how.address)
        return Processes(self.setup, self.output, self.how.workers)

    def _known(self, rows: Sequence[Row]) -> list[tuple[Row, Outcome | None]]:
        """Each row, with what became of it in an earlier run where that still holds."""
        with ThreadPoolExecutor(8) as readers:
            found = list(readers.map(lambda row: known(row, self.output, self._before(row), self.how), rows))
        skipped = [outcome for outcome in found if outcome and outcome.state == "skipped"]
        self.ledger.append(*({"id": one.id, "state": "skipped", "key": one.key} for one in skipped))
        return list(zip(rows, found, strict=True))

    def _work(self, crew: Crew, queue: deque[Row], alone: bool = False) -> Iterator[Outcome]:
        """Let the workers do the rows of `queue`; `alone`, one at a time each, so that who ends its worker is known."""
        holds: list[dict[str, Row]] = [{} for _ in range(crew.size)]
        ahead: list[list[Row]] = [[] for _ in range(crew.size)]
        idle = set(range(crew.size))
        while True:
            for worker in sorted(idle):
                lot = ahead[worker]
                if not lot and not (alone and holds[worker]):
                    lot = taken(queue, 1 if alone else crew.together)
                ahead[worker] = [] if alone else taken(queue, crew.together)
                if lot or holds[worker]:
                    self._start(lot)
                    holds[worker] |= {row.id: row for row in lot}
                    crew.ask(worker, "run", lot, ahead[worker])
                    idle.discard(worker)
            if len(idle) == crew.size:
                return
            for worker, answer in crew.answers():
                idle.add(worker)
                if not isinstance(answer, Died):
                    for outcome in answer:
                        del holds[worker][outcome.id]
                    yield from self._end(answer)
                    continue
                lost = [*holds[worker].values(), *ahead[worker]]
                holds[worker], ahead[worker] = {}, []
                if alone:
                    said = f"It ended its worker, twice or more: {answer.how}."
                    yield from self._end([Outcome(row.id, "failed", row.where, row.key(), error=said) for row in lost])
                else:
                    self.doubtful += lost

    def _start(self, lot: Sequence[Row]) -> None:
        """Make room for the pictures of rows, and say in the ledger that these begin."""
        for row in lot:
            before = self._before(row)
            for path in row.outputs:
                recorded = before.written.get(str(path))
                if not before.interrupted and recorded and sha256_of(self.output / path) not in (None, recorded):
                    self._keep_aside(self.output / path)
        if lot:
            self.held |= {row.id: row for row in lot}
            self.ledger.append(*({"id": row.id, "state": "started"} for row in lot))

    def _keep_aside(self, path: Path) -> None:
        """Rename a picture that somebody has edited since: NAME-edited-1, -2, ..."""
        taken = {self.output / name for row in self.rows for name in row.outputs}
        names = (path.with_stem(f"{path.stem}-edited-{number}") for number in count(1))
        path.rename(next(name for name in names if name not in taken and not name.exists()))

    def _end(self, outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
        """Write down what became of rows, and say so.

        Raises:
            BatchError: the disk is full, or as many rows have failed as may.
        """
        over = [outcome for outcome in outcomes if outcome.state != "stopped"]
        for outcome in over:
            if outcome.state == "failed" and (row := self.held.get(outcome.id)):
                self._drop(row)
        if over:
            self.ledger.append(*(entry(outcome, self.by_id[outcome.id]) for outcome in over))
        for outcome in over:
            self.held.pop(outcome.id, None)
            self.failures += outcome.state == "failed"
        yield from map(self._numbered, over)
        for outcome in outcomes:
            if outcome.state == "stopped":
                raise BatchError(f"{outcome.error}; make room and start the same command again.")
        if self.how.max_errors and self.failures >= self.how.max_errors:
            raise BatchError(f"{self.failures} rows have failed, so the rest was put off; see errors.jsonl.")

    def _drop(self, row: Row) -> None:
        """Take away what a row that did not end has written; what it found there stays."""
        before = self._before(row).written
        for path in () if self.how.overwrite else row.outputs:
            if sha256_of(self.output / path) not in (None, before.get(str(path))):
                (self.output / path).unlink()

    def _numbered(self, outcome: Outcome) -> Outcome:
        self.ended += 1
        return replace(outcome, number=self.ended, total=len(self.rows))


def looked_over(rows: Sequence[Row], crew: Crew, models: bool = True) -> list[Row]:
    """Rows with their weights' fingerprints, or with what a worker has against model or methods."""
    jobs = [row.job for row in rows if row.job and not row.error]
    methods = {repr(job.method): job.method for job in jobs if job.method}
    sought = sorted({job.made_of for job in jobs if models}, key=repr)
    marks, missing, refused = asked(crew, 0, "look", sought, list(methods.values()))
    wrong = dict(zip(methods, refused, strict=True))

    def marked(row: Row) -> Row:
        if row.error or row.job is None:
            return row
        said = missing.get(row.job.made_of) or wrong.get(repr(row.job.method))
        return row.failed(said) if said else replace(row, weights=marks.get(row.job.made_of, ""))

    return [marked(row) for row in rows]


def known(row: Row, output: Path, before: Past, how: Batching) -> Outcome | None:
    """What became of a row that was done, or failed, as it is asked for now; None for a row to do."""
    made, failed = intact(row, output, before), before.state == "failed" and not how.retry_failed
    if before.interrupted or not (made or failed):
        return None
    key = row.key()
    if made and key == before.done.get("key"):
        return Outcome(row.id, "skipped", row.where, key, before.outputs)
    if failed and key == before.ended.get("key"):
        return Outcome(row.id, "failed", row.where, key, error=str(before.ended.get("error", "")))
    return None


def entry(outcome: Outcome, row: Row) -> dict[str, Any]:
    """A row's end as the ledger keeps it, and with it the row."""
    kept = {name: value for name, value in asdict(outcome).items() if value and name not in ("number", "total")}
    fields = json.loads(json.dumps(row.fields, default=as_json))
    return {**kept, "row": fields, **({"output": str(row.output)} if row.output else {})}


def likeness(row: Row) -> str:
    """Alike for rows that can go through the loop together, and begins with what takes longest to change."""
    job = row.job
    assert job is not None
    return repr([job.made_of, job.action, [getattr(job, name, None) for name in SHARED], job.method])


def taken(queue: deque[Row], most: int) -> list[Row]:
    """The next rows of the queue that agree."""
    lot: list[Row] = []
    while queue and len(lot) < most and (not lot or likeness(queue[0]) == likeness(lot[0])):
        lot.append(queue.popleft())
    return lot


def sweep(rows: Sequence[Row], output: Path, age: float) -> None:
    """Remove what a crash left of files that were being written, where these rows go; nothing younger than `age`
    seconds, which may be another shard's."""
    folders = {output, output / REPORT, *((output / path).parent for row in rows for path in row.outputs)}
    for part in (part for folder in folders for part in leftovers(folder)):
        with suppress(FileNotFoundError):
            if time() - part.stat().st_mtime >= age:
                part.unlink()


def merge_ledgers(ledgers: Sequence[str | Path], output: str | Path) -> Generator[Outcome, None, None]:
    """Join the ledgers of shards, by default those in `output`, to its `ledger.jsonl`; write the report of all rows,
    and yield how each of them ended.

    Raises:
        UsageError: no ledgers, or a run is at work in `output`.
    """
    folder = Path(output).absolute()
    files = [Path(path) for path in ledgers] or sorted(folder.glob("ledger-*-of-*.jsonl"))
    if missing := [path for path in files if not path.is_file()]:
        raise UsageError(f"There is no ledger {missing[0]}; name the ledger.jsonl of another run.")
    if not files:
        raise UsageError(f"There are no ledgers in {folder}; name those to join.")
    with opened(folder / "ledger.jsonl") as ledger:
        merge(files, ledger)
        rows = [row_of(id, one.ended) for id, one in ledger.rows.items() if one.ended]
        save_report(folder, "", rows, ledger.rows)
        for number, row in enumerate(rows, start=1):
            end = ledger.rows[row.id].ended
            kept = {name: end[name] for name in ("state", "key", "outputs", "seconds", "facts", "error") if name in end}
            yield Outcome(row.id, where=row.where, number=number, total=len(rows), **kept)


def row_of(id: str, end: Mapping[str, Any]) -> Row:
    """A row as its last line in the ledger tells it."""
    output = PurePosixPath(end["output"]) if "output" in end else None
    return Row(id, str(end.get("where", "")), end.get("row", {}), output=output)
