"""The papers' tables: make an image for every scene, method and seed, score them all, write what was found."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import track

from ..errors import ModelError, PhotoError, UsageError
from .datasets import Dataset, open_dataset
from .features import CLIP, Clip, Lpips, load_features
from .making import ImageFolder, Maker, Settings, Source, image_name
from .methods import expand_sweep, parse_method
from .protocols import EDIT_PROTOCOLS, GENERATE_PROTOCOLS, Scene, select_scenes
from .report import write_report
from .scoring import Scorer, open_image
from .segmenters import load_segmenter
from .summary import Made, System, Table, tabulate

if TYPE_CHECKING:
    from ..editing.editor import Editor

REAL = "real"
ItemT = TypeVar("ItemT")


def evaluate(
    task: Literal["generate", "edit"],
    dataset: str | Path = "toybox",
    *,
    output: Path,
    methods: Sequence[str] = (),
    sweep: str | None = None,
    folders: Mapping[str, Path] | None = None,
    editor: "Editor | None" = None,
    protocol: str | None = None,
    segmenter: str = "judge",
    features: str = "judge",
    clip: str = "clip",
    limit: int | None = None,
    seeds: Sequence[int] = (0,),
    steps: int = 25,
    guidance_scale: float | None = None,
    size: tuple[int, int] | None = None,
    progress: bool = False,
) -> Table:
    """Measure methods on a dataset in COCO format; write `results.json`, `report.md`, contact sheets and a plot.

    An interrupted run goes on where it was: images whose settings are unchanged are kept in `output/images`. The
    dataset's own images are scored beside the methods: what the segmenter finds where everything is in its place.

    Args:
        dataset: a folder or instances file, or `toybox` for the embedded benchmark.
        methods: names as `inlay.evaluation.methods` reads them.
        sweep: one more method, one of whose values is a list, as `masked-attention:strength=0.01,0.04`.
        folders: systems by name that are scored by a folder of images made elsewhere, named as the dataset's.
        editor: what makes the images; default the embedded model.
        protocol: see `inlay.evaluation.protocols`; default `all` to generate and `same` to edit.
        segmenter: toybox's `judge` or `guide`, a transformers model by id or folder, or a folder of label maps.
        features: the network of the Fréchet distance: `judge`, `inception`, `clip`, or a CLIP model by id or folder.
        clip: the model of the CLIP score, which is left out where its weights are not at hand.
        limit: how many scenes at most, chosen at random but always the same; a larger limit includes a smaller's.
        seeds: one image per scene, method and seed.
        guidance_scale: of classifier-free guidance; default the editor's.
        size: (H, W) whose area images are generated at, in the scenes' aspects; default the model's own.

    Raises:
        UsageError: a dataset, protocol, method or parameter that is not there, or no scene that can be scored.
        ModelError: weights of the editor, the segmenter or the feature network are missing.
    """
    protocols = EDIT_PROTOCOLS if task == "edit" else GENERATE_PROTOCOLS
    protocol = protocol or next(iter(protocols))
    if protocol not in protocols:
        raise UsageError(f"There is no protocol '{protocol}' to {task}; choose from {', '.join(protocols)}.")
    swept = expand_sweep(sweep) if sweep else []
    guidances = {name: parse_method(name) for name in [*methods, *swept]}
    if not (guidances or folders):
        raise UsageError("There is nothing to evaluate; name methods, a sweep, or folders of images.")
    collection = open_dataset(dataset)
    suited, left_out = select_scenes(collection, protocol)
    scorer, notes = _load_scorer(collection, segmenter, features, clip, task == "edit")
    scenes = _sample(_scorable(suited, scorer, left_out), limit)
    settings = Settings(task == "edit", steps, guidance_scale, size)
    editor = editor or (_toybox() if guidances else None)

    sources: dict[str, Source] = {REAL: lambda scene, seed: (scene.picture.file, None)}
    if editor:
        sources |= {name: Maker(editor, name, guidances[name], output, settings) for name in guidances}
    sources |= {name: ImageFolder(folder) for name, folder in (folders or {}).items()}
    systems = _run(sources, scenes, seeds, scorer, progress)
    reference = _reference(scenes, scorer)

    facts = {
        "task": task,
        "dataset": collection.name,
        "protocol": protocol,
        "scenes": len(scenes),
        "left out": left_out,
        "segmenter": scorer.segmenter.name,
        "features": scorer.network.name,
        "model": f"{editor.model.name} {editor.model.fingerprint}" if editor else None,
        "seeds": list(seeds),
        "steps": steps,
        "guidance scale": guidance_scale,
        "size": size,
        "notes": notes,
        "versions": {name: version(name) for name in ("inlay", "torch", "diffusers", "transformers")},
    }
    table = tabulate(facts, systems, reference, real=REAL)
    write_report(table, systems, scenes, swept, output)
    return table


def _run(
    sources: Mapping[str, Source], scenes: Sequence[Scene], seeds: Sequence[int], scorer: Scorer, progress: bool
) -> dict[str, System]:
    """Get and score every image; what fails for a reason that can be told is counted, the rest goes on."""
    systems = {name: System() for name in sources}
    runs = [(scene, seed, name) for scene in scenes for seed in seeds for name in sources]
    for scene, seed, name in track(runs, "images", console=Console(stderr=True), disable=not progress):
        if seed != seeds[0] and not isinstance(sources[name], Maker):
            continue
        try:
            file, cost = sources[name](scene, seed)
            score = scorer(scene, seed, open_image(file), image_name(name, seed, scene))
        except (UsageError, PhotoError) as error:
            systems[name].failed[f"{scene.name}, seed {seed}"] = str(error)
        else:
            systems[name].made.append(Made(score, file, cost))
    return systems


def _reference(scenes: Sequence[Scene], scorer: Scorer) -> Float[np.ndarray, "n d"] | None:
    """The features of the dataset's own images of the scenes, where it has any."""
    files = [scene.picture.file for scene in scenes if scene.picture.file.is_file()]
    return np.stack([scorer.network.features(open_image(file)) for file in files]) if files else None


def _load_scorer(dataset: Dataset, segmenter: str, features: str, clip: str, edit: bool) -> tuple[Scorer, list[str]]:
    """The scorer, and a sentence for each metric that is left out because its weights are not at hand."""
    notes: list[str] = []

    def optional(load: Callable[[], ItemT], metric: str) -> ItemT | None:
        try:
            return load()
        except ModelError as error:
            notes.append(f"No {metric}: {error}")
            return None

    score = optional(lambda: Clip(CLIP if clip == "clip" else clip), "CLIP score")
    lpips = optional(Lpips, "LPIPS") if edit else None
    networks = load_segmenter(segmenter, dataset.categories), load_features(features)
    return Scorer(*networks, score, lpips, edit), notes


def _scorable(scenes: Sequence[Scene], scorer: Scorer, left_out: dict[str, int]) -> list[Scene]:
    known = [scene for scene in scenes if scorer.knows(scene)]
    if len(known) < len(scenes):
        left_out["a class that the segmenter does not know"] = len(scenes) - len(known)
    if not known:
        raise UsageError(f"{scorer.segmenter.name} knows the classes of none of the scenes; name another segmenter.")
    return known


def _sample(scenes: Sequence[Scene], limit: int | None) -> list[Scene]:
    chosen = np.random.default_rng(0).permutation(len(scenes))[:limit]
    return [scenes[index] for index in sorted(chosen)]


def _toybox() -> "Editor":
    from ..editing.editor import Editor

    return Editor.from_pretrained("toybox")
