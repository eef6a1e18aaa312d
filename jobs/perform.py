"""Do a job: fetch from disk what it names, run the editor, and give back result and record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..diffusion.adapters import located
from ..editing.editor import Editor, OnGlimpse
from ..editing.guided import guidance_of
from ..editing.job import EDGES, POINTERS, EditJob, ExtendJob, GenerateJob, Job, Opening, Record, RemoveJob, Setup
from ..editing.rank import ClipRanker
from ..editing.result import Result
from ..editing.sampling import Progress
from ..editing.shown import NOTHING, Shown
from ..editing.task import Work
from ..editing.words import content_words
from ..errors import UsageError
from ..guidance.regions import Region
from ..guidance.segmenter import class_of
from ..photos.mask_files import fitted
from ..photos.photo import Photo
from ..weights.adapters import Adapters, Found, adapter_file, words_of
from ..weights.device import pick_device, pick_dtype
from ..weights.diffusion import belongings, locate
from .layout import CANVAS, Layout, read_colour_layout, read_layout
from .select import Mask, opened, select


@dataclass(frozen=True)
class Performed:
    """What came of a job; `photo` and `mask` are those of an edit."""

    result: Result
    photo: Photo | None = None
    mask: Mask | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where a job puts things: an edit's mask, or regions where places have words of their own.

    `prompt` and `size` are the job's, or its layout's where the job has none.
    """

    prompt: str
    mask: Mask | None = None
    regions: tuple[Region, ...] = ()
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job with all that it names read from disk; `layout_sha256` is that of its layout."""

    job: Job
    photo: Photo | None
    places: Places
    layout_sha256: str | None
    shown: Shown = NOTHING

    @property
    def work(self) -> Work:
        """The job as the editor takes it, with its layout's prompt and size where it has none."""
        asked = self.job.model_copy(update={"prompt": self.places.prompt})
        if isinstance(asked, GenerateJob) and self.places.size:
            asked = asked.model_copy(update={"size": self.places.size})
        return Work(asked, self.photo, self.places.mask, self.places.regions, shown=self.shown)

    def performed(self, result: Result, before: Record | None = None) -> Performed:
        """What came of it; `before` as in `perform`."""
        settings = tuple(recorded(made, self.job, self.layout_sha256) for made in result.settings)
        changed = before.changes(settings[0]) if before else ()
        notes = [f"Not as when the settings were stored: {', '.join(changed)}."] if changed else []
        result = replace(result, settings=settings)
        return Performed(result, self.photo, self.places.mask, (*self.places.notes, *notes, *result.warnings))


def perform(
    job: Job,
    setup: Setup = Setup(),
    *,
    editor: Editor | None = None,
    before: Record | None = None,
    attention: bool = False,
    on_step: Progress | None = None,
    on_glimpse: OnGlimpse | None = None,
) -> Performed:
    """Do as `job` says, from its files to pictures in memory.

    Args:
        editor: a loaded model, used in place of `job.model`.
        before: the record of the result that this job makes again; what has changed since is noted.
        attention: record where the words look, in `Result.attention`: those of the regions, else the job's, else each
            word of the prompt but stop words.

    Raises:
        InlayError: what Photo, segmentation, layouts, models and the editor raise.
    """
    prepared = prepare(job, setup)
    work = prepared.work
    words = watched(work.job, prepared.places) if attention else ()
    if attention and not words:
        raise UsageError("There are no words whose attention could be shown; give a prompt that names things.")
    result = (editor or editor_for(job.model, setup, job.adapters)).run(
        work.job,
        work.photo,
        work.mask,
        work.regions,
        shown=work.shown,
        attention=words,
        on_step=on_step,
        on_glimpse=on_glimpse,
    )
    return prepared.performed(result, before)


def prepare(job: Job, setup: Setup = Setup()) -> Prepared:
    """Read what a job names, and refuse what cannot be before the long work.

    Raises:
        InlayError: what Photo, segmentation, layouts and methods raise.
    """
    guidance_of(job.method or ())
    check_adapters(job.model, job.adapters, setup)
    photo = opened(job, setup) if isinstance(job, Opening) else None
    shown = shown_by(job, setup)
    places = placed(job, photo, setup)
    layout = job.layout if isinstance(job, EditJob | GenerateJob) else None
    check_words(job, places)
    check_learned(job, places, setup)
    contents = None if layout is None else layout_sha256(Path(layout))  # now: it may change while we paint
    return Prepared(job, photo, places, contents, shown)


def shown_by(job: Job, setup: Setup) -> Shown:
    """The pictures of a job's controls and reference.

    Raises:
        PhotoError: one cannot be read.
    """

    def pixels(path: str) -> Any:
        return Photo.open(path, max_pixels=setup.max_pixels).pixels

    controls = tuple(None if one.picture == EDGES else pixels(one.picture) for one in job.control)
    return Shown(controls, pixels(job.reference.picture) if job.reference else None)


@lru_cache(maxsize=8)
def check_adapters(model: str, adapters: Adapters, setup: Setup) -> None:
    """Refuse adapters that are not there or do not fit the model, before it is loaded.

    Raises:
        ModelError: see `weights_of`.
    """
    if adapters:
        weights_of(model, adapters, setup)


def weights_of(model: str, adapters: Adapters, setup: Setup) -> tuple[Path, Found]:
    """Where the weights of a model lie, and those of what is loaded onto it, fetched where they are not here.

    Raises:
        ModelError: see `inlay.weights.diffusion.locate` and `inlay.diffusion.adapters.located`.
    """
    half = pick_dtype(setup.dtype, pick_device(setup.device)) == torch.float16
    path = locate(model, setup.offline, setup.allow_pickle, half)
    return path, located(adapters, model, path, setup.offline, setup.allow_pickle, half)


def check_learned(job: Job, places: Places, setup: Setup) -> None:
    """Refuse textual inversions that would change nothing.

    Raises:
        UsageError: no word of one stands in the prompts.
    """
    prompts = (places.prompt, job.negative_prompt, *(region.prompt or "" for region in places.regions))
    said = " ".join(prompts).lower()
    for name in job.embedding:
        words = words_of(adapter_file(name, setup.offline))
        if not any(word.lower() in said for word in words):
            raise UsageError(f"The word of {name}, {words[0]}, is not in the prompt; write it where it belongs.")


def check_words(job: Job, places: Places) -> None:
    """Refuse words that the model's own segmenter has no class for, before the model is loaded.

    Raises:
        UsageError: the segmenter is to guide, and does not know them.
    """
    own = [one for one in job.method or () if one.name == "segmenter" and not one.parameters.get("network")]
    vocabulary = belongings(job.model).vocabulary if own else None
    if vocabulary:
        phrases = [region.words for region in places.regions] or (job.words if isinstance(job, EditJob) else ())
        for phrase in phrases:
            if isinstance(phrase, str):
                class_of(phrase, vocabulary.classes)


@lru_cache(maxsize=1)
def editor_for(model: str, setup: Setup, adapters: Adapters = Adapters()) -> Editor:
    """The editor of a model and what is loaded onto it, kept for the next job."""
    return Editor.from_pretrained(
        model,
        setup.device,
        setup.dtype,
        config=setup.config,
        offline=setup.offline,
        allow_pickle=setup.allow_pickle,
        compile=setup.compile,
        adapters=adapters,
        ranker=ClipRanker(setup.ranker, setup.offline) if setup.ranker else None,
        max_memory=setup.max_memory,
    )


def placed(job: Job, photo: Photo | None, setup: Setup) -> Places:
    """The places of a job, from its layout or what it points at.

    Raises:
        UsageError: both or, in an edit, neither; words that do not go with the places.
    """
    if isinstance(job, ExtendJob):
        return Places(job.prompt)
    if isinstance(job, GenerateJob):
        return Places(job.prompt) if job.layout is None else generated_layout(job)
    assert photo is not None
    words = job.words if isinstance(job, EditJob) else ()
    if isinstance(job, EditJob) and job.layout is not None:
        if words or any(getattr(job, name) for name in POINTERS):
            raise UsageError("A layout says both where and which words; leave out points, boxes, masks and --words.")
        return edited_layout(job, photo)
    selected = select(photo, job, setup)
    notes = (f"The mask was made by {selected.backend}.",) if selected.backend else ()
    if words and len(words) != len(selected.parts):
        raise UsageError(
            f"The number of --words is {len(words)}, that of places {len(selected.parts)}; give each --box or "
            "--mask its own, in the same order, or use a --layout."
        )
    several = zip(selected.parts, words, strict=True) if len(words) > 1 else ()
    return Places(job.prompt, selected.mask, tuple(Region(part, own) for part, own in several), notes=notes)


def edited_layout(job: EditJob, photo: Photo) -> Places:
    """The regions of a layout at the photo's size."""
    size = photo.size[1], photo.size[0]
    layout = read(job, size)
    if layout.size not in (None, size) and job.mask_fit != "resize":
        height, width = layout.size
        raise UsageError(
            f"The layout {job.layout} is {width} x {height} pixels and the photo {size[1]} x {size[0]}; draw it at "
            "that size, or --mask-fit resize."
        )
    regions = tuple(replace(region, mask=fitted(region.tensor().numpy(), size)) for region in layout.regions)
    union = np.max([region.mask for region in regions], axis=0)
    # a drawn shape's edge is no wish for half a change; a thin stroke may be nothing but edge
    mask = union if job.mask_read == "opacity" else union >= min(0.5, float(union.max()))
    return Places(job.prompt or layout.prompt, mask, regions, notes=layout.warnings)


def generated_layout(job: GenerateJob) -> Places:
    """The regions of a layout; relative shapes are drawn alike for every size of the picture."""
    canvas = canvas_for(job.size)
    layout = read(job, canvas)
    stated = None if layout.size == canvas else layout.size
    return Places(job.prompt or layout.prompt, None, layout.regions, job.size or stated, layout.warnings)


def read(job: EditJob | GenerateJob, size: tuple[int, int] | None) -> Layout:
    """The layout that a job names; `size` is that of its shapes where it does not say one."""
    assert job.layout is not None
    if job.layout.lower().endswith(".json"):
        return read_layout(job.layout, size)
    return read_colour_layout(job.layout, job.colour, job.prompt)


def canvas_for(size: tuple[int, int] | None) -> tuple[int, int] | None:
    """(height, width) on which relative shapes are drawn for a picture of `size`: its aspect, and always about the
    same number of pixels, so that a shape is the same at every size."""
    if size is None or min(size) < 1:
        return None
    scale = max(CANVAS) / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def watched(job: Job, places: Places) -> tuple[str, ...]:
    """The phrases whose attention is worth a picture."""
    phrases = tuple(region.words for region in places.regions if isinstance(region.words, str))
    return phrases or (job.words if isinstance(job, EditJob) else ()) or content_words(job.prompt)


def layout_sha256(path: Path) -> str:
    """Of a layout's file and the mask files that it names."""
    files = [path]
    if path.suffix.lower() == ".json":
        regions = json.loads(path.read_text("utf-8-sig"))["regions"]
        files += [path.parent / region["mask"] for region in regions if region.get("mask")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def recorded(made: Record, job: Job, contents: str | None) -> Record:
    """The record of a result: the job as it was asked for, with what the editor chose, and the layout's hash."""
    names = ("prompt", "method", "guidance_scale", *(("strength",) if isinstance(job, RemoveJob | ExtendJob) else ()))
    chosen = {name: getattr(made.job, name) for name in names}
    facts = made.facts.model_copy(update={"layout_sha256": contents})
    return Record(job=job.model_copy(update=chosen), facts=facts)
