"""What decides how a row's picture comes out, as one hash: the job, the bytes that it reads, and the weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..editing.job import EDGES, Job
from ..errors import PhotoError

FILES = ("photo", "mask", "layout")
"""Fields of jobs that name files."""
NAMES = {*FILES, "model"}
"""Fields that name what is hashed by its content."""


def key_of(job: Job, weights: str) -> str:
    """A hash of the job, the bytes of photo, masks and layout, and the weights' fingerprint. Where they lie and what
    they are called does not count.

    Raises:
        PhotoError: a file cannot be read.
    """
    photo, masks, layout = (getattr(job, name, None) for name in ("photo", "mask", "layout"))
    named: dict[str, Any] = {
        **dict.fromkeys(NAMES, True),
        "control": {"__all__": {"picture"}},
        "reference": {"picture"},
    }
    settings = job.model_dump(mode="json", exclude_defaults=True, exclude=named)
    said = [job.action, settings, weights, len(masks or ()), layout is not None]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in [*([photo] if photo else []), *(masks or ()), *layout_files(layout), *shown_files(job)]:
        try:
            with open(name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise PhotoError(f"{name} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def shown_files(job: Job) -> list[str]:
    """The pictures of a job's controls and reference."""
    return [one.picture for one in (*job.control, job.reference) if one and one.picture != EDGES]


def layout_files(layout: str | None) -> list[Path]:
    """A layout's file, and the mask files that it names."""
    if layout is None:
        return []
    path = Path(layout)
    if path.suffix.lower() != ".json":
        return [path]
    try:
        regions = json.loads(path.read_text("utf-8-sig"))["regions"]
        return [path, *(path.parent / region["mask"] for region in regions if region.get("mask"))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [path]  # reading the layout itself says what is wrong with it
