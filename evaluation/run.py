"""The papers' tables: make an image for every scene, method and seed, score them all, write what was found."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float

from ..editing.editor import Editor
from ..editing.job import Setup, checked
from ..errors import ModelError, UsageError
from ..guidance.methods import chained
from ..guidance.written import parse
from ..jobs.perform import editor_for
from ..photos.photo import Photo
from .datasets import Dataset, open_dataset
from .features import Clip, Lpips, load_features
from .job import EVALUATIONS, REAL, EditEvaluation, Evaluation, expand_sweep, once
from .making import ImageFolder, Maker, Source
from .protocols import Scene, select_scenes
from .report import write_report
from .scoring import Scorer
from .segmenters import load_segmenter
from .summary import Table, tabulate
from .systems import collect, refuse_nothing

ItemT = TypeVar("ItemT")


def evaluate(
    action: Literal["generate", "edit"],
    dataset: str | Path = "toybox",
    *,
    output: Path,
    editor: Editor | None = None,
    progress: bool = False,
    **settings: Any,
) -> Table:
    """Measure methods on a dataset in COCO format; see `measure`.

    Args:
        dataset: a folder or instances file, or `toybox` for the embedded benchmark.
        settings: fields of `inlay.evaluation.job.GenerateEvaluation` or `EditEvaluation`, which says what each means.
    """
    job = checked(EVALUATIONS[action], dataset=dataset, **settings)
    return measure(job, output, editor=editor, progress=progress)


def measure(
    job: Evaluation, output: Path, setup: Setup = Setup(), *, editor: Editor | None = None, progress: bool = False
) -> Table:
    """Do an evaluation; write `results.json`, `report.md`, contact sheets and a plot into the folder `output`.

    An interrupted run goes on where it was: images whose settings are unchanged are kept in `output/images`. The
    dataset's own images are scored beside the methods: what the judge finds where everything is in its place.

    Args:
        editor: a loaded model, used in place of `job.model`.

    Raises:
        UsageError: a dataset, method or parameter that is not there, two systems of one name, or no scene that can be
            scored.
        ModelError: weights of the editor, the judge or the feature network are missing.
        InlayError: no image at all could be made or scored; the report says why.
    """
    swept = expand_sweep(job.sweep) if job.sweep else ()
    methods = once((*job.methods, *swept))
    for method in methods:
        chained(parse(method))  # refuses unknown ones before the long work
    if not (methods or job.images):
        raise UsageError("There is nothing to evaluate; name methods, a sweep, or folders of images.")
    names = once((REAL, *methods, *job.images))
    collection = open_dataset(job.dataset)
    suited, left_out = select_scenes(collection, job.protocol)
    scorer, notes = _load_scorer(collection, job)
    scenes = _sample(_scorable(suited, scorer, left_out), job.limit)
    sources: dict[str, Source] = {REAL: lambda scene, seed: (scene.picture.file, None)}
    if methods:
        editor = editor or editor_for(job.model, setup)
        sources |= {name: Maker(editor, name, job, output) for name in methods}
    sources |= {name: ImageFolder(folder) for name, folder in job.images.items()}
    systems = collect(sources, scenes, job.seeds, scorer, progress)
    facts = {
        "task": job.action,
        "dataset": collection.name,
        "protocol": job.protocol,
        "scenes": len(scenes),
        "left out": left_out,
        "judge": scorer.segmenter.name,
        "features": scorer.network.name,
        "model": f"{editor.model.name} {editor.model.fingerprint}" if methods and editor else None,
        "seeds": list(job.seeds),
        "steps": job.steps,
        "guidance scale": job.guidance_scale,
        "size": getattr(job, "size", None),
        "notes": notes,
        "versions": {name: version(name) for name in ("inlay", "torch", "diffusers", "transformers")},
    }
    table = tabulate(facts, systems, _reference(scenes, scorer), real=REAL)
    write_report(table, systems, scenes, swept, output)
    refuse_nothing({name: systems[name] for name in names[1:]})
    return table


def _reference(scenes: Sequence[Scene], scorer: Scorer) -> Float[np.ndarray, "n d"] | None:
    """The features of the dataset's own images of the scenes, where it has any."""
    files = [scene.picture.file for scene in scenes if scene.picture.file.is_file()]
    return np.stack([scorer.network.features(Photo.open(file).pixels) for file in files]) if files else None


def _load_scorer(dataset: Dataset, job: Evaluation) -> tuple[Scorer, list[str]]:
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
    networks = load_segmenter(job.judge, dataset.categories), load_features(job.features)
    return Scorer(*networks, score, lpips, edit), notes


def _scorable(scenes: Sequence[Scene], scorer: Scorer, left_out: dict[str, int]) -> list[Scene]:
    known = [scene for scene in scenes if scorer.knows(scene)]
    if len(known) < len(scenes):
        left_out["a class that the judge does not know"] = len(scenes) - len(known)
    if not known:
        raise UsageError(f"{scorer.segmenter.name} knows the classes of none of the scenes; name another judge.")
    return known


def _sample(scenes: Sequence[Scene], limit: int | None) -> list[Scene]:
    chosen = np.random.default_rng(0).permutation(len(scenes))[:limit]
    return [scenes[index] for index in sorted(chosen)]
