"""The rows of a batch as people bring them: JSONL, CSV, Parquet, standard input, or photos in folders.

A row holds options by their names, and `id`, `output` and `action` if it likes; what a row leaves out, the batch's own
options say. Nothing is checked here but that a row is a row.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..errors import PhotoError, UsageError, extra
from .ledger import entries, past

TABLES = {".jsonl": "JSONL", ".ndjson": "JSONL", ".csv": "CSV", ".tsv": "CSV", ".parquet": "Parquet"}
PHOTOS = {
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif"),
    *(".jp2", ".ppm", ".tga", ".heic", ".heif"),
}
MASKS = {".png", ".tif", ".tiff", ".json", ".webp", ".bmp", ".gif", ".jpg", ".jpeg"}

HISTORY = "inlay-history"
"""The folder beside a photo in which the page keeps photos, masks and results."""
LEDGERS = ("ledger.jsonl", "ledger-*-of-*.jsonl")
"""The files in which a batch says what it wrote."""
REPORT = "report"
"""The folder in the output folder that the report's pictures take."""


@dataclass(frozen=True)
class Stated:
    """A row as its source states it."""

    fields: Mapping[str, Any]
    where: str
    """Source and line, for messages."""
    folder: Path
    """Where relative paths start."""
    wrong: str = ""
    """Why it is no row."""


def read_rows(sources: Iterable[str | Path | Mapping[str, Any]], output: Path, masks: Path | None) -> Iterator[Stated]:
    """The rows of all sources, in their order.

    Args:
        sources: manifests, photos, folders, patterns such as `photos/**/*.jpg`, `-` for standard input; or rows.
        output: what lies in this folder is no photo of a folder or pattern around it; nor is, of a folder, what is
            hidden, what a batch wrote, or the page's history.
        masks: a folder of masks that bear the names of photos, for photos that no manifest names.

    Raises:
        UsageError: a source that is not there, or a table that cannot be read as one.
    """
    for number, source in enumerate(sources, start=1):
        if isinstance(source, Mapping):
            yield Stated(source, f"row {number}", Path.cwd())
        elif str(source) == "-":
            yield from _piped(sys.stdin.buffer.read())
        elif Path(source).suffix.lower() in TABLES:
            yield from read_table(Path(source))
        else:
            yield from _photos(str(source), output, masks)


def read_table(path: Path) -> Iterator[Stated]:
    """The rows of a manifest, whose relative paths start at its folder."""
    kind, folder = TABLES[path.suffix.lower()], path.absolute().parent
    if kind == "Parquet":
        yield from _parquet(path, folder)
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The manifest {path} cannot be read: {error.strerror}.") from error
    yield from _jsonl(content, str(path), folder) if kind == "JSONL" else _csv(content, str(path), folder)


def _piped(content: bytes) -> Iterator[Stated]:
    read = _jsonl if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else _csv
    yield from read(content, "standard input", Path.cwd())


def _jsonl(content: bytes, name: str, folder: Path) -> Iterator[Stated]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield Stated({key: value for key, value in row.items() if value is not None}, where, folder)
        else:
            text = line.decode("utf-8", "backslashreplace")
            wrong = 'is no row; write an object on one line, {"photo": "a.jpg", "prompt": "a fox"}'
            yield Stated({"row": text}, where, folder, f"The line {where} {wrong}.")


def _csv(content: bytes, name: str, folder: Path) -> Iterator[Stated]:
    """Cells that are empty say nothing, and rows of such cells are none; a cell that begins like JSON's lists and
    objects is one, if it can be."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"The manifest {name} is not text in UTF-8; save it as CSV in UTF-8.") from error
    lines = list(io.StringIO(text, newline=""))
    empty = len(list(takewhile(lambda line: not line.strip(" ,;\t\r\n"), lines)))
    lines = lines[empty:]
    header = "".join(lines[:1])
    delimiter = max(",;\t", key=header.count)
    spaced = f"{delimiter} " in header  # else a text may begin with a space, and have quotes after it
    table = csv.DictReader(lines, delimiter=delimiter, restkey="", skipinitialspace=spaced, strict=True)
    try:
        names = [column.strip() for column in table.fieldnames or ()]
        if repeated := {column for column in names if column and names.count(column) > 1}:
            raise UsageError(f"The manifest {name} has the column {min(repeated)} more than once.")
        table.fieldnames = names
        for row in table:
            where = f"{name}:{empty + table.line_num}"
            wrong = f"The line {where} has more cells than there are columns; put a text with commas in quotes."
            surplus = any(row.pop("", None) or ())
            fields = {column: _cell(cell) for column, cell in row.items() if cell}
            if fields or surplus:
                yield Stated(fields, where, folder, wrong if surplus else "")
    except csv.Error as error:
        line = empty + table.line_num + 1
        raise UsageError(f"The manifest {name} is no CSV from line {line} on: {error}.") from error


def _cell(text: str) -> Any:
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text


def _parquet(path: Path, folder: Path) -> Iterator[Stated]:
    with extra("parquet"):
        import pyarrow
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as table:
            rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                given = {name: value for name, value in row.items() if value not in (None, "")}
                yield Stated(given, f"{path}:{number}", folder)
    except OSError as error:
        raise UsageError(f"The manifest {path} cannot be read: {error.strerror or error}.") from error
    except pyarrow.ArrowException as error:
        raise UsageError(f"The manifest {path} is no Parquet: {str(error).splitlines()[0]}.") from error


def _photos(source: str, output: Path, masks: Path | None) -> Iterator[Stated]:
    """A photo, those of a folder and its subfolders, or those that a pattern means; the `id` is the path from there."""
    path = Path(source)
    if path.is_dir():
        base, found = path, _among(path, _searched(path), output, masks)
    elif path.is_file():
        base, found = path.parent, [path]
    elif glob.has_magic(source):
        base = Path(*_before_magic(path.parts))
        found = _among(base, map(Path, glob.glob(source, recursive=True)), output, masks)
    else:
        raise UsageError(f"There is no {source}; name a manifest, a photo, a folder or a pattern in quotes.")
    listed = cache(_masks_in)
    for photo in found:
        inside = photo.relative_to(base)
        fields, wrong = {"photo": str(photo.absolute()), "id": inside.as_posix()}, ""
        if masks:
            try:
                fields["mask"] = str(_mask_of(inside, masks, listed))
            except PhotoError as error:
                wrong = str(error)
        yield Stated(fields, str(photo), base.absolute(), wrong)


def _among(base: Path, files: Iterable[Path], output: Path, masks: Path | None) -> list[Path]:
    """The photos among `files`, which lie in `base`, but for those in the folders of results and masks inside it."""
    own = [folder.resolve() for folder in (output, masks) if folder and folder.resolve() != base.resolve()]
    inner = [folder for folder in own if folder.is_relative_to(base.resolve())]

    def wanted(file: Path) -> bool:
        photo = file.suffix.lower() in PHOTOS and not file.name.startswith(".") and file.is_file()
        return photo and not any(file.resolve().is_relative_to(folder) for folder in inner)

    return sorted(filter(wanted, files))


def _searched(base: Path) -> list[Path]:
    """The files of a folder and its subfolders, but for what is hidden, what batches wrote into subfolders, by their
    ledgers, the pictures of their reports, and what the page keeps."""
    found = list(base.rglob("*"))
    ledgers = [file for file in found if any(map(file.match, LEDGERS))]
    inner = [file for file in ledgers if file.parent != base]
    made = {file.parent / name for file in inner for row in past(entries(file)).values() for name in row.written}
    kept = [*(file for file in found if file.name == HISTORY), *(file.parent / REPORT for file in ledgers)]

    def wanted(file: Path) -> bool:
        hidden = any(part.startswith(".") for part in file.relative_to(base).parts)
        return not hidden and file not in made and not any(file.is_relative_to(folder) for folder in kept)

    return list(filter(wanted, found))


def _before_magic(parts: tuple[str, ...]) -> list[str]:
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return list(parts[:first])


def _masks_in(folder: Path) -> dict[str, list[Path]]:
    """The masks in a folder, by their names without endings."""
    found = defaultdict[str, list[Path]](list)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in MASKS and path.is_file():
            found[path.stem].append(path)
    return found


def _mask_of(photo: Path, masks: Path, listed: Callable[[Path], Mapping[str, list[Path]]]) -> Path:
    """The mask that bears a photo's name, in the same subfolder of `masks` or in `masks` itself.

    Raises:
        PhotoError: none, or several.
    """
    for folder in dict.fromkeys((masks / photo.parent, masks)):
        found = listed(folder).get(photo.stem, [])
        if len(found) > 1:
            raise PhotoError(f"There are several masks for {photo}: {', '.join(map(str, found))}; leave one.")
        if found:
            return found[0].absolute()
    raise PhotoError(f"There is no mask for {photo} in {masks}; give it {photo.stem}.png.")
