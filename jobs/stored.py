"""Settings that a result stores, as a job that makes it again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..editing.job import Job, Record, checked
from ..errors import UsageError
from ..photos.read import read_settings
from ..photos.save import FORMATS, LOSSY
from .keys import FILES, shown_files


@dataclass(frozen=True)
class Stored:
    """What a result says of itself: the fields of the job that makes it again, its record, and what to tell the user
    before anything that it names is opened."""

    fields: Mapping[str, Any]
    record: Record
    notes: tuple[str, ...]


def read_stored(path: Path, kind: type[Job], output: Path, max_pixels: int) -> Stored:
    """The settings in the result at `path`; a file that it names and that is not here is looked for beside it. A
    quality holds where `output` has one, too.

    Raises:
        UsageError: no settings, or those of another action.
        PhotoError: the file cannot be read.
    """
    settings = read_settings(path, max_pixels=max_pixels)
    if settings is None:
        raise UsageError(f"{path} carries no settings of inlay; name a result that inlay saved.")
    record = checked(Record, **settings)
    if not isinstance(record.job, kind):
        raise UsageError(f"{path} was made by inlay {record.job.action}; use that command.")
    fields = record.again()
    if FORMATS.get(output.suffix.lower()) not in LOSSY:
        fields.pop("quality", None)
    for name in (*FILES, "control", "reference"):
        fields |= {name: beside(fields[name], path)} if fields.get(name) else {}
    named = [one for name in FILES for one in listed(fields.get(name))] + shown_files(record.job)
    loaded = ["the model " + record.job.model, *record.facts.adapters]
    said = f"{path} names {', '.join([*named, *loaded])}: opened unless you say otherwise."
    return Stored(fields, record, (said,))


def beside(named: Any, result: Path) -> Any:
    """File names, or what controls and a reference are shown, with the files as `found` finds them beside the result,
    which is not its own photo, though it may bear its name."""
    if isinstance(named, str):
        places = (result.parent / named, result.parent / Path(named).name)
        return found(named, *(place for place in places if place != result))
    if isinstance(named, dict):
        return {**named, "picture": beside(named["picture"], result)}
    return [beside(one, result) for one in named]


def found(name: str, *places: Path) -> str:
    """A file's name as it is or, where there is no such file, the first of `places` that is one."""
    return name if os.path.exists(name) else next((str(place) for place in places if os.path.isfile(place)), name)


def listed(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()
