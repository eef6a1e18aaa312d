"""What every evaluation begins with: scenes of a dataset, who judges them, and where each system's images come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..editing.editor import Editor
from ..editing.job import Setup
from ..errors import UsageError
from ..jobs.perform import editor_for
from .datasets import open_dataset
from .job import AnyEvaluation, expand_sweep, once
from .making import SAMPLED, ImageFolder, Maker, Source
from .protocols import Scene, select_scenes
from .segmenters import Segmenter, load_segmenter


@dataclass(frozen=True)
class Trial:
    """`sources`: of methods and of folders of images, by name; `swept`: the methods of the sweep; `facts`: for the
    report."""

    scenes: Sequence[Scene]
    judge: Segmenter
    sources: Mapping[str, Source]
    swept: Sequence[str]
    facts: Mapping[str, Any]


def prepare(
    job: AnyEvaluation, maker: type[Maker], own: Sequence[str], output: Path, setup: Setup, editor: Editor | None
) -> Trial:
    """The trial that a job asks for, its images made by `maker`; `own` names the systems that the evaluation adds.

    Raises:
        UsageError: a dataset, method or parameter that is not there, two systems of one name, or no scene that can be
            scored.
        ModelError: weights of the editor or the judge are missing.
    """
    swept = expand_sweep(job.sweep) if job.sweep else ()
    methods = (*job.methods, *swept)
    for method in methods:
        maker.understood(method)  # refuses unknown ones before the long work
    if not (methods or job.images):
        raise UsageError("There is nothing to evaluate; name methods, a sweep, or folders of images.")
    once((*own, *methods, *job.images))
    dataset = open_dataset(job.dataset)
    suited, left_out = select_scenes(dataset, job.protocol)
    judge = load_segmenter(job.judge, dataset.categories)
    known = [scene for scene in suited if scene.categories <= judge.classes.keys()]
    if len(known) < len(suited):
        left_out["a class that the judge does not know"] = len(suited) - len(known)
    if not known:
        raise UsageError(f"{judge.name} knows the classes of none of the scenes; name another judge.")
    scenes = _sample(known, job.limit)
    sources: dict[str, Source] = {}
    if methods:
        editor = editor or editor_for(job.model, setup, job.adapters)
        sources = {name: maker(editor, name, job, output) for name in methods}
    sources |= {name: ImageFolder(folder) for name, folder in job.images.items()}
    model = editor.model if methods and editor else None
    facts = {
        "task": job.action,
        "dataset": dataset.name,
        "protocol": job.protocol,
        "scenes": len(scenes),
        "left out": left_out,
        "judge": judge.name,
        "model": f"{model.name} {model.fingerprint}" if model else None,
        "dtype": str(model.dtype).removeprefix("torch.") if model else None,
        "adapters": model.marks if model else {},
        "lora": [f"{name}:{scale:g}" for name, scale in model.adapters.lora] if model else [],
        "seeds": list(job.seeds),
        "versions": {name: version(name) for name in ("inlay", "torch", "diffusers", "transformers")},
        **job.model_dump(include={*SAMPLED, "size", "strength", "fill"}),
    }
    return Trial(scenes, judge, sources, swept, facts)


def _sample(scenes: Sequence[Scene], limit: int | None) -> list[Scene]:
    chosen = np.random.default_rng(0).permutation(len(scenes))[:limit]
    return [scenes[index] for index in sorted(chosen)]
