"""How well things are taken out of pictures, where what is behind them is known.

Inside the thing's mask the result is compared with the truth, and the judge says whether it finds a thing there, that
one or what was put in its place. Every system is given the same mask, grown as `inlay remove` grows it. Beside the
systems stand the untouched `photo` and the `truth`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from skimage.metrics import structural_similarity

from ..editing.editor import Editor
from ..editing.fill import filled
from ..editing.job import RemoveJob, Setup, checked
from ..errors import PhotoError, UsageError
from ..guidance.methods import chained
from ..guidance.written import parse
from ..jobs.select import default_growth
from ..photos.photo import Photo
from ..photos.save import write_file
from ..segmentation.masks import grow
from .background import ROUNDED, psnr
from .estimates import Estimate, estimate
from .job import FILLINGS, RemoveEvaluation
from .making import SAMPLED, Maker, image_name
from .pictures import save_sheets
from .protocols import Scene
from .report import Columns, bounded, difference_matrix, ending, heading, markdown_rows, number, write_results
from .segmenters import Segmenter
from .systems import Difference, System, collect, differences, refuse_nothing
from .trial import prepare

PHOTO, TRUTH = "photo", "truth"
LEFT = 0.05
"""Share of the mask that the judge may take for a thing in an empty place: it is not sure of every pixel."""


@dataclass(frozen=True)
class RemovalScore:
    """Inside the thing's mask: `psnr` in dB and `ssim` against the truth, and the share that the judge takes for a
    thing, this one or another, that is not there in truth."""

    scene: str
    seed: int
    psnr: float
    ssim: float
    things: float

    @property
    def gone(self) -> float:
        """1 where the judge sees no thing to speak of, else 0."""
        return float(self.things < LEFT)


@dataclass(frozen=True)
class RemovalRow:
    """A system's line of the table; each estimate is over scenes."""

    method: str
    images: int
    psnr: Estimate
    ssim: Estimate
    things: Estimate
    gone: Estimate
    seconds: float | None
    unet_calls: float | None


@dataclass(frozen=True)
class RemovalTable:
    """What an evaluation of removal found; see `summary.Table`."""

    facts: Mapping[str, Any]
    rows: Sequence[RemovalRow]
    psnr: Sequence[Difference]
    things: Sequence[Difference]
    gone: Sequence[Difference]
    failures: Mapping[str, Mapping[str, str]]


class Remover(Maker):
    """A filling, or a method of removal, which `ground+METHOD` tells the ground's words."""

    @staticmethod
    def understood(method: str) -> object:
        if method in FILLINGS:
            return method
        named, rest = with_ground(method)
        return named, chained(parse(rest))

    def _make(self, scene: Scene, seed: int) -> Photo:
        assert isinstance(self.job, RemoveEvaluation)
        (mask,) = scene.masks
        photo, mask = Photo.open(scene.picture.file), grow(mask, default_growth(mask))
        if self.method in FILLINGS:
            return photo.with_patch(filled(photo.pixels, mask, self.method), mask)
        named, method = with_ground(self.method)
        if named and not scene.prompt:
            raise UsageError(f"The dataset does not say what {scene.name} stands on; leave out `ground`.")
        settings = self.job.model_dump(include={*SAMPLED, "strength", "fill"})
        job = checked(RemoveJob, prompt=scene.prompt if named else "", method=method, seed=seed, **settings)
        return self.editor.run(job, photo, mask).images[0]


def with_ground(method: str) -> tuple[bool, str]:
    """Whether a method is told the ground's words, and the method without that."""
    parts = method.split("+")
    return "ground" in parts, "+".join(part for part in parts if part != "ground") or "plain"


def measure_removal(
    job: RemoveEvaluation, output: Path, setup: Setup, editor: Editor | None, progress: bool
) -> RemovalTable:
    """See `inlay.evaluation.run.measure`."""
    trial = prepare(job, Remover, [PHOTO, TRUTH], output, setup, editor)

    def truth(scene: Scene, seed: int) -> tuple[Path, None]:
        file = output / "images" / TRUTH / f"{scene.name}.png"
        Photo.from_image(behind(scene)).save(file, overwrite=True)
        return file, None

    def score(scene: Scene, seed: int, image: UInt8[np.ndarray, "h w 3"], file: str) -> RemovalScore:
        return removal_score(scene, seed, image, trial.judge, file)

    sources = {PHOTO: lambda scene, seed: (scene.picture.file, None), TRUTH: truth, **trial.sources}
    systems = collect(sources, trial.scenes, job.seeds, score, progress)
    table = tabulate(trial.facts, systems)
    images = [{"method": name, **asdict(image.score)} for name, system in systems.items() for image in system.made]
    write_results({**asdict(table), "images": images}, output)
    save_sheets(systems, trial.scenes, output / "sheets")
    write_file(output / "report.md", markdown(table).encode())
    refuse_nothing({name: systems[name] for name in trial.sources})
    return table


def behind(scene: Scene) -> UInt8[np.ndarray, "h w 3"]:
    """The scene's picture without its thing."""
    (placement,) = scene.placements
    assert placement.segment.behind is not None
    photo, known = Photo.open(scene.picture.file), Photo.open(placement.segment.behind)
    if photo.size != known.size:
        raise PhotoError(f"{known.path} is {known.size} pixels and its picture {photo.size}; make them alike.")
    return known.pixels if known.alpha is None else np.where(known.alpha[..., None] > 0, known.pixels, photo.pixels)


def removal_score(
    scene: Scene, seed: int, image: UInt8[np.ndarray, "h w 3"], judge: Segmenter, file: str
) -> RemovalScore:
    """Compare an image with the scene's truth; `file` is its name where label maps are looked up."""
    truth, (mask,) = behind(scene), scene.masks
    if image.shape != truth.shape:
        raise UsageError(f"{file} has the shape {image.shape} and its scene {truth.shape}; bring it to that size.")
    window = min(7, *((side - 1) // 2 * 2 + 1 for side in mask.shape))
    similarity = structural_similarity(truth, image, channel_axis=-1, win_size=window, full=True)[1]
    seen, known = judge.label(image, file), judge.label(truth, image_name(TRUTH, seed, scene))
    things = sized(np.isin(seen, list(judge.classes.values())) & (seen != known), mask.shape)
    return RemovalScore(
        scene.name,
        seed,
        psnr=min(ROUNDED, psnr(truth[mask], image[mask])),
        ssim=float(similarity.mean(axis=-1)[mask].mean()),
        things=float(things[mask].mean()),
    )


def sized(where: Bool[np.ndarray, "h w"], size: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    """A place in a label map at another size (H, W), by nearest neighbour."""
    height, width = size
    return np.asarray(Image.fromarray(where).resize((width, height), Image.Resampling.NEAREST))


def tabulate(facts: Mapping[str, Any], systems: Mapping[str, System[RemovalScore]]) -> RemovalTable:
    """A row for each system that has images."""
    failures = {name: system.failed for name, system in systems.items() if system.failed}
    systems = {name: system for name, system in systems.items() if system.made}
    rows = [
        RemovalRow(
            name,
            len(system.made),
            estimate(list(system.over_scenes(_psnr).values())),
            estimate(list(system.over_scenes(lambda one: one.ssim).values())),
            estimate(list(system.over_scenes(_things).values())),
            estimate(list(system.over_scenes(_gone).values())),
            system.cost(lambda cost: cost.seconds),
            system.cost(lambda cost: cost.unet_calls),
        )
        for name, system in systems.items()
    ]
    psnr, things, gone = (differences(systems, value) for value in (_psnr, _things, _gone))
    return RemovalTable(facts, rows, psnr, things, gone, failures)


def _psnr(score: RemovalScore) -> float:
    return score.psnr


def _things(score: RemovalScore) -> float:
    return score.things


def _gone(score: RemovalScore) -> float:
    return score.gone


COLUMNS: Columns[RemovalRow] = {
    "images": lambda row: str(row.images),
    "PSNR inside (dB)": lambda row: bounded(row.psnr, 2),
    "SSIM inside": lambda row: bounded(row.ssim, 3),
    "things inside": lambda row: bounded(row.things, 3),
    "gone": lambda row: bounded(row.gone, 3),
    "seconds": lambda row: number(row.seconds, 2),
    "UNet evaluations": lambda row: number(row.unet_calls, 1),
}


def markdown(table: RemovalTable) -> str:
    """The table as a Markdown page."""
    parts = [
        heading(table.facts),
        markdown_rows(table.rows, COLUMNS),
        "PSNR and SSIM compare with the picture without the thing, inside the thing's mask; an exact copy has 58.9 dB. "
        "Things inside: the share of that mask that the judge takes for a thing, this one or another, and not "
        f"so in truth; gone: the share of images in which that is less than {LEFT:.0%}. In brackets the 95 % bootstrap "
        "interval over scenes.",
        difference_matrix("PSNR", table.rows, table.psnr),
        difference_matrix("things inside", table.rows, table.things),
        difference_matrix("what is gone", table.rows, table.gone),
        *ending(table.failures),
    ]
    return "\n\n".join(parts) + "\n"
