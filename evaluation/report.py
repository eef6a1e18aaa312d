"""What an evaluation leaves behind: `results.json` with every number, `report.md` to read, and pictures."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..photos.save import write_file
from .estimates import Estimate
from .pictures import save_sheets, save_trade_off
from .protocols import Scene
from .scoring import FOUND, Score
from .summary import Row, Table
from .systems import Difference, System


def write_report(
    table: Table, systems: Mapping[str, System[Score]], scenes: Sequence[Scene], swept: Sequence[str], output: Path
) -> None:
    """Write the table into the folder `output`, with contact sheets and the trade-off plot where it has points."""
    write_results({**asdict(table), "images": _images(systems)}, output)
    save_sheets(systems, scenes, output / "sheets")
    plot = sum(row.frechet is not None for row in table.rows) > 1
    if plot:
        save_trade_off(table.rows, swept, table.facts["features"], output / "trade-off.png")
    (output / "report.md").write_text(markdown(table, plot), encoding="utf-8")


def _images(systems: Mapping[str, System[Score]]) -> list[dict[str, Any]]:
    return [
        {
            "method": name,
            "scene": image.score.scene,
            "seed": image.score.seed,
            "miou": image.score.miou,
            "recall": image.score.recall,
            "apart": image.score.apart,
            "class_iou": {category: overlap.iou for category, overlap in image.score.overlaps.items()},
            "clip_score": image.score.clip_score,
            "background": asdict(image.score.background) if image.score.background else None,
            "lpips": image.score.lpips,
            "cost": asdict(image.cost) if image.cost else None,
        }
        for name, system in systems.items()
        for image in system.made
    ]


def write_results(record: Mapping[str, Any], output: Path) -> None:
    """Write `results.json` into a folder, which is made."""
    text = json.dumps(_finite(record), indent=1, ensure_ascii=False)
    write_file(output / "results.json", text.encode())


def _finite(value: Any) -> Any:
    """JSON has no infinity: a PSNR without error becomes null."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


RowT = TypeVar("RowT", bound="Named")
Columns = Mapping[str, Callable[[RowT], str | None]]
"""How each cell of a row is written, by the column's title."""


class Named(Protocol):
    """A row of a table."""

    @property
    def method(self) -> str: ...


COLUMNS: Columns[Row] = {
    "images": lambda row: str(row.images),
    "mIoU ± deviation": lambda row: f"{row.miou.mean:.3f} ± {row.miou.deviation:.3f}",
    "95 % interval": lambda row: _interval(row.miou),
    "pooled mIoU": lambda row: f"{row.pooled_miou:.3f}",
    "classes found": lambda row: f"{row.recall:.1%}",
    "instances apart": lambda row: None if row.apart is None else f"{row.apart:.1%}",
    "Fréchet distance": lambda row: number(row.frechet, 2),
    "CLIP score": lambda row: number(row.clip_score, 1),
    "background PSNR (dB)": lambda row: number(row.psnr, 1),
    "background SSIM": lambda row: number(row.ssim, 4),
    "background LPIPS": lambda row: number(row.lpips, 4),
    "background changed": lambda row: None if row.changed is None else f"{row.changed:.2%}",
    "seconds": lambda row: number(row.seconds, 2),
    "UNet evaluations": lambda row: number(row.unet_calls, 1),
}


def markdown(table: Table, plot: bool = False) -> str:
    """The table as a Markdown page; columns that no row has are left out."""
    facts = table.facts
    parts = [
        heading(facts),
        markdown_rows(table.rows, COLUMNS),
        "mIoU: the mean over scenes of the mean over their classes, spill counted, with its standard deviation over "
        "scenes and a bootstrap interval over scenes; pooled mIoU: pixels pooled per class over all images, then the "
        "mean over classes. Classes found: the share of the classes asked for that cover, wherever, at least "
        f"{FOUND:.0%} of the area asked for. Instances apart: of the images with several instances of a class, those "
        "in which each is at least half covered by its class, by a connected part of its own. The Fréchet distance "
        f"compares {facts['features']} features with those of the dataset's own images. A UNet evaluation is one "
        "forward of one image; backward passes are not counted.",
        difference_matrix("mIoU", table.rows, table.differences),
        "## IoU per class (pooled)\n\n" + _classes(table.rows),
    ]
    if plot:
        parts.append("![mIoU against Fréchet distance](trade-off.png)")
    return "\n\n".join([*parts, *ending(table.failures)]) + "\n"


def heading(facts: Mapping[str, Any]) -> str:
    """A report's title and facts."""
    lines = [f"- {name}: {_fact(value)}" for name, value in facts.items() if value not in (None, [], {})]
    title = f"# {facts['task'].capitalize()}: {facts['dataset']}, protocol `{facts['protocol']}`"
    return "\n".join([title, "", *lines])


def ending(failures: Mapping[str, Mapping[str, str]]) -> Sequence[str]:
    """A report's last parts: what could not be made or scored, and the first sheet."""
    lines = [
        f"- `{name}`: {len(reasons)}; the first, {next(iter(reasons))}: {next(iter(reasons.values()))}"
        for name, reasons in failures.items()
    ]
    missing = ["## Images that were not made or scored\n\n" + "\n".join(lines)] if lines else []
    return [*missing, "![contact sheet](sheets/sheet-1.jpg)"]


def markdown_rows(rows: Sequence[RowT], columns: Columns[RowT]) -> str:
    """A row per system; columns that no row has are left out."""
    cells = {title: [show(row) for row in rows] for title, show in columns.items()}
    shown = {title: column for title, column in cells.items() if any(column)}
    lines = [[f"`{row.method}`", *(column[index] or "" for column in shown.values())] for index, row in enumerate(rows)]
    return _markdown_table(["method", *shown], lines)


def difference_matrix(what: str, rows: Sequence[Named], differences: Sequence[Difference]) -> str:
    """Every two systems' difference in a value."""
    methods = [row.method for row in rows]
    found = {(difference.method, difference.against): difference.gain for difference in differences}
    lines = [
        [f"`{method}`", *(_difference(found.get((method, against))) for against in methods[:-1])]
        for method in methods[1:]
    ]
    explained = "Row minus column over the scenes that both have; bold where the 95 % interval excludes 0."
    table = _markdown_table(["", *(f"`{against}`" for against in methods[:-1])], lines)
    return f"## Differences in {what}\n\n{explained}\n\n{table}"


def _difference(gain: Estimate | None) -> str:
    if gain is None:
        return ""
    text = f"{gain.mean:+.3f}"
    certain = gain.low is not None and gain.high is not None and gain.low * gain.high > 0
    return f"**{text}**" if certain else text


def _classes(rows: Sequence[Row]) -> str:
    classes = sorted({name for row in rows for name in row.class_iou})
    lines = [[name, *(number(row.class_iou.get(name), 3) or "" for row in rows)] for name in classes]
    return _markdown_table(["class", *(f"`{row.method}`" for row in rows)], lines)


def _markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def _interval(estimate: Estimate, digits: int = 3) -> str | None:
    if estimate.low is None or estimate.high is None:
        return None
    return f"{estimate.low:.{digits}f} … {estimate.high:.{digits}f}"


def bounded(estimate: Estimate, digits: int) -> str:
    """A mean with its 95 % bootstrap interval in brackets."""
    within = _interval(estimate, digits)
    return f"{estimate.mean:.{digits}f}" + (f" ({within})" if within else "")


def number(value: float | None, digits: int) -> str | None:
    """A value, "exact" where it is infinite."""
    return None if value is None else "exact" if math.isinf(value) else f"{value:.{digits}f}"


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
