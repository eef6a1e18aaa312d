"""The two things that `inlay` does: edit a photo, and generate a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..diffusion.model import Model
from ..errors import UsageError
from ..guidance.attention_pictures import Attention, RecordAttention
from ..guidance.base import Chain, Guidance
from ..guidance.methods import chained, described
from ..guidance.regions import Region
from ..photos import MAX_PIXELS
from ..photos.photo import Photo
from .guided import check_kinds, far_from_native, surprises
from .job import EditJob, GenerateJob, Method, Record, SamplingJob, checked
from .rank import GuideRanker, Ranker
from .reconstruct import decode_with_background
from .result import Result, facts
from .sampling import SHARED, OnLatents, Painted, Progress, Sample, paint, with_fallbacks
from .settings import EditSettings, GenerateSettings
from .windows import Mask, Window, edited_place, eight_bit, pasted, windows_of
from .words import default_words, target_tokens

DEFAULT = (Method(name="masked-attention"),)
"""Guidance of a job that names words or regions but no method."""

Words = str | Sequence[int]
"""A phrase of the prompt, or token indices."""


@dataclass(frozen=True, eq=False)
class Glimpse:
    """A picture that is still forming: the latents after a step, and in an edit the window's place on the photo."""

    model: Model
    latents: Float[Tensor, "b c h w"]
    crop: tuple[int, int, int, int] | None = None

    def picture(self) -> UInt8[np.ndarray, "H W 3"]:
        """The first candidate as the decoder sees it now, at the model's size."""
        return eight_bit(self.model.decode(self.latents[:1]))[0]


@dataclass(frozen=True, eq=False)
class Work:
    """A job with what it names, loaded; see `Editor.run`."""

    job: EditJob | GenerateJob
    photo: Any = None
    mask: Any = None
    regions: Sequence[Region] = ()
    words: Words | None = None


OnGlimpse = Callable[[Glimpse], None]
"""Called after each step, before `Progress`; what it costs to look is the caller's choice."""


@dataclass(frozen=True)
class Editor:
    """A model at work on photos."""

    model: Model
    ranker: Ranker | None = None

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
        ranker: Ranker | None = None,
    ) -> Editor:
        """Load a model; see `Model.from_pretrained`. A model with a guide ranks by it."""
        model = Model.from_pretrained(
            name, device=device, dtype=dtype, config=config, offline=offline, allow_pickle=allow_pickle
        )
        return cls(model, ranker or (GuideRanker(model) if model.belongings.guide_folder else None))

    def generate(
        self,
        prompt: str,
        *,
        regions: Sequence[Region] = (),
        guidance: Guidance | None = None,
        attention: Sequence[str] = (),
        on_step: Progress | None = None,
        **settings: Unpack[GenerateSettings],
    ) -> Result:
        """Pictures from a prompt.

        Args:
            regions: where things go; masks in the picture's own aspect.
            guidance: what places them; default masked attention, and `Guidance()` is none.
            attention: phrases of the prompt whose attention is recorded in `Result.attention`.
            on_step: called with (steps done, steps in all).
            settings: fields of `inlay.editing.job.GenerateJob`, which says what each means.

        Raises:
            UsageError: a setting outside its range, a phrase that the prompt lacks.
        """
        job = checked(GenerateJob, prompt=prompt, model=self.model.name, **settings)
        return self.run(job, regions=regions, guidance=guidance, attention=attention, on_step=on_step)

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
            attention, on_step: as in `generate`.
            settings: fields of `inlay.editing.job.EditJob`, which says what each means.

        Raises:
            UsageError: an empty mask or one of another size, a setting outside its range, words that the prompt lacks.
        """
        job = checked(EditJob, prompt=prompt, model=self.model.name, **settings)
        return self.run(job, photo, mask, regions, words=words, guidance=guidance, attention=attention, on_step=on_step)

    def run(
        self,
        job: EditJob | GenerateJob,
        photo: Any = None,
        mask: Any = None,
        regions: Sequence[Region] = (),
        *,
        words: Words | None = None,
        guidance: Guidance | None = None,
        attention: Sequence[str] = (),
        on_step: Progress | None = None,
        on_glimpse: OnGlimpse | None = None,
    ) -> Result:
        """Do a job on what it names, loaded: the one way in, of which `edit` and `generate` are short forms.

        Args:
            guidance: a value in place of `job.method`.
            words: in place of `job.words`.

        Raises:
            UsageError: see `edit` and `generate`.
        """
        plan, record = self._plan(Work(job, photo, mask, regions, words), guidance, attention)
        done = []
        for part, progress in zip(plan.parts, spread(on_step, len(plan.parts)), strict=True):
            (edits,), fallbacks = self._painted([part], progress, on_glimpse)
            done.append((edits, fallbacks))
        return replace(self._result(plan, done), attention=record())

    def run_many(self, works: Sequence[Work]) -> list[Result]:
        """Do jobs together, each as `run` does it: what agrees in its size and its way of sampling goes through the
        loop at once, and none depends on its neighbours but for rounding.

        Raises:
            UsageError: see `edit` and `generate`.
        """
        plans = [self._plan(work)[0] for work in works]
        groups: list[list[Part]] = []
        for part in (part for plan in plans for part in plan.parts):
            group = next((group for group in groups if group[0].agrees(part)), None)
            groups.append([part]) if group is None else group.append(part)
        edits: dict[Part, tuple[list[Edited], tuple[str, ...]]] = {}
        for group in groups:
            done, fallbacks = self._painted(group)
            edits |= {part: (one, fallbacks) for part, one in zip(group, done, strict=True)}
        return [self._result(plan, [edits[part] for part in plan.parts]) for plan in plans]

    def _plan(
        self, work: Work, guidance: Guidance | None = None, attention: Sequence[str] = ()
    ) -> tuple[Plan, Callable[[], Attention | None]]:
        """What a job paints, and what to call for its attention when it is done."""
        job, words, regions = work.job, work.words, work.regions
        check_kinds(guidance, regions)
        if words is None and isinstance(job, EditJob) and job.words:
            words = job.words[0]
        if guidance is None:
            chosen = job.method if job.method is not None else DEFAULT if regions or words is not None else ()
            guidance = chained(tuple((one.name, one.parameters) for one in chosen))
        kept = described(guidance)
        methods = tuple(Method(name=name, parameters=parameters) for name, parameters in kept.methods)
        job = job.model_copy(update={"method": methods, "guidance_scale": self._scale(job)})
        with_recorder, record = recorded(guidance, attention)
        if isinstance(job, GenerateJob):
            plan = self._generation(job, with_recorder, regions)
        else:
            picture = work.photo if isinstance(work.photo, Photo) else Photo.from_image(work.photo)
            place = edited_place(work.mask, regions, picture.size)
            said = tuple(str(region.words) for region in regions) or (() if words is None else (str(words),))
            job = job.model_copy(update={"words": said, "photo": str(picture.path) if picture.path else None})
            plan = self._edit(job, with_recorder, picture, place, regions, words)
        return replace(plan, warnings=(*plan.warnings, *kept.unrepeatable)), record

    def _generation(self, job: GenerateJob, guidance: Guidance, regions: Sequence[Region]) -> Plan:
        height, width = picture_size(job.size or self.model.native_size)
        factor = self.model.factor
        padded = (-(-height // factor) * factor, -(-width // factor) * factor)
        samples = [Sample(seed, job.prompt, job.negative_prompt, regions=tuple(regions)) for seed in seeds_of(job)]
        warnings = (
            *self._prompt_warnings(job),
            *far_from_native((height, width), self.model.native_size),
            *surprises(job, regions, [str(region.words) for region in regions]),
        )
        return Plan(job, (Part(job, guidance, padded, tuple(samples)),), warnings)

    def _edit(
        self,
        job: EditJob,
        guidance: Guidance,
        photo: Photo,
        place: Mask,
        regions: Sequence[Region],
        words: Words | None,
    ) -> Plan:
        warnings = list(self._prompt_warnings(job))
        if (place > 0).all():
            warnings.append("The mask covers the whole photo: nothing of it is kept.")
        if job.invert and job.num_images > 1:
            warnings.append("With inversion all candidates start alike; only stochastic schedulers tell them apart.")
        said = None
        if job.method and not regions:
            tokens, said = (words, str(words)) if words is not None else target_tokens(job.prompt, self.model.prompts)
            regions = [Region(place.astype(np.float32), tokens)]
            if words is None:
                choose = (
                    "" if default_words(job.prompt) else ", all of the prompt; name the thing with --words (words=)"
                )
                warnings.append(f"The words are {said!r}{choose}.")
        warnings += surprises(job, regions, job.words)
        parts = []
        for window in windows_of(photo, place, regions, job, self.model):
            shared = job.prompt, job.negative_prompt, job.source_prompt, window.regions, window.canvas
            samples = tuple(Sample(seed, *shared) for seed in seeds_of(job))
            parts.append(Part(job, guidance, window.size, samples, window))
        return Plan(job, tuple(parts), tuple(warnings), photo, place, said)

    def _painted(
        self, parts: Sequence[Part], on_step: Progress | None = None, on_glimpse: OnGlimpse | None = None
    ) -> tuple[list[list[Edited]], tuple[str, ...]]:
        """The candidates of parts that agree, at the model's size, and what was fallen back to."""
        first = parts[0]
        glimpses = self._glimpses(on_glimpse, first.window and first.window.crop.box)

        def work(tasks: Sequence[tuple[Part, Sample]]) -> Sequence[Edited]:
            samples = [sample for _, sample in tasks]
            painted = paint(self.model, first.job, first.guidance, samples, first.size, on_step, glimpses)
            decoded = self._decoded(painted, tasks)
            return [
                Edited(patch, painted.inversion_psnr[k], score)
                for k, (patch, score) in enumerate(zip(eight_bit(decoded), self._scores(decoded, tasks), strict=True))
            ]

        tasks = [(part, sample) for part in parts for sample in part.samples]
        done, fallbacks = with_fallbacks(self.model, tasks, work)
        edits = iter(done)
        return [[next(edits) for _ in part.samples] for part in parts], fallbacks

    def _decoded(self, painted: Painted, tasks: Sequence[tuple[Part, Sample]]) -> Float[Tensor, "b 3 H W"]:
        job = tasks[0][0].job
        if not isinstance(job, EditJob) or job.background != "decoder":
            return self.model.decode(painted.latents)
        canvases = [part.window.canvas for part, _ in tasks if part.window]
        return torch.cat(
            [
                decode_with_background(self.model, one[None], canvas.pixels, canvas.mask)
                for one, canvas in zip(painted.latents, canvases, strict=True)
            ]
        )

    def _scores(
        self, decoded: Float[Tensor, "b 3 H W"], tasks: Sequence[tuple[Part, Sample]]
    ) -> Sequence[float | None]:
        """What the ranker says of each candidate, where there are several to choose from."""
        scores: list[float | None] = [None] * len(tasks)
        for part, own in groupby(range(len(tasks)), key=lambda k: tasks[k][0]):
            places = list(own)
            if self.ranker and part.window and part.job.num_images > 1:
                seen = decoded[places] / 2 + 0.5
                scores[places[0] : places[-1] + 1] = self.ranker(seen, part.window.canvas.mask, part.job.prompt)
        return scores

    def _result(self, plan: Plan, done: Sequence[tuple[Sequence[Edited], tuple[str, ...]]]) -> Result:
        """What came of a job, from each part's candidates and fallbacks."""
        job, photo, place, seeds = plan.job, plan.photo, plan.place, seeds_of(plan.job)
        fallbacks = tuple(note for _, notes in done for note in notes)
        if isinstance(job, GenerateJob):
            height, width = job.size or self.model.native_size
            images = tuple(Photo.from_image(one.patch[:height, :width]) for one in done[0][0])
            found = [facts(self.model, job, seed, images[0], fallbacks=fallbacks) for seed in seeds]
            settings = tuple(Record(job=job, facts=one) for one in found)
            return Result(images, seeds, (None,) * len(seeds), settings, plan.warnings)
        assert photo is not None
        assert place is not None
        windows = [part.window for part in plan.parts if part.window]
        made = [photo] * len(seeds)
        for window, (edits, _) in zip(windows, done, strict=True):
            made = [
                pasted(image, one.patch, place, window.crop, job, self.model.factor)
                for image, one in zip(made, edits, strict=True)
            ]
        scores = tuple(mean([edits[k].score for edits, _ in done]) for k in range(len(seeds)))
        photo_sha256, mask_sha256 = sha256(photo.pixels), sha256(place)
        settings = tuple(
            Record(
                job=job,
                facts=facts(
                    self.model,
                    job,
                    seed,
                    image,
                    crops=tuple(window.crop.box for window in windows),
                    photo_sha256=photo_sha256,
                    mask_sha256=mask_sha256,
                    changed_pixels=int((image.pixels != photo.pixels).any(-1).sum()),
                    inversion_psnr=done[-1][0][k].inversion_psnr,
                    words=plan.said,
                    score=scores[k],
                    ranker=self.ranker.name if self.ranker and scores[k] is not None else None,
                    fallbacks=fallbacks,
                ),
            )
            for k, (seed, image) in enumerate(zip(seeds, made, strict=True))
        )
        warnings = [*plan.warnings, *(note for note in made[0].warnings if note not in plan.warnings)]
        return Result(tuple(made), seeds, scores, settings, tuple(warnings))

    def _glimpses(
        self, on_glimpse: OnGlimpse | None, crop: tuple[int, int, int, int] | None = None
    ) -> OnLatents | None:
        return on_glimpse and (lambda latents: on_glimpse(Glimpse(self.model, latents, crop)))

    def _scale(self, job: SamplingJob) -> float:
        if job.guidance_scale is not None:
            return job.guidance_scale
        return float(self.model.defaults.get("guidance_scale", 7.5))

    def _prompt_warnings(self, job: SamplingJob) -> tuple[str, ...]:
        lost = self.model.prompts.lost(job.prompt)
        limit = self.model.prompts.limit
        said = [f"The model reads {limit} tokens of a prompt; it does not see: {lost}"] if lost else []
        vocabulary = self.model.belongings.vocabulary
        if vocabulary and (unknown := vocabulary.unknown(job.prompt)):
            things = ", ".join(vocabulary.things)
            said.append(f"{self.model.name} has never seen {', '.join(unknown)}; it knows {things}.")
        return tuple(said)


@dataclass(frozen=True, eq=False)
class Part:
    """What of a job goes through the loop at once: all its candidates, of the picture or of a window of its photo."""

    job: EditJob | GenerateJob
    guidance: Guidance
    size: tuple[int, int]
    """(height, width) in the model's pixels."""
    samples: tuple[Sample, ...]
    window: Window | None = None

    def agrees(self, other: Part) -> bool:
        """Whether both can go through the loop together."""
        alike = self.job.action == other.job.action and self.size == other.size and self.guidance == other.guidance
        return alike and all(getattr(self.job, name, None) == getattr(other.job, name, None) for name in SHARED)


@dataclass(frozen=True, eq=False)
class Plan:
    """A job that is ready to be painted. `photo` and `place` are those of an edit, `said` the words it chose itself."""

    job: EditJob | GenerateJob
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    photo: Photo | None = None
    place: Mask | None = None
    said: str | None = None


@dataclass(frozen=True)
class Edited:
    """One candidate for a window, at the model's size."""

    patch: UInt8[np.ndarray, "h w 3"]
    inversion_psnr: float | None
    score: float | None


def picture_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width), refused where no picture has it.

    Raises:
        UsageError: no area, or more pixels than any photo that would be opened.
    """
    height, width = size
    if height < 1 or width < 1:
        raise UsageError(f"The size {width}x{height} has no area.")
    if height * width > MAX_PIXELS:
        raise UsageError(f"The size {width}x{height} has more than {MAX_PIXELS} pixels; ask for less.")
    return size


def seeds_of(job: SamplingJob) -> tuple[int, ...]:
    """Each candidate's seed."""
    return tuple(range(job.seed, job.seed + job.num_images))


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def mean(scores: Sequence[float | None]) -> float | None:
    """Of a candidate's scores in all windows; None where nothing ranked it."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


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
