"""A batch's rows, checked: each is a job with an id and an output of its own, or a sentence that says why not.

Headers alone are read here, so ten thousand photos are checked in seconds, and PyTorch is not imported.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ..editing.job import EDGES, JOBS, Control, Job, Reference, checked, merged
from ..errors import InlayError, PhotoError, UsageError
from ..photos.save import FORMATS, check_output
from .headers import check_headers
from .keys import FILES, key_of, shown_files
from .manifest import REPORT, Stated

SHOWN: dict[str, type[Control] | type[Reference]] = {"control": Control, "reference": Reference}
"""Fields that name a picture among other things."""
OWN = ("id", "output", "action", "error")
"""What a row may say beside the options; `error` is what `errors.jsonl` adds, and is not read."""
UNSAYABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of signs that break a line or cannot be written: controls, half signs, line separators."""


@dataclass(frozen=True)
class Row:
    """One row: what it asks for, or why it cannot be done."""

    id: str
    where: str
    fields: Mapping[str, Any]
    """As given, under the batch's own options, its files by absolute paths: what `errors.jsonl` says of it."""
    job: Job | None = None
    output: PurePosixPath | None = None
    """In the output folder."""
    weights: str = ""
    """The fingerprint of its model's weights, once that is known."""
    error: str = ""

    @property
    def outputs(self) -> tuple[PurePosixPath, ...]:
        """The pictures of the row, as `Outputs` names them."""
        if self.output is None or self.job is None:
            return ()
        count = self.job.num_images
        if count == 1:
            return (self.output,)
        return tuple(self.output.with_stem(f"{self.output.stem}-{k + 1}") for k in range(count))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files that the row reads, as far as it names them itself."""
        names = tuple(name for key in FILES for name in named(self.fields.get(key)))
        return names if self.job is None else (*names, *shown_files(self.job))

    def key(self) -> str:
        """What decides how its pictures come out, see `key_of`; none without a job, or where a file cannot be read."""
        try:
            return key_of(self.job, self.weights) if self.job else ""
        except PhotoError:
            return ""

    def failed(self, error: object) -> Row:
        return replace(self, error=sayable(str(error)))


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    `state`: done; failed; skipped, done before or put off; planned, in a dry run; stopped, when the disk is full.
    """

    id: str
    state: Literal["done", "failed", "skipped", "planned", "stopped"]
    where: str = ""
    key: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Names in the output folder, and their SHA-256."""
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    notes: tuple[str, ...] = ()
    number: int = 0
    """How many rows have ended with this one, of `total`."""
    total: int = 0


def checked_rows(stated: Iterable[Stated], defaults: Mapping[str, Any], output: Path, max_pixels: int) -> list[Row]:
    """All rows, those that cannot be done with their sentence: fields, ranges, files, sizes, collisions, and outputs
    that are an input or leave `output`."""
    own = {key: value for key, value in defaults.items() if value is not None} | absolute(defaults, Path.cwd())
    rows = [checked_row(one, own, output, max_pixels) for one in stated]
    return list(apart(rows, output))


def checked_row(stated: Stated, defaults: Mapping[str, Any], output: Path, max_pixels: int) -> Row:
    """A row by itself."""
    row = Row(sayable(stated.where), stated.where, dict(stated.fields))
    try:
        fields = {str(name).replace("-", "_"): value for name, value in stated.fields.items()}
        fields |= absolute(fields, stated.folder)
        row = replace(row, fields=fields)
        row = replace(row, id=id_of(stated.fields, stated.where))
        if stated.wrong:
            return row.failed(stated.wrong)
        kind = kind_of(fields, defaults)
        given = {name: value for name, value in fields.items() if name not in OWN}
        mine = {name: value for name, value in defaults.items() if name in kind.model_fields and name not in OWN}
        asked = {"action": kind.model_fields["action"].default, **merged(mine, given)}
        said = {"output": fields["output"]} if "output" in fields else {}
        row = replace(row, fields={**asked, **said})
        row = replace(row, job=checked(kind, **asked), output=output_of(stated.fields, row.id, asked.get("photo")))
        check_files(row, output, max_pixels)
    except InlayError as error:
        return row.failed(error)
    except (OSError, ValueError) as error:  # names that no file can have
        return row.failed(f"The row {stated.where} names a file that cannot be: {error}.")
    return row


def absolute(fields: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The files that a row names, by absolute paths."""
    found: dict[str, Any] = {}
    for name in FILES:
        value = fields.get(name)
        if isinstance(value, str | Path):
            found[name] = str(folder / value)
        elif isinstance(value, list | tuple) and all(isinstance(one, str | Path) for one in value):
            found[name] = [str(folder / one) for one in value]
    return found | {name: placed(kind, fields[name], folder) for name, kind in SHOWN.items() if fields.get(name)}


def placed(kind: type[Control] | type[Reference], value: Any, folder: Path) -> Any:
    """What controls or a reference are shown, by absolute paths."""
    read = kind.read(value)

    def one(given: Any) -> Any:
        given = given.model_dump() if isinstance(given, kind) else given
        picture = given.get("picture") if isinstance(given, dict) else None
        if not isinstance(picture, str) or picture == EDGES:
            return given
        return {**given, "picture": str(folder / picture)}

    return [one(given) for given in read] if isinstance(read, tuple) else one(read)


def named(value: Any) -> tuple[str, ...]:
    """The names in a field that holds one or several."""
    several = value if isinstance(value, list | tuple) else (value,)
    return tuple(one for one in several if isinstance(one, str))


def kind_of(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> type[Job]:
    """The record of a row's action: what it says, else an edit where there is a photo, else a generation.

    Raises:
        UsageError: another action.
    """
    said = fields.get("action") or defaults.get("action")
    action = said or ("edit" if fields.get("photo") or defaults.get("photo") else "generate")
    if not isinstance(action, str) or action not in JOBS:
        raise UsageError(f"There is no action {action!r}; choose from {', '.join(JOBS)}.")
    return JOBS[action]


def id_of(fields: Mapping[str, Any], where: str) -> str:
    """A row's `id`, or the path of its output or else of its photo without what leads out of the folder, or its line.

    Raises:
        UsageError: no text or number, an empty one, or one that cannot be written down.
    """
    id = fields.get("id")
    if id is None:
        path = fields.get("output") or fields.get("photo")
        steps = Path(path).parts if isinstance(path, str) else ()
        id = "/".join(step for step in steps if step not in (Path(path or "").anchor, "..", "."))
        return sayable(id) or f"row-{where.rpartition(':')[2].removeprefix('row ')}"
    if isinstance(id, bool) or not isinstance(id, str | int) or not str(id).strip():
        raise UsageError(f"The id {id!r} is no text; give each row one of its own.")
    if any(unicodedata.category(sign) in UNSAYABLE for sign in str(id)):
        raise UsageError(f"The id {id!r} holds signs that cannot be written down; give it another.")
    return str(id)


def output_of(fields: Mapping[str, Any], id: str, photo: Any) -> PurePosixPath:
    """A row's `output`, or one by its id, in the format of its photo where that can be written.

    Raises:
        UsageError: no text, or a path that leaves the output folder.
    """
    said = fields.get("output")
    if said is None:
        ending = PurePosixPath(id).suffix.lower()
        source = Path(str(photo)).suffix if photo else ""
        if ending in FORMATS:
            said = id
        elif photo and source and id.endswith(source):  # the photo's own name, in a format that is not written
            said = id.removesuffix(source) + ".png"
        else:
            said = id + (source if source.lower() in FORMATS else ".png")
    if not isinstance(said, str):
        raise UsageError(f"The output {said!r} is no file name.")
    path = PurePosixPath(said)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UsageError(f"The output {said} leaves the output folder; name a file in it.")
    if path.parts[0] == REPORT:
        raise UsageError(f"The output {said} lies in the folder {REPORT}, which the report takes; name another.")
    return path


def check_files(row: Row, output: Path, max_pixels: int) -> None:
    """Refuse what the headers of the files already tell.

    Raises:
        InlayError: what `check_headers` raises; an output that cannot be written or lies outside the output folder.
    """
    assert row.job is not None
    size, base = check_headers(row.job, max_pixels), os.path.realpath(output)
    for path in row.outputs:
        if not os.path.realpath(output / path).startswith(base + os.sep):
            raise UsageError(f"The output {path} leads out of the output folder by a link; name another.")
        check_output(output / path, overwrite=True, size=size, quality=row.job.quality)


def apart(rows: Iterable[Row], output: Path) -> Iterator[Row]:
    """The rows, but those that take another's id or output, or write what any row reads, with a sentence."""
    rows, read = list(rows), set[str]()
    for name in (name for row in rows for name in row.inputs):
        with suppress(ValueError):  # no file can have such a name
            read.add(os.path.realpath(name))
    ids: dict[str, str] = {}
    taken: dict[str, str] = {}
    for row in rows:
        if first := ids.get(row.id):
            said = f"The id {row.id} is that of {first} too; give each row an id or output of its own."
            row = replace(row, id=f"{row.id} at {row.where}").failed(said)
        else:
            ids[row.id] = row.where
            row = row if row.error else kept_apart(row, output, read, taken)
        yield row


def kept_apart(row: Row, output: Path, read: set[str], taken: dict[str, str]) -> Row:
    """A row whose outputs are now taken, or with the sentence that says why they cannot be."""
    for path in row.outputs:
        real = os.path.normcase(os.path.realpath(output / path))
        if real in read:
            return row.failed(f"The output {path} is a file that a row reads; name another, or another folder.")
        if other := taken.get(real):
            return row.failed(f"The output {path} is that of {other} too; name another.")
    taken |= {os.path.normcase(os.path.realpath(output / path)): row.where for path in row.outputs}
    return row


def sayable(text: str) -> str:
    """Text that can be printed and written in UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
