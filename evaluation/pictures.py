"""Pictures of a table: contact sheets of layouts beside what each system made of them, and the trade-off plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import extra
from ..photos.overlay import overlay
from ..photos.photo import Photo
from ..photos.sheet import Cell, sheet
from .protocols import Scene
from .summary import Row
from .systems import ScoreT, System

with extra("evaluate"):
    from matplotlib.figure import Figure

SCENES_PER_SHEET = 8
CELL = 160


def save_sheets(systems: Mapping[str, System[ScoreT]], scenes: Sequence[Scene], folder: Path) -> None:
    """Write `sheet-1.jpg` …: a line per scene with its layout, then the first image of each system."""
    for number, first in enumerate(range(0, len(scenes), SCENES_PER_SHEET), start=1):
        rows = [_row(systems, scene) for scene in scenes[first : first + SCENES_PER_SHEET]]
        titles = ["layout", *(title.replace("+", " +").replace(":", ": ") for title in systems)]
        page = sheet(rows, titles, cell=CELL)
        Photo.from_image(page).save(folder / f"sheet-{number}.jpg", overwrite=True, quality=88)


def _row(systems: Mapping[str, System[ScoreT]], scene: Scene) -> list[Cell]:
    grey = np.full((*scene.masks[0].shape, 3), 235, np.uint8)
    row: list[Cell] = [(overlay(grey, scene.masks, opacity=1), scene.prompt)]
    for system in systems.values():
        files = [image.file for image in system.made if image.score.scene == scene.name]
        row.append((Photo.open(files[0]).pixels if files else None, ""))
    return row


def save_trade_off(rows: Sequence[Row], swept: Sequence[str], features: str, file: Path) -> None:
    """mIoU with its interval against the Fréchet distance, a point per row; the values of a sweep are joined."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    line: list[tuple[float, float]] = []
    for row in rows:
        if row.frechet is None:
            continue
        if row.method in swept:
            line.append((row.frechet, row.miou.mean))
        low, high = row.miou.low or row.miou.mean, row.miou.high or row.miou.mean
        bars = [[row.miou.mean - low], [high - row.miou.mean]]
        axes.errorbar(row.frechet, row.miou.mean, yerr=bars, fmt="o", color="C1" if row.method in swept else "C0")
        axes.annotate(row.method, (row.frechet, row.miou.mean), xytext=(5, 4), textcoords="offset points", fontsize=7)
    axes.plot(*np.reshape(line, (-1, 2)).T, color="C1", linewidth=1)
    axes.set(xlabel=f"Fréchet distance of {features} features (lower is better)", ylabel="mIoU (higher is better)")
    axes.grid(alpha=0.3)
    axes.margins(x=0.3, y=0.1)  # room for the names
    figure.savefig(file, dpi=120)
