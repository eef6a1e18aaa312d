"""What `inlay` does: edit a photo, take a thing out of it, extend it, and generate a picture."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, Unpack

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..diffusion.memory import Level, fitting, last
from ..diffusion.model import Model
from ..errors import OutOfMemoryError, UsageError
from ..guidance.attention_pictures import Attention, RecordAttention
from ..guidance.base import Chain, Guidance, members
from ..guidance.methods import described
from ..guidance.regions import Region
from ..photos.photo import Photo
from ..weights.adapters import Adapters
from ..weights.device import available
from .guided import check_kinds, guidance_of
from .job import EditJob, ExtendJob, GenerateJob, Job, Method, Painting, Pointing, RemoveJob, SamplingJob, checked
from .rank import GuideRanker, Ranker, SurroundingsRanker
from .reconstruct import decode_with_background
from .result import Result
from .sampling import OnLatents, Painted, Progress, Sample, paint, with_fallbacks
from .settings import EditSettings, GenerateSettings
from .shown import NOTHING, Shown, said
from .task import Edited, Task, Words, Work, edition, extension, generation
from .windows import eight_bit

CONTINUING_STRENGTH = 0.8
"""Attentive Eraser's, for models that advise none."""

READ_BEFORE = {*Pointing.model_fields, "layout", "colour"}
"""Fields of records that say what to read and how to point: `inlay.jobs` acts on them before it calls an editor."""

LOADED = {"model", "lora", "embedding", "vae"}
"""Fields that say what an editor is loaded with."""

J = TypeVar("J", bound=SamplingJob)


@dataclass(frozen=True, eq=False)
class Glimpse:
    """A picture that is still forming: the latents after a step, and in an edit the window's place on the photo."""

    model: Model
    latents: Float[Tensor, "b c h w"]
    crop: tuple[int, int, int, int] | None = None

    def picture(self) -> UInt8[np.ndarray, "H W 3"]:
        """The first candidate as the decoder sees it now, at the model's size."""
        return eight_bit(self.model.decode(self.latents[:1]))[0]


OnGlimpse = Callable[[Glimpse], None]
"""Called after each step, before `Progress`; what it costs to look is the caller's choice."""


@dataclass(frozen=True)
class Editor:
    """A model at work on photos."""

    model: Model
    ranker: Ranker | None = None
    max_memory: float | None = None
    """GB that a job may take of the device; None leaves it all that is free."""
    _levels: dict[Hashable, Level] = field(default_factory=dict, init=False, repr=False, compare=False)
    """How passes run, by what decides it."""

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "toybox",
        device: str = "auto",
        dtype: str = "auto",
        *,
        config: Path | None = None,
        offline: bool = False,
        allow_pickle: bool = False,
        compile: bool = False,
        ranker: Ranker | None = None,
        max_memory: float | None = None,
        adapters: Adapters | None = None,
        lora: str | Sequence[str] = (),
        embedding: str | Sequence[str] = (),
        vae: str | None = None,
        control: str | Sequence[str] = (),
        reference: str | None = None,
    ) -> Editor:
        """Load a model; see `Model.from_pretrained`. A model with a guide ranks by it.

        Args:
            adapters: those of a job, in place of what the following say.
            lora, embedding, vae: loaded onto the model, said as in the job's fields of these names.
            control: ControlNets and T2I-Adapters by name, folder or hub id; `edit` and `generate` take their pictures.
            reference: an IP-Adapter by file or hub id, "" for the one that the catalogue has for the model.
        """
        if adapters is None:
            fields: dict[str, Any] = {"lora": lora, "embedding": embedding, "vae": vae}
            controls = (control,) if isinstance(control, str) else tuple(control)
            loaded = checked(GenerateJob, prompt="", **fields).adapters
            adapters = replace(loaded, control=controls, reference=reference)
        model = Model.from_pretrained(
            name,
            device=device,
            dtype=dtype,
            config=config,
            offline=offline,
            allow_pickle=allow_pickle,
            compile=compile,
            adapters=adapters,
        )
        return cls(model, ranker or (GuideRanker(model) if model.belongings.guide_folder else None), max_memory)

    def generate(
        self,
        prompt: str,
        *,
        regions: Sequence[Region] = (),
        guidance: Guidance | None = None,
        attention: Sequence[str] = (),
        control: Sequence[Any] = (),
        reference: Any = None,
        on_step: Progress | None = None,
        **settings: Unpack[GenerateSettings],
    ) -> Result:
        """Pictures from a prompt.

        Args:
            regions: where things go; masks in the picture's own aspect.
            guidance: what places them; default masked attention, and `Guidance()` is none.
            attention: phrases of the prompt whose attention is recorded in `Result.attention`.
            control: for each control that the editor was loaded with a picture, in an edit also "canny" for the photo's
                edges, or a pair of one of these and its scale. A picture is a path or what a photo can be.
            reference: a picture of the thing that is meant, or a pair of it and its scale.
            on_step: called with (steps done, steps in all).
            settings: fields of `inlay.editing.job.GenerateJob`, which says what each means.

        Raises:
            UsageError: a setting outside its range, a phrase that the prompt lacks.
        """
        fields, shown = said(self.model.adapters, control, reference)
        job = self._job(GenerateJob, settings, prompt=prompt, **fields)
        return self.run(job, regions=regions, shown=shown, guidance=guidance, attention=attention, on_step=on_step)

    def edit(
        self,
        photo: Any,
        mask: Any,
        prompt: str,
        *,
        words: Words | None = None,
        regions: Sequence[Region] = (),
        guidance: Guidance | None = None,
        attention: Sequence[str] = (),
        control: Sequence[Any] = (),
        reference: Any = None,
        on_step: Progress | None = None,
        **settings: Unpack[EditSettings],
    ) -> Result:
        """The photo with the place under `mask` painted anew, and every pixel elsewhere as it was.

        Args:
            photo: `Photo`, Pillow image, array or tensor; see `Photo.from_image`.
            mask: (H, W) of the photo's size: bool; uint8, thresholded at 128; or float in [0, 1], used as opacity.
                None takes the union of the regions' masks.
            words: the words that belong in the mask; where a `guidance` is given, default the prompt's noun phrase if
                there is just one, else all its words but stop words. A warning and `Facts.words` say which.
            regions: several places with words of their own, in the photo's coordinates, in place of `words`.
            guidance: what leads words to their places; default masked attention where words or regions are given, else
                none.
            attention, control, reference, on_step: as in `generate`.
            settings: fields of `inlay.editing.job.EditJob`, which says what each means.

        Raises:
            UsageError: an empty mask or one of another size, a setting outside its range, words that the prompt lacks.
        """
        fields, shown = said(self.model.adapters, control, reference)
        job = self._job(EditJob, settings, prompt=prompt, **fields)
        common: dict[str, Any] = {"guidance": guidance, "attention": attention, "on_step": on_step}
        return self.run(job, photo, mask, regions, words=words, shown=shown, **common)

    def remove(
        self,
        photo: Any,
        mask: Any,
        prompt: str = "",
        *,
        control: Sequence[Any] = (),
        reference: Any = None,
        on_step: Progress | None = None,
        **settings: Unpack[EditSettings],
    ) -> Result:
        """The photo with the thing under `mask` gone, and what is behind it continued.

        `photo`, `mask`, `control` and `reference` are as in `edit`; `prompt` may say what should be behind; `settings`
        are fields of `inlay.editing.job.RemoveJob`.

        Raises:
            UsageError: an empty mask or one of another size, a setting outside its range.
        """
        fields, shown = said(self.model.adapters, control, reference)
        job = self._job(RemoveJob, settings, prompt=prompt, **fields)
        return self.run(job, photo, mask, shown=shown, on_step=on_step)

    def extend(
        self,
        photo: Any,
        prompt: str = "",
        *,
        left: int | str = 0,
        top: int | str = 0,
        right: int | str = 0,
        bottom: int | str = 0,
        control: Sequence[Any] = (),
        reference: Any = None,
        on_step: Progress | None = None,
        **settings: Unpack[EditSettings],
    ) -> Result:
        """The photo on a larger canvas, with what lies beyond its sides painted; the photo itself stays as it was but
        for a narrow band at its old edges.

        Args:
            left, top, right, bottom: pixels to add, or a share of the photo's side such as "20%".
            control, reference: as in `edit`; a control's picture has the size of the larger canvas.
            settings: fields of `inlay.editing.job.ExtendJob`.

        Raises:
            UsageError: a setting outside its range, or more pixels than any photo that would be opened.
        """
        sides: dict[str, Any] = {"left": left, "top": top, "right": right, "bottom": bottom}
        fields, shown = said(self.model.adapters, control, reference)
        job = self._job(ExtendJob, settings, prompt=prompt, **fields, **sides)
        return self.run(job, photo, shown=shown, on_step=on_step)

    def run(
        self,
        job: Job,
        photo: Any = None,
        mask: Any = None,
        regions: Sequence[Region] = (),
        *,
        words: Words | None = None,
        shown: Shown = NOTHING,
        guidance: Guidance | None = None,
        attention: Sequence[str] = (),
        on_step: Progress | None = None,
        on_glimpse: OnGlimpse | None = None,
    ) -> Result:
        """Do a job on what it names, loaded: the one way in, of which the other methods are short forms.

        Args:
            shown: the pictures of the job's controls and reference.
            guidance: a value in place of `job.method`.
            words: in place of `job.words`.

        Raises:
            UsageError: see `edit` and `generate`.
        """
        task = self.task(Work(job, photo, mask, regions, words, shown), guidance, attention)
        return self.together([task], on_step, on_glimpse)[0]

    def run_many(self, works: Sequence[Work]) -> list[Result]:
        """Do jobs together, each as `run` does it: what agrees in its sizes and its way of sampling goes through the
        loop at once.

        Raises:
            UsageError: see `edit` and `generate`.
        """
        groups = list[list[Task]]()
        tasks = [self.task(work) for work in works]
        for task in tasks:
            group = next((group for group in groups if group[0].agrees(task, self.model)), None)
            groups.append([task]) if group is None else group.append(task)
        done = {task: result for group in groups for task, result in zip(group, self.together(group), strict=True)}
        return [done[task] for task in tasks]

    def task(self, work: Work, guidance: Guidance | None = None, attention: Sequence[str] = ()) -> Task:
        """A job with what it leaves open chosen, ready for `together`."""
        job, regions, words = work.job, work.regions, work.words
        check_kinds(guidance, regions)
        if words is None and isinstance(job, EditJob) and job.words and not regions:
            if len(job.words) > 1:
                raise UsageError(f"The words {', '.join(job.words)} need a place each; give regions.")
            words = job.words[0]
        if guidance is None:
            chosen = job.method if job.method is not None else default_method(job, bool(regions) or words is not None)
            guidance = guidance_of(chosen)
        kept = described(guidance)
        methods = tuple(Method(name=name, parameters=parameters) for name, parameters in kept.methods)
        sampled = {"guidance_scale": self._scale(job), "scheduler": self._scheduler(job)}
        job = job.model_copy(update={"method": methods, **sampled})
        if isinstance(job, RemoveJob | ExtendJob) and job.strength is None:
            advised = self.model.defaults.get("continuing_strength", CONTINUING_STRENGTH)
            job = job.model_copy(update={"strength": advised})
        with_recorder, record = recorded(guidance, attention)
        common: dict[str, Any] = {"guidance": with_recorder, "attention": record, "shown": self._fitting(work)}
        common["warnings"] = (*self._prompt_warnings(job), *kept.unrepeatable)
        if isinstance(job, GenerateJob):
            return generation(job, self.model, regions, **common)
        path = getattr(work.photo, "path", None)
        job = job.model_copy(update={"photo": str(path) if path else None})
        if isinstance(job, ExtendJob):
            return extension(job, self.model, work.photo, **common)
        if isinstance(job, EditJob):
            said = tuple(str(region.words) for region in regions) or (() if words is None else (str(words),))
            job = job.model_copy(update={"words": said})
        return edition(job, self.model, work.photo, work.mask, regions, words, **common)

    def together(
        self, tasks: Sequence[Task], on_step: Progress | None = None, on_glimpse: OnGlimpse | None = None
    ) -> list[Result]:
        """Do tasks as one batch. They agree in the sizes of their passes and in how they are sampled and painted; no
        sample depends on its neighbours.

        Raises:
            OutOfMemoryError: not even one sample fits.
        """
        sizes, notes = tasks[0].sizes(self.model), list[str]()
        images: list[list[Photo | None]] = [[task.photo] * task.job.num_images for task in tasks]
        edits: list[list[list[Edited]]] = [[] for _ in tasks]
        for number, (size, progress) in enumerate(zip(sizes, spread(on_step, len(sizes)), strict=True)):
            samples = [
                (sample, self.ranker_of(task.job) if task.job.num_images > 1 else None)
                for task, own in zip(tasks, images, strict=True)
                for sample in task.samples(number, own)
            ]
            crop = tasks[0].windows[number].crop.box if tasks[0].windows else None
            work = partial(self._paint, tasks[0], size, progress, self._glimpses(on_glimpse, crop))
            level = self._level(len(samples), size, tasks[0].guidance)
            done, fallbacks = with_fallbacks(self.model, samples, work, level)
            notes += fallbacks
            for task, own, made in zip(tasks, images, edits, strict=True):
                made.append(done[: len(own)])
                del done[: len(own)]
                own[:] = [
                    task.pasted(number, image, one.patch, self.model.factor)
                    for image, one in zip(own, made[-1], strict=True)
                ]
        return [
            task.result(self.model, own, made, self.ranker_of(task.job), notes)  # type: ignore[arg-type]  # no image is None any more
            for task, own, made in zip(tasks, images, edits, strict=True)
        ]

    def _level(self, samples: int, size: tuple[int, int], guidance: Guidance) -> Level:
        """How a pass runs: decided once for passes of a kind, by what they take and what there is.

        Raises:
            OutOfMemoryError: no way to run it keeps to `max_memory`.
        """
        gradients = any(type(one) not in (Guidance, RecordAttention) for one in members(guidance))
        budget = 1e9 * self.max_memory if self.max_memory else available(self.model.device)
        if budget is None:
            return Level(samples)
        key = (samples, size, gradients)
        if key not in self._levels:
            level = fitting(self.model, samples, size, gradients, budget)
            if level is None and self.max_memory:
                raise OutOfMemoryError(
                    f"Not even one image fits into {self.max_memory:g} GB; choose a smaller --size or model, or allow "
                    "more with --max-memory."
                )
            self._levels[key] = level or last(self.model)
        return self._levels[key]

    def _job(self, kind: type[J], settings: Mapping[str, Any], **fields: Any) -> J:
        """The record of what a method is asked for.

        Raises:
            UsageError: a setting outside its range, or one of those that an editor does not act on.
        """
        if unread := sorted(settings.keys() & LOADED):
            raise UsageError(f"The editor is loaded; give {unread[0]}= to Editor.from_pretrained.")
        if "quality" in settings:
            raise UsageError("An editor writes no files; give quality= to Photo.save.")
        if unread := sorted(settings.keys() & READ_BEFORE):
            raise UsageError(
                f"An editor is given photo, mask and regions, and does not act on {unread[0]!r}; make the mask first, "
                "by inlay.segmentation."
            )
        return checked(kind, **self._made_of, **fields, **settings)

    @property
    def _made_of(self) -> dict[str, Any]:
        """The fields of a job that say what model it is done with."""
        loaded = self.model.adapters
        fields: dict[str, Any] = {
            "lora": [{"weights": weights, "scale": scale} for weights, scale in loaded.lora],
            "embedding": loaded.embedding,
            "vae": loaded.vae,
        }
        return {"model": self.model.name} | {name: value for name, value in fields.items() if value}

    def _fitting(self, work: Work) -> Shown:
        """What a job's controls and reference are shown.

        Raises:
            UsageError: the model has other controls than the job, or no IP-Adapter.
        """
        job, shown = work.job, work.shown
        counts = {len(self.model.controls), len(job.control), len(shown.controls)}
        if len(counts) > 1 or len({job.reference is None, shown.reference is None}) > 1:
            raise UsageError(
                "The job's controls and reference are not those that the editor was loaded with, or given."
            )
        if job.reference and self.model.eye is None:
            raise UsageError("A reference needs an editor that was loaded with reference=WEIGHTS.")
        return shown

    def ranker_of(self, job: Job) -> Ranker | None:
        """Who ranks a job's candidates."""
        return SurroundingsRanker() if isinstance(job, RemoveJob) else self.ranker

    def _paint(
        self,
        task: Task,
        size: tuple[int, int],
        on_step: Progress | None,
        on_latents: OnLatents | None,
        ranked: Sequence[tuple[Sample, Ranker | None]],
    ) -> list[Edited]:
        """The pictures of one batch, at the model's size, each with its ranker; `task` says what they share."""
        samples = [sample for sample, _ in ranked]
        painted = paint(self.model, task.job, task.guidance, samples, size, on_step, on_latents)
        decoded = self._decoded(task.job, painted, samples)
        return [
            Edited(patch, painted.inversion_psnr[k], score(ranker, decoded[k], sample))
            for k, (patch, (sample, ranker)) in enumerate(zip(eight_bit(decoded), ranked, strict=True))
        ]

    def _glimpses(
        self, on_glimpse: OnGlimpse | None, crop: tuple[int, int, int, int] | None = None
    ) -> OnLatents | None:
        return on_glimpse and (lambda latents: on_glimpse(Glimpse(self.model, latents, crop)))

    def _decoded(self, job: Job, painted: Painted, samples: Sequence[Sample]) -> Float[Tensor, "b 3 H W"]:
        if not isinstance(job, Painting) or job.background != "decoder":
            return self.model.decode(painted.latents)
        canvases = [sample.canvas for sample in samples]
        return torch.cat(
            [
                decode_with_background(self.model, one[None], canvas.pixels, canvas.mask)
                for one, canvas in zip(painted.latents, canvases, strict=True)
                if canvas is not None
            ]
        )

    def _scale(self, job: SamplingJob) -> float:
        if job.guidance_scale is not None:
            return job.guidance_scale
        return float(self.model.defaults.get("guidance_scale", 7.5))

    def _scheduler(self, job: SamplingJob) -> str:
        """The job's or the model's own; for an inversion DDIM, which alone comes back on the way that it went."""
        if job.scheduler is not None:
            return job.scheduler
        inverts = isinstance(job, EditJob) and job.invert
        return "ddim" if inverts else str(self.model.defaults.get("scheduler", "ddim"))

    def _prompt_warnings(self, job: SamplingJob) -> tuple[str, ...]:
        lost = self.model.prompts.lost(job.prompt)
        limit = self.model.prompts.limit
        said = [f"The model reads {limit} tokens of a prompt; it does not see: {lost}"] if lost else []
        vocabulary = self.model.belongings.vocabulary
        if vocabulary and (unknown := vocabulary.never_seen(self.model.name, job.prompt)):
            said.append(unknown)
        return tuple(said)


def default_method(job: Job, placed: bool) -> tuple[Method, ...]:
    """Guidance of a job that names none: masked attention where words have a place; removal, which hides a place from
    itself, where its surroundings are to be continued."""
    continued = isinstance(job, RemoveJob) or (isinstance(job, ExtendJob) and not job.prompt)
    name = "removal" if continued else "masked-attention" if placed else None
    return (Method(name=name),) if name else ()


def score(ranker: Ranker | None, picture: Float[Tensor, "3 H W"], sample: Sample) -> float | None:
    """What the ranker says of one candidate for a window; None where there is none, or it knows no answer."""
    if ranker is None or sample.canvas is None:
        return None
    scores = ranker(picture[None] / 2 + 0.5, sample.canvas.mask, sample.prompt)
    return scores[0] if scores else None


def spread(on_step: Progress | None, parts: int) -> Any:
    """One progress callback per part, counting through all of them."""
    for part in range(parts):
        yield None if on_step is None else (lambda done, total, part=part: on_step(part * total + done, parts * total))


def recorded(guidance: Guidance, words: Sequence[str]) -> tuple[Guidance, Callable[[], Attention | None]]:
    """The guidance with a recorder of attention behind it, and what to call for the record when all has run."""
    if not words:
        return guidance, lambda: None
    records: list[Attention] = []
    recorder = RecordAttention(tuple(words), records.append)
    return Chain((guidance, recorder)), lambda: Attention.gathered(records)
