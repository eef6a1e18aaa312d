"""What the page keeps on disk: photos as they came, masks, layouts, and every result with its settings.

    FOLDER/photos/coffee-0123456789abcdef.jpg      the bytes as they came
    FOLDER/masks/0123456789abcdef.png              white = edit
    FOLDER/masks/0123456789abcdef.json             a layout over masks beside it
    FOLDER/results/20261126-110512-042-a-red-apple/    coffee-1.png, coffee-2.png, ..., and result.json, written last

Pages name these by the last part of a name; a name that is none of ours opens nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import Bool

from ..editing.job import Job, Opening, Record, checked
from ..errors import InlayError, UsageError
from ..jobs.keys import FILES
from ..jobs.stored import found
from ..photos.mask_files import save_mask
from ..photos.photo import Photo
from ..photos.save import write_file
from .form import showing

DIGITS = 16
"""Hexadecimal digits of SHA-256 that name a file by its content."""


@dataclass(frozen=True)
class History:
    """A folder of photos, masks and results."""

    folder: Path

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    @property
    def masks(self) -> Path:
        return self.folder / "masks"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def incoming(self, name: str) -> Path:
        """Where the bytes of a photo go that may yet be refused, with the ending of what its owner calls it."""
        self.photos.mkdir(parents=True, exist_ok=True)
        ending = Path(name).suffix.lower()
        ending = ending if re.fullmatch(r"\.\w{1,5}", ending) else ""
        return self.photos / f".incoming-{uuid4().hex}{ending}"

    def take_photo(self, file: Path, name: str) -> str:
        """Move a readable photo in from where it was `incoming` under that name. Returns its id."""
        with file.open("rb") as stream:
            identity = hashlib.file_digest(stream, "sha256").hexdigest()[:DIGITS]
        if self._photo_files(identity):
            file.unlink()
        else:
            file.replace(self.photos / f"{plain(Path(name).stem) or 'photo'}-{identity}{file.suffix}")
        return identity

    def photo(self, identity: str) -> Path:
        """The file of a photo. Raises UsageError for an id that names none."""
        found = self._photo_files(checked_id(identity))
        if not found:
            raise UsageError("That photo is no longer in the history folder; open it again.")
        return found[0]

    def sent(self, name: str) -> Path:
        """The file of a picture by the name that its page was told. Raises UsageError for a name that is none."""
        path = self.photos / name
        if path.parent != self.photos or not path.is_file():
            raise UsageError(f"The page has sent no picture {name!r}; choose it by the button below its field.")
        return path

    def called(self, job: Job) -> str:
        """What a job's pictures are called: as its photo was."""
        return Path(job.photo).stem[: -DIGITS - 1] if isinstance(job, Opening) and job.photo else "picture"

    def _photo_files(self, identity: str) -> list[Path]:
        """A name may hold another photo's id before its own."""
        return sorted(file for file in self.photos.glob(f"*-{identity}*") if file.stem.endswith(identity))

    def keep_mask(self, mask: Bool[np.ndarray, "H W"]) -> str:
        """Write a mask, once; returns its id."""
        size = repr(mask.shape).encode()
        identity = hashlib.sha256(size + np.packbits(mask).tobytes()).hexdigest()[:DIGITS]
        path = self.masks / f"{identity}.png"
        if not path.exists():
            save_mask(mask, path)
        return identity

    def mask(self, identity: str) -> Path:
        """The file of a mask. Raises UsageError for an id that names none."""
        path = self.masks / f"{checked_id(identity)}.png"
        if not path.is_file():
            raise UsageError("That mask is no longer in the history folder; draw it again.")
        return path

    def keep_layout(self, layout: dict[str, Any]) -> Path:
        """Write a layout.json over masks that are kept already."""
        text = json.dumps(layout, indent=1).encode()
        path = self.masks / f"{hashlib.sha256(text).hexdigest()[:DIGITS]}.json"
        write_file(path, text)
        return path

    def new_result(self, prompt: str) -> Path:
        """A new folder for the pictures of a run."""
        moment = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]  # to the millisecond: names sort results
        name = "-".join(part for part in (moment, plain(prompt)[:40].strip("-")) if part)
        for attempt in range(1, 10_000):
            folder = self.results / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                continue
        raise AssertionError("ten thousand results in one millisecond")

    def close_result(self, folder: Path, records: list[dict[str, Any]], notes: list[str]) -> None:
        """The last word of a run: without it a folder counts as unfinished and is not listed."""
        for record in records:
            record["path"] = Path(record["path"]).name
        write_file(folder / "result.json", json.dumps({"records": records, "notes": notes}, indent=1).encode())

    def result(self, name: str) -> Result:
        """A finished result. Raises UsageError for a name that is none, and for a file that somebody has spoilt."""
        folder = self.results / name
        if Path(name).name != name or not (folder / "result.json").is_file():
            raise UsageError("That result is no longer in the history folder.")
        try:
            kept = json.loads((folder / "result.json").read_text("utf-8"))
            return Result(self, folder, tuple(kept["records"]), tuple(kept["notes"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"The file {folder / 'result.json'} cannot be read.") from error

    def at_home(self, job: Job) -> Job:
        """A job whose files that are gone from where they were are those of their names here: the history was moved."""

        def here(name: str, folder: Path) -> str:
            return found(name, folder / Path(name).name)

        moved: dict[str, Any] = {}
        for field in FILES:
            folder, names = self.photos if field == "photo" else self.masks, getattr(job, field, None)
            if isinstance(names, str):
                moved[field] = here(names, folder)
            elif names:
                moved[field] = tuple(here(name, folder) for name in names)
        return showing(job.model_copy(update=moved), lambda picture: here(picture, self.photos))

    def all_results(self) -> list[Result]:
        """Newest first; those that cannot be read, of another version or spoilt, are left where they are."""
        found = []
        for file in sorted(self.results.glob("*/result.json"), key=lambda file: file.parent.name, reverse=True):
            with suppress(UsageError):
                found.append(self.result(file.parent.name))
        return [result for result in found if result.readable]


@dataclass(frozen=True)
class Result:
    """A finished run: one record, as `Written.record` gives it, for each picture, best first."""

    history: History
    folder: Path
    records: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def readable(self) -> bool:
        try:
            return bool([self.record(number) for number in range(len(self.records))])
        except (UsageError, KeyError, TypeError):
            return False

    def picture(self, number: int) -> Path:
        """The file of a picture, counted from 0. Raises UsageError for a number that has none."""
        if not 0 <= number < len(self.records):
            raise UsageError(f"That result has {len(self.records)} pictures.")
        return self.folder / self.records[number]["path"]

    def record(self, number: int) -> Record:
        """The settings of a picture, its files where they are now."""
        self.picture(number)
        record = checked(Record, **self.records[number]["settings"])
        return record.model_copy(update={"job": self.history.at_home(record.job)})

    def attention(self, number: int) -> Path:
        """The folder of a picture's attention pictures; it need not be there."""
        return self.folder / f"attention-{number + 1}"


def readable(file: Path, name: str, max_pixels: int) -> Photo:
    """The photo in a file that its owner calls `name`. Raises what `Photo.open` raises, of that name."""
    try:
        return Photo.open(file, max_pixels=max_pixels)
    except InlayError as error:
        said = str(error).replace(str(file), name)
        if isinstance(error, UsageError):  # no frame was chosen
            said = f"{said}, of inlay edit; the page opens files of a single picture."
        raise type(error)(said) from error


def plain(text: str) -> str:
    """Text as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def checked_id(identity: str) -> str:
    if not re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", identity):
        raise UsageError("The page asked for something by a name that is none of its own; load it anew.")
    return identity
