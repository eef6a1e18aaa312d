"""The papers' tables: make an image for every scene, method and seed, score them all, write what was found."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float

from ..editing.editor import Editor
from ..editing.job import Setup, checked
from ..errors import InlayError, ModelError, UsageError
from ..photos.photo import Photo
from .features import Clip, Lpips, load_features
from .job import EVALUATIONS, REAL, AnyEvaluation, EditEvaluation, GenerateEvaluation, RemoveEvaluation
from .making import Maker
from .protocols import Scene
from .removal import RemovalTable, measure_removal
from .report import write_report
from .scoring import Scorer
from .segmenters import Segmenter
from .summary import Table, tabulate
from .systems import collect, refuse_nothing
from .trial import prepare

ItemT = TypeVar("ItemT")


def evaluate(
    action: Literal["generate", "edit", "remove"],
    dataset: str | Path = "toybox",
    *,
    output: str | Path,
    editor: Editor | None = None,
    progress: bool = False,
    **settings: Any,
) -> Table | RemovalTable:
    """Measure methods on a dataset in COCO format; see `measure`.

    Args:
        dataset: a folder or instances file, or `toybox` for the embedded benchmark.
        settings: fields of the action's record in `inlay.evaluation.job`, which says what each means.
    """
    if action not in EVALUATIONS:
        raise UsageError(f"There is no evaluation {action!r}; choose one of {', '.join(EVALUATIONS)}.")
    job = checked(EVALUATIONS[action], dataset=dataset, **settings)
    return measure(job, Path(output), editor=editor, progress=progress)


def measure(
    job: AnyEvaluation, output: Path, setup: Setup = Setup(), *, editor: Editor | None = None, progress: bool = False
) -> Table | RemovalTable:
    """Do an evaluation; write `results.json`, `report.md`, contact sheets and a plot into the folder `output`.

    An interrupted run goes on where it was: images whose settings are unchanged are kept in `output/images`. The
    dataset's own images are scored beside the methods: what the judge finds where everything is in its place.

    Args:
        editor: a loaded model, used in place of `job.model` and what would be loaded onto it.

    Raises:
        UsageError: a dataset, method or parameter that is not there, two systems of one name, or no scene that can be
            scored.
        ModelError: weights of the editor, the judge or the feature network are missing.
        InlayError: no image at all could be made or scored; the report says why.
    """
    if isinstance(job, RemoveEvaluation):
        return measure_removal(job, output, setup, editor, progress)
    trial = prepare(job, Maker, [REAL], output, setup, editor)
    scorer, notes = _load_scorer(job, trial.judge)
    sources = {REAL: lambda scene, seed: (scene.picture.file, None), **trial.sources}
    systems = collect(sources, trial.scenes, job.seeds, scorer, progress)
    facts = {**trial.facts, "features": scorer.network.name, "notes": notes}
    table = tabulate(facts, systems, _reference(trial.scenes, scorer), real=REAL)
    write_report(table, systems, trial.scenes, trial.swept, output)
    refuse_nothing({name: systems[name] for name in trial.sources})
    return table


def _reference(scenes: Sequence[Scene], scorer: Scorer) -> Float[np.ndarray, "n d"] | None:
    """The features of the dataset's own images of the scenes, of those that are there and whole."""
    found = []
    for scene in scenes:
        with suppress(InlayError):
            found.append(scorer.network.features(Photo.open(scene.picture.file).pixels))
    return np.stack(found) if found else None


def _load_scorer(job: GenerateEvaluation | EditEvaluation, judge: Segmenter) -> tuple[Scorer, list[str]]:
    """The scorer, and a sentence for each metric that is left out because its weights are not at hand."""
    notes: list[str] = []

    def optional(load: Callable[[], ItemT], metric: str) -> ItemT | None:
        try:
            return load()
        except ModelError as error:
            notes.append(f"No {metric}: {error}")
            return None

    edit = isinstance(job, EditEvaluation)
    score = optional(lambda: Clip(job.clip), "CLIP score")
    lpips = optional(Lpips, "LPIPS") if edit else None
    return Scorer(judge, load_features(job.features), score, lpips, edit), notes
