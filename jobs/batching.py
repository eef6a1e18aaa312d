"""How a batch is done: the options of `inlay batch` beside those of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ..editing.job import EditJob, ExtendJob, Frozen, GenerateJob, RemoveJob, Shell, says
from ..errors import UsageError


class Rows(EditJob, RemoveJob, ExtendJob, GenerateJob):
    """All that rows may leave out: the options of every job. Nobody makes one."""


def parse_shard(value: Any) -> Any:
    """`I/N`, or [I, N]."""
    if not isinstance(value, str):
        return value
    part, _, parts = value.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"{value!r} is not I/N, such as 2/4 for the second of four shards.")
    return int(part), int(parts)


class Batching(Frozen):
    """How a batch is done; none of it decides what a picture looks like."""

    action: Annotated[
        Literal["edit", "remove", "extend", "generate"] | None,
        says("What is done in rows that do not say so."),
        Shell(default="edit where there is a photo, else generate"),
    ] = None
    masks: Annotated[
        Path | None, says("Masks that bear the names of photos, for photos without a manifest."), Shell(metavar="DIR")
    ] = None
    workers: Annotated[
        int | None, says("How many processes, each with its model.", ge=1), Shell(default="one per device")
    ] = None
    shard: Annotated[
        tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None,
        says("Only the rows of part I of N, told apart by their ids."),
        BeforeValidator(parse_shard),
        Shell(metavar="I/N"),
    ] = None
    limit: Annotated[int | None, says("Do so many rows at most.", ge=0)] = None
    max_errors: Annotated[int | None, says("Stop when so many rows have failed.", ge=1)] = None
    retry_failed: Annotated[bool, says("Also rows that failed before and are asked for as then.")] = False
    strict: Annotated[bool, says("Do nothing when any row cannot be done.")] = False
    dry_run: Annotated[bool, says("Check everything and say what would happen.")] = False
    overwrite: Annotated[bool, says("Replace files that are not of this batch, and pictures of another photo.")] = False
    engine: Annotated[Literal["local", "ray"], says("local: this machine; ray: a Ray cluster.")] = "local"
    address: Annotated[str | None, says("The Ray cluster."), Shell(metavar="HOST:PORT", default="a new local one")] = (
        None
    )

    @property
    def mark(self) -> str:
        """What tells the files of one shard from those of another."""
        return "-{}-of-{}".format(*self.shard) if self.shard else ""
