"""What a person looks at in the morning: `report.html` with before and after of every row, and `errors.jsonl`, a
manifest of the rows that failed."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8

from ..photos.save import write_file
from .ledger import Past
from .manifest import REPORT
from .rows import Row

SIDE = 256  # pixels of a picture's longer side in the report
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; color: #222 }
ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(20em, 1fr)); gap: 1.5em; padding: 0 }
li { list-style: none; overflow-wrap: anywhere } img { max-width: 100%; display: block } .failed { color: #a11 }
"""


def save_thumbnail(
    output: Path, id: str, before: UInt8[np.ndarray, "h w 3"] | None, after: UInt8[np.ndarray, "h w 3"]
) -> None:
    """Before and after of a row side by side, as the report shows them."""
    from PIL import Image

    pictures = [Image.fromarray(picture) for picture in (before, after) if picture is not None]
    for picture in pictures:
        picture.thumbnail((SIDE, SIDE))
    width, height = sum(picture.width for picture in pictures), max(picture.height for picture in pictures)
    page = Image.new("RGB", (width, height), "white")
    left = 0
    for picture in pictures:
        page.paste(picture, (left, 0))
        left += picture.width
    content = io.BytesIO()
    page.save(content, "JPEG", quality=85)
    write_file(output / thumbnail(id), content.getvalue())


def thumbnail(id: str) -> str:
    """The name of a row's picture, in the output folder."""
    return f"{REPORT}/{sha256(id.encode()).hexdigest()[:16]}.jpg"


def save_report(output: Path, mark: str, rows: Sequence[Row], ledger: dict[str, Past]) -> None:
    """Write `report.html` and `errors.jsonl` (without failed rows there is none); `mark` tells one shard from another.
    Rows that were read from that very `errors.jsonl` and not yet done stay in it.

    Raises:
        PhotoError: the disk refuses.
    """
    errors = output / f"errors{mark}.jsonl"
    ours = os.path.realpath(errors)

    def to_mend(row: Row) -> bool:
        how = state(row, ledger)
        return how == "failed" or (not how and os.path.realpath(row.where.rpartition(":")[0]) == ours)

    kept = [row for row in rows if to_mend(row)]
    if kept:
        write_file(errors, "".join(as_manifest(row, ledger) for row in kept).encode())
    else:
        errors.unlink(missing_ok=True)
    write_file(output / f"report{mark}.html", page(output, rows, ledger).encode("utf-8", "backslashreplace"))


def state(row: Row, ledger: dict[str, Past]) -> str:
    past = ledger.get(row.id)
    return "failed" if row.error else past.state if past else ""


def reason(row: Row, ledger: dict[str, Past]) -> str:
    return row.error or str(ledger.get(row.id, Past()).ended.get("error", ""))


def as_manifest(row: Row, ledger: dict[str, Past]) -> str:
    """A row as a line of a manifest that can be run as it is, once it is mended."""
    output = {"output": str(row.output)} if row.output else {}
    said = {"id": row.id, **output, **row.fields, "error": reason(row, ledger)}
    return json.dumps(said, default=as_json) + "\n"


def as_json(value: object) -> object:
    """What a Python caller gave beyond JSON's own kinds."""
    return value.model_dump(exclude_unset=True) if hasattr(value, "model_dump") else str(value)


def page(output: Path, rows: Sequence[Row], ledger: dict[str, Past]) -> str:
    """The report as one page that refers to the pictures beside it."""
    states = [state(row, ledger) for row in rows]
    counts = f"{states.count('done')} done, {states.count('failed')} failed, {states.count('')} to do"
    first = sorted(zip(states, rows, strict=True), key=lambda one: one[0] != "failed")
    items = "\n".join(item(output, row, how, ledger) for how, row in first if how)
    return (
        f'<!doctype html>\n<meta charset="utf-8">\n<title>{counts}</title>\n<style>{STYLE}</style>\n'
        f"<h1>{counts}</h1>\n<ul>\n{items}\n</ul>\n"
    )


def item(output: Path, row: Row, how: str, ledger: dict[str, Past]) -> str:
    prompt = escape(str(row.fields.get("prompt", "")))
    if how == "failed":
        where = escape(row.where)
        return f'<li class="failed"><b>{escape(row.id)}</b> ({where})<br>{escape(reason(row, ledger))}<br>{prompt}</li>'
    names = list(ledger[row.id].outputs)
    links = ", ".join(f'<a href="{quote(name)}">{escape(name)}</a>' for name in names)
    picture = f'<img loading="lazy" src="{thumbnail(row.id)}" alt="before and after">'
    shown = f'<a href="{quote(names[0])}">{picture}</a>' if names else picture
    return f"<li>{shown}{links}<br>{prompt}</li>"
