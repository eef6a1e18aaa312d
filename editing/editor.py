"""The two things that `inlay` does: edit a photo, and generate a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..diffusion.model import EMBEDDED, Model
from ..errors import UsageError
from ..guidance.attention_pictures import Attention, RecordAttention
from ..guidance.base import Chain, Guidance
from ..guidance.methods import chained, described
from ..guidance.regions import Region
from ..photos import MAX_PIXELS
from ..photos.photo import Photo
from .guided import check_kinds, far_from_native, surprises
from .job import EditJob, GenerateJob, Method, Record, SamplingJob, checked
from .rank import Ranker, ToyboxRanker
from .reconstruct import decode_with_background
from .result import Result, facts
from .sampling import Canvas, OnLatents, Painted, Progress, Sample, paint, with_fallbacks
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
        """Load a model; see `Model.from_pretrained`. Toybox brings its own ranker."""
        model = Model.from_pretrained(
            name, device=device, dtype=dtype, config=config, offline=offline, allow_pickle=allow_pickle
        )
        return cls(model, ranker or (ToyboxRanker() if name in EMBEDDED else None))

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
            made = self._generate(job, with_recorder, regions, record, on_step, on_glimpse)
            return replace(made, warnings=(*made.warnings, *kept.unrepeatable))
        picture = photo if isinstance(photo, Photo) else Photo.from_image(photo)
        place = edited_place(mask, regions, picture.size)
        said = tuple(str(region.words) for region in regions) or (() if words is None else (str(words),))
        job = job.model_copy(update={"words": said, "photo": str(picture.path) if picture.path else None})
        made = self._edit(job, with_recorder, picture, place, regions, words, record, on_step, on_glimpse)
        return replace(made, warnings=(*made.warnings, *kept.unrepeatable))

    def _generate(
        self,
        job: GenerateJob,
        guidance: Guidance,
        regions: Sequence[Region],
        record: Callable[[], Attention | None],
        on_step: Progress | None,
        on_glimpse: OnGlimpse | None,
    ) -> Result:
        height, width = picture_size(job.size or self.model.native_size)
        factor = self.model.factor
        padded = (-(-height // factor) * factor, -(-width // factor) * factor)

        def work(samples: Sequence[Sample]) -> Sequence[UInt8[np.ndarray, "H W 3"]]:
            painted = paint(self.model, job, guidance, samples, padded, on_step, self._glimpses(on_glimpse))
            return eight_bit(self.model.decode(painted.latents))

        seeds = seeds_of(job)
        samples = [Sample(seed, job.prompt, job.negative_prompt, regions=tuple(regions)) for seed in seeds]
        pictures, fallbacks = with_fallbacks(self.model, samples, work)
        images = tuple(Photo.from_image(picture[:height, :width]) for picture in pictures)
        found = [facts(self.model, job, seed, images[0], fallbacks=fallbacks) for seed in seeds]
        warnings = (
            *self._prompt_warnings(job),
            *far_from_native((height, width), self.model.native_size),
            *surprises(job, regions, [str(region.words) for region in regions]),
        )
        settings = tuple(Record(job=job, facts=one) for one in found)
        return Result(images, seeds, (None,) * len(seeds), settings, warnings, record())

    def _edit(
        self,
        job: EditJob,
        guidance: Guidance,
        photo: Photo,
        place: Mask,
        regions: Sequence[Region],
        words: Words | None,
        record: Callable[[], Attention | None],
        on_step: Progress | None,
        on_glimpse: OnGlimpse | None,
    ) -> Result:
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
        windows = windows_of(photo, place, regions, job, self.model)
        seeds, fallbacks = seeds_of(job), tuple[str, ...]()
        images, edits = [photo] * len(seeds), list[list[Edited]]()
        for window, progress in zip(windows, spread(on_step, len(windows)), strict=True):
            done, notes = self._paint(job, guidance, window, seeds, progress, on_glimpse)
            images = [
                pasted(image, one.patch, place, window.crop, job, self.model.factor)
                for image, one in zip(images, done, strict=True)
            ]
            edits.append(done)
            fallbacks += notes
        scores = tuple(mean([one[k].score for one in edits]) for k in range(len(seeds)))
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
                    inversion_psnr=edits[-1][k].inversion_psnr,
                    words=said,
                    score=scores[k],
                    ranker=self.ranker.name if self.ranker and scores[k] is not None else None,
                    fallbacks=fallbacks,
                ),
            )
            for k, (seed, image) in enumerate(zip(seeds, images, strict=True))
        )
        warnings += [note for note in images[0].warnings if note not in warnings]
        return Result(tuple(images), seeds, scores, settings, tuple(warnings), record())

    def _paint(
        self,
        job: EditJob,
        guidance: Guidance,
        window: Window,
        seeds: Sequence[int],
        on_step: Progress | None,
        on_glimpse: OnGlimpse | None,
    ) -> tuple[list[Edited], tuple[str, ...]]:
        """A window's candidates at the model's size."""

        def work(samples: Sequence[Sample]) -> Sequence[Edited]:
            glimpses = self._glimpses(on_glimpse, window.crop.box)
            painted = paint(self.model, job, guidance, samples, window.size, on_step, glimpses)
            decoded = self._decoded(job, painted, window.canvas)
            scores = None
            if self.ranker and job.num_images > 1:
                scores = self.ranker(decoded / 2 + 0.5, window.canvas.mask, job.prompt)
            return [
                Edited(patch, painted.inversion_psnr[k], scores[k] if scores else None)
                for k, patch in enumerate(eight_bit(decoded))
            ]

        samples = [
            Sample(seed, job.prompt, job.negative_prompt, job.source_prompt, window.regions, window.canvas)
            for seed in seeds
        ]
        return with_fallbacks(self.model, samples, work)

    def _glimpses(
        self, on_glimpse: OnGlimpse | None, crop: tuple[int, int, int, int] | None = None
    ) -> OnLatents | None:
        return on_glimpse and (lambda latents: on_glimpse(Glimpse(self.model, latents, crop)))

    def _decoded(self, job: EditJob, painted: Painted, canvas: Canvas) -> Float[Tensor, "b 3 H W"]:
        if job.background != "decoder":
            return self.model.decode(painted.latents)
        return torch.cat(
            [decode_with_background(self.model, one[None], canvas.pixels, canvas.mask) for one in painted.latents]
        )

    def _scale(self, job: SamplingJob) -> float:
        if job.guidance_scale is not None:
            return job.guidance_scale
        return float(self.model.defaults.get("guidance_scale", 7.5))

    def _prompt_warnings(self, job: SamplingJob) -> tuple[str, ...]:
        from ..toybox.vocabulary import shipped, unknown_words

        lost = self.model.prompts.lost(job.prompt)
        limit = self.model.prompts.limit
        said = [f"The model reads {limit} tokens of a prompt; it does not see: {lost}"] if lost else []
        if self.model.name in EMBEDDED and (unknown := unknown_words(job.prompt)):
            nouns = ", ".join(shipped()["nouns"])
            said.append(f"toybox has never seen {', '.join(unknown)}; the things that it knows are {nouns}.")
        return tuple(said)


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
