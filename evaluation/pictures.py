"""Pictures of a table: contact sheets of layouts beside what each system made of them, and the trade-off plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..errors import extra
from ..photos.photo import Photo
from .protocols import Scene
from .summary import Row, System

with extra("evaluate"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCENES_PER_SHEET = 8
INCHES = 1.6
COLOURS = np.array(
    [[228, 26, 28], [55, 126, 184], [77, 175, 74], [152, 78, 163], [255, 127, 0], [255, 214, 51], [166, 86, 40]],
    dtype=np.uint8,
)


def save_sheets(systems: Mapping[str, System], scenes: Sequence[Scene], folder: Path) -> None:
    """Write `sheet-1.jpg` …: a line per scene with its layout, then the first image of each system."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, len(scenes), SCENES_PER_SHEET), start=1):
        figure = _sheet(systems, scenes[first : first + SCENES_PER_SHEET])
        figure.savefig(folder / f"sheet-{number}.jpg", dpi=100, pil_kwargs={"quality": 88})


def _sheet(systems: Mapping[str, System], scenes: Sequence[Scene]) -> Figure:
    columns = len(systems) + 1
    figure = Figure(figsize=(INCHES * columns, (INCHES + 0.25) * len(scenes) + 0.3), layout="constrained")
    grid = figure.subplots(len(scenes), columns, squeeze=False)
    for line, scene in zip(grid, scenes, strict=True):
        _show(line[0], layout_picture(scene))
        line[0].set_xlabel(scene.prompt, fontsize=6, wrap=True, loc="left")
        for axes, system in zip(line[1:], systems.values(), strict=True):
            files = [image.file for image in system.made if image.score.scene == scene.name]
            _show(axes, Photo.open(files[0]).pixels if files else None)
    for axes, title in zip(grid[0], ["layout", *systems], strict=True):
        axes.set_title(title.replace("+", "\n+").replace(":", "\n"), fontsize=7)
    return figure


def layout_picture(scene: Scene) -> UInt8[np.ndarray, "h w 3"]:
    """The scene's masks in colours, one per place, later over earlier, on light grey."""
    picture = np.full((*scene.masks[0].shape, 3), 235, dtype=np.uint8)
    for index, mask in enumerate(scene.masks):
        picture[mask] = COLOURS[index % len(COLOURS)]
    return picture


def _show(axes: Axes, image: UInt8[np.ndarray, "h w 3"] | None) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if image is not None:
        axes.imshow(image)


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
