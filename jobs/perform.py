"""Do a `Job`: fetch from disk what it names, run the editor, and give back result and record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..diffusion.schedule import scheduler_class
from ..editing.editor import Editor, Result
from ..editing.job import POINTING, Job, Method, Selection
from ..editing.rank import ClipRanker
from ..editing.sampling import Progress
from ..editing.words import content_words
from ..errors import UsageError
from ..guidance.base import Guidance
from ..guidance.chain import Chain
from ..guidance.methods import method
from ..guidance.regions import Region
from ..photos.photo import MAX_PIXELS, Photo
from .layout import read_colour_layout, read_layout
from .select import Mask, fitted, select

DEFAULT = (Method(name="masked-attention"),)
"""Guidance of a job that names words or regions but no method."""

SAMPLING = ("negative_prompt", "steps", "seed", "num_images", "guidance_scale", "scheduler")
EDITING = (
    *("strength", "invert", "source_prompt", "shrink", "background", "composite", "feather", "match_colour"),
    *("context", "split"),
)


@dataclass(frozen=True)
class Setup:
    """Where and with which permissions a job runs; none of it decides what comes out.

    `ranker`: folder of CLIP weights that rank candidates. `max_pixels`: the largest photo to open.
    """

    device: str = "auto"
    dtype: str = "auto"
    config: Path | None = None
    offline: bool = False
    allow_pickle: bool = False
    ranker: Path | None = None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Performed:
    """What came of a job; `photo` and `mask` are those of an edit."""

    result: Result
    photo: Photo | None = None
    mask: Mask | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where a job puts things: an edit's mask and words, or regions where several places have words of their own."""

    prompt: str
    mask: Mask | None = None
    regions: tuple[Region, ...] = ()
    words: str | None = None
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


def perform(
    job: Job,
    setup: Setup = Setup(),
    *,
    editor: Editor | None = None,
    attention: bool = False,
    on_step: Progress | None = None,
) -> Performed:
    """Edit or generate as `job` says.

    Args:
        editor: a loaded model, used in place of `job.model`.
        attention: record where the words look, in `Result.attention`: those of the regions, else the job's, else each
            word of the prompt but stop words.

    Raises:
        InlayError: what Photo, segmentation, layouts, models and the editor raise.
    """
    scheduler_class(job.scheduler)  # refuses a wrong name before the long work
    photo = opened(job, setup) if job.action == "edit" else None
    guidance = chained(DEFAULT if job.methods is None else job.methods)
    places = placed(job, photo, setup.offline)
    contents = None if job.layout is None else layout_sha256(Path(job.layout))  # now: it may change while we paint
    if job.methods is None and not (places.regions or places.words):
        guidance = None
    editor = editor or editor_for(job.model, setup)
    common = {name: getattr(job, name) for name in SAMPLING}
    common |= {"guidance": guidance, "attention": watched(places) if attention else (), "on_step": on_step}
    if photo is None:
        result = editor.generate(places.prompt, regions=places.regions, size=job.size or places.size, **common)
    else:
        own = {name: getattr(job, name) for name in EDITING}
        result = editor.edit(
            photo, places.mask, places.prompt, words=places.words, regions=places.regions, **common, **own
        )
    result = replace(result, settings=tuple(recorded(made, job, contents) for made in result.settings))
    return Performed(result, photo, places.mask, (*places.notes, *changes(job, result.settings[0]), *result.warnings))


def opened(job: Job, setup: Setup) -> Photo:
    if job.photo is None:
        raise UsageError("There is no photo to edit; name one.")
    return Photo.open(job.photo, frame=job.frame, max_pixels=setup.max_pixels)


@lru_cache(maxsize=1)
def editor_for(model: str, setup: Setup) -> Editor:
    """The editor of a model, kept for the next job of a batch."""
    ranker = ClipRanker(setup.ranker, setup.offline) if setup.ranker else None
    return Editor.from_pretrained(
        model,
        setup.device,
        setup.dtype,
        config=setup.config,
        offline=setup.offline,
        allow_pickle=setup.allow_pickle,
        ranker=ranker,
    )


def placed(job: Job, photo: Photo | None, offline: bool) -> Places:
    """The places of a job, from its layout or its selection.

    Raises:
        UsageError: both or, in an edit, neither; words that do not go with the places.
    """
    if job.layout is not None:
        if job.words or any(getattr(job.selection, name, ()) for name in POINTING):
            raise UsageError("A layout says both where and which words; leave out points, boxes, masks and --words.")
        return from_layout(job, photo)
    if photo is None:
        if job.words:
            raise UsageError("To generate, words need places: give them together in a --layout.")
        return Places(job.prompt)
    selected = select(photo, job.selection or Selection(), offline=offline)
    notes = (f"The mask was made by {selected.backend}.",) if selected.backend else ()
    if not job.words:
        return Places(job.prompt, selected.mask, notes=notes)
    if len(job.words) != len(selected.parts):
        raise UsageError(
            f"The number of --words is {len(job.words)}, that of places {len(selected.parts)}; give each --box or "
            "--mask its own, in the same order, or use a --layout."
        )
    if len(job.words) == 1:
        return Places(job.prompt, selected.mask, words=job.words[0], notes=notes)
    regions = tuple(Region(part, words) for part, words in zip(selected.parts, job.words, strict=True))
    return Places(job.prompt, selected.mask, regions, notes=notes)


def from_layout(job: Job, photo: Photo | None) -> Places:
    """The regions of a layout, at the photo's size if there is one; the job's prompt goes before the layout's."""
    assert job.layout is not None
    size = job.size if photo is None else (photo.pixels.shape[0], photo.pixels.shape[1])
    if job.layout.lower().endswith(".json"):
        layout = read_layout(job.layout, size)
    else:
        layout = read_colour_layout(job.layout, job.colours, job.prompt)
    prompt = job.prompt or layout.prompt
    if photo is None or size is None:
        return Places(prompt, None, layout.regions, size=layout.size, notes=layout.warnings)
    fit = job.selection.fit if job.selection else "exact"
    if layout.size not in (None, size) and fit != "resize":
        raise UsageError(
            f"The layout {job.layout} is {layout.size[1]} x {layout.size[0]} pixels and the photo "
            f"{size[1]} x {size[0]}; draw it at that size, or --mask-fit resize."
        )
    regions = tuple(replace(region, mask=fitted(region.tensor().numpy(), size)) for region in layout.regions)
    return Places(prompt, np.max([region.mask for region in regions], axis=0), regions, notes=layout.warnings)


def chained(methods: Sequence[Method]) -> Guidance | None:
    """The methods as one; None for none."""
    made = tuple(method(one.name, **one.parameters) for one in methods)
    return made[0] if len(made) == 1 else Chain(made) if made else None


def watched(places: Places) -> tuple[str, ...]:
    """The phrases whose attention is worth a picture."""
    phrases = tuple(region.words for region in places.regions if isinstance(region.words, str))
    return phrases or ((places.words,) if places.words else content_words(places.prompt))


def layout_sha256(path: Path) -> str:
    """Of a layout's file and the mask files that it names."""
    files = [path]
    if path.suffix.lower() == ".json":
        regions = json.loads(path.read_text("utf-8-sig"))["regions"]
        files += [path.parent / region["mask"] for region in regions if region.get("mask")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def recorded(made: Job, job: Job, contents: str | None) -> Job:
    """The record of a result, with what `job` says beyond what the editor is told and the layout's hash."""
    assert made.facts is not None
    said = {name: getattr(job, name) for name in ("selection", "layout", "colours", "frame", "words")}
    return made.model_copy(update=said | {"facts": made.facts.model_copy(update={"layout_sha256": contents})})


def changes(job: Job, made: Job) -> tuple[str, ...]:
    """What differs from the run that a job's own facts tell of, so that its picture will not come out the same."""
    if job.facts is None or made.facts is None:
        return ()
    names = {
        "weights": "weights",
        "mask_sha256": "mask",
        "layout_sha256": "layout",
        "device": "device",
        "dtype": "dtype",
        "torch": "torch version",
    }
    differing = [said for name, said in names.items() if getattr(job.facts, name) != getattr(made.facts, name)]
    return (f"Not as when the settings were stored: {', '.join(differing)}.",) if differing else ()
