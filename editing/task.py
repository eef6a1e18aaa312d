"""A job made ready: what it names at hand, what it leaves open chosen, and the windows in which it paints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ..diffusion.model import Model
from ..errors import UsageError
from ..guidance.attention_pictures import Attention
from ..guidance.base import Guidance
from ..guidance.regions import Region
from ..photos import MAX_PIXELS
from ..photos.mask_files import fitted
from ..photos.photo import Photo
from .crop import Box
from .extend import extended, strips
from .guided import far_from_native, surprises
from .job import SHARED, EditJob, ExtendJob, GenerateJob, Job, Painting
from .rank import Ranker
from .result import Result, record_of
from .sampling import Canvas, Sample
from .shown import NOTHING, Pixels, Shown
from .windows import Mask, Window, canvas_of, edited_place, native_side, pasted, windows_along, windows_of
from .words import default_words, target_tokens

Words = str | Sequence[int]
"""A phrase of the prompt, or token indices."""


@dataclass(frozen=True, eq=False)
class Work:
    """A job with what it names, loaded; see `Editor.run`."""

    job: Job
    photo: Any = None
    mask: Any = None
    regions: Sequence[Region] = ()
    words: Words | None = None
    shown: Shown = NOTHING


@dataclass(frozen=True, eq=False)
class Edited:
    """One candidate for a window, at the model's size."""

    patch: UInt8[np.ndarray, "h w 3"]
    inversion_psnr: float | None
    score: float | None


@dataclass(frozen=True, eq=False)
class Task:
    """A job and what it works on: a photo and the windows in it, or, from nothing, the picture's (height, width)."""

    job: Job
    guidance: Guidance
    size: tuple[int, int] = (0, 0)
    regions: tuple[Region, ...] = ()
    photo: Photo | None = None
    place: Mask | None = None
    windows: tuple[Window, ...] = ()
    words: str | None = None
    shown: Shown = NOTHING
    hints: tuple[Pixels, ...] = ()
    """What the controls are shown where the picture is made from nothing."""
    warnings: tuple[str, ...] = ()
    attention: Callable[[], Attention | None] = field(default=lambda: None)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Each candidate's seed."""
        return tuple(range(self.job.seed, self.job.seed + self.job.num_images))

    @property
    def guided(self) -> tuple[bool, ...]:
        """Whether anything has a place, in each pass: guidance may sample otherwise where something has."""
        return tuple(bool(window.regions) for window in self.windows) or (bool(self.regions),)

    def sizes(self, model: Model) -> tuple[tuple[int, int], ...]:
        """(height, width) of each pass through the loop, in the model's pixels."""
        if self.photo is not None:
            return tuple(window.size for window in self.windows)
        return (tuple(-(-side // model.factor) * model.factor for side in self.size),)  # type: ignore[return-value]

    def agrees(self, other: Task, model: Model) -> bool:
        """Whether both can go through the loop together."""
        ways = [(one.guidance, one.job.action, one.sizes(model), one.guided) for one in (self, other)]
        alike = ways[0] == ways[1]
        return alike and all(getattr(self.job, name, None) == getattr(other.job, name, None) for name in SHARED)

    def samples(self, number: int, images: Sequence[Photo | None]) -> list[Sample]:
        """The candidates of pass `number`; `images` are they so far."""
        job = self.job
        common: dict[str, Any] = {"reference": None}
        if job.reference is not None and self.shown.reference is not None:
            common["reference"] = (self.shown.reference, job.reference.scale)
        if not isinstance(job, Painting):
            common |= {"regions": self.regions, "hints": self._weighed(self.hints)}
            return [Sample(seed, job.prompt, job.negative_prompt, **common) for seed in self.seeds]
        window, canvases = self.windows[number], dict[int, Canvas]()
        assert self.photo is not None
        common |= {"regions": window.regions, "hints": self._weighed(self.shown.within(window.crop, self.photo.pixels))}
        # what an edit sees beside a window's own place is the photo's, whatever was painted elsewhere
        seen = images if isinstance(job, ExtendJob) else [self.photo] * len(images)
        for image in seen:
            assert image is not None
            if id(image) not in canvases:
                canvases[id(image)] = canvas_of(image, window, job.fill)
        # equal noise in strip after strip would paint the same again and again
        apart = number << 32 if isinstance(job, ExtendJob) else 0
        return [
            Sample(
                seed + apart, job.prompt, job.negative_prompt, job.source_prompt, canvas=canvases[id(image)], **common
            )
            for seed, image in zip(self.seeds, seen, strict=True)
        ]

    def _weighed(self, hints: Sequence[Pixels]) -> tuple[tuple[Pixels, float], ...]:
        return tuple((picture, control.scale) for picture, control in zip(hints, self.job.control, strict=True))

    def pasted(self, number: int, image: Photo | None, patch: UInt8[np.ndarray, "h w 3"], factor: int) -> Photo:
        """A candidate with what pass `number` made of it."""
        if image is None or not isinstance(self.job, Painting):
            return Photo.from_image(patch[: self.size[0], : self.size[1]])
        return pasted(image, patch, self.windows[number], self.job, factor)

    def changed(self, image: Photo) -> int:
        """How many of the photo's pixels a candidate has changed: patches reach no pixel outside the windows."""
        if self.photo is None or not self.windows:
            return 0
        around = reduce(Box.union, (window.crop.inside for window in self.windows)).slices
        return int((image.pixels[around] != self.photo.pixels[around]).any(-1).sum())

    def result(
        self,
        model: Model,
        images: Sequence[Photo],
        edits: Sequence[Sequence[Edited]],
        ranker: Ranker | None,
        notes: Sequence[str],
    ) -> Result:
        """What came of it: each candidate's picture and record. `edits` are those of each pass."""
        scores = tuple(mean([one[k].score for one in edits]) for k in range(len(images)))
        found: dict[str, Any] = {"fallbacks": tuple(notes), "control_sha256": self.shown.sha256}
        if self.photo is not None:
            found |= {"crops": tuple(window.crop.box for window in self.windows), "words": self.words}
            found |= {"photo_sha256": sha256(self.photo.pixels), "mask_sha256": sha256(self.place)}
        settings = []
        for k, image in enumerate(images):
            own: dict[str, Any] = {}
            if self.photo is not None:
                own["changed_pixels"] = self.changed(image)
                own["inversion_psnr"] = edits[-1][k].inversion_psnr if edits else None
            if ranker and scores[k] is not None:
                own |= {"score": scores[k], "ranker": ranker.name}
            settings.append(record_of(model, self.job, self.seeds[k], image, **found, **own))
        notes = [note for note in images[0].warnings if note not in self.warnings]
        return Result(tuple(images), self.seeds, scores, tuple(settings), (*self.warnings, *notes), self.attention())


def generation(job: GenerateJob, model: Model, regions: Sequence[Region], **common: Any) -> Task:
    """A picture from nothing.

    Raises:
        UsageError: a size without area, or with more pixels than any photo that would be opened.
    """
    height, width = size = job.size or model.native_size
    if height < 1 or width < 1:
        raise UsageError(f"The size {width}x{height} has no area.")
    if height * width > MAX_PIXELS:
        raise UsageError(f"The size {width}x{height} has more than {MAX_PIXELS} pixels; ask for less.")
    said = (
        *far_from_native(size, model.native_size),
        *surprises(job, regions, [str(region.words) for region in regions]),
    )
    warnings = (*common.pop("warnings"), *said)
    task = Task(job, size=size, regions=tuple(regions), warnings=warnings, **common)
    return replace(task, hints=task.shown.whole(size, task.sizes(model)[0]))


def extension(job: ExtendJob, model: Model, photo: Any, **common: Any) -> Task:
    """A larger picture around a photo."""
    canvas, inner = extended(photo if isinstance(photo, Photo) else Photo.from_image(photo), job)
    common["shown"].check(canvas.size)
    place = np.ones((canvas.size[1], canvas.size[0]), bool)
    place[inner.slices] = False
    # what has been painted is there to be continued
    windows = windows_along(strips(canvas.size, inner, native_side(model)), place, job, model)
    if not windows:
        common["warnings"] += ("Nothing is added; say at which side, and how much.",)
    return Task(job, photo=canvas, place=place, windows=windows, **common)


def edition(
    job: Job, model: Model, photo: Any, mask: Any, regions: Sequence[Region], words: Words | None, **common: Any
) -> Task:
    """A photo with a place in it to be painted anew.

    Raises:
        UsageError: an empty mask or one of another size, words that the prompt lacks.
    """
    assert isinstance(job, Painting)
    picture = photo if isinstance(photo, Photo) else Photo.from_image(photo)
    common["shown"].check(picture.size)
    regions = [on_photo(region, picture.size) for region in regions]
    place = edited_place(mask, regions, picture.size)
    warnings, said = list(common.pop("warnings")), None
    if place.all():
        warnings.append("The mask covers the whole photo: nothing of it is kept.")
    if (alpha := picture.alpha) is not None and not alpha[place > 0].any():
        warnings.append("The photo is transparent in all of the mask, so what is painted there cannot be seen.")
    if job.invert and job.num_images > 1:
        warnings.append("With inversion all candidates start alike; only stochastic schedulers tell them apart.")
    if isinstance(job, EditJob):
        if job.method and not regions:
            tokens, said = (words, str(words)) if words is not None else target_tokens(job.prompt, model.prompts)
            regions = [Region(place.astype(np.float32), tokens)]
            if words is None:
                known = default_words(job.prompt)
                choose = "" if known else ", all of the prompt; name the thing with --words (words=)"
                warnings.append(f"The words are {said!r}{choose}.")
        warnings += surprises(job, regions, job.words)
    elif job.method:
        regions = [Region(place.astype(np.float32), ())]
    windows = windows_of(place, regions, job, model)
    return Task(
        job,
        regions=tuple(regions),
        photo=picture,
        place=place,
        windows=windows,
        words=said,
        warnings=tuple(warnings),
        **common,
    )


def on_photo(region: Region, size: tuple[int, int]) -> Region:
    """A region with a mask of the photo's `size` (width, height).

    Raises:
        UsageError: its mask has another aspect.
    """
    mask, (width, height) = region.tensor().numpy(), size
    if mask.shape == (height, width):
        return region
    if abs(mask.shape[1] * height - mask.shape[0] * width) > (width + height) / 2:  # more than rounding of its sides
        raise UsageError(
            f"The mask of region {region.words!r} is {mask.shape[1]}x{mask.shape[0]} and the photo {width}x{height}; "
            "give them one aspect."
        )
    return replace(region, mask=fitted(mask, (height, width)))


def sha256(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def mean(scores: Sequence[float | None]) -> float | None:
    """Of a candidate's scores in all windows; None where nothing ranked it."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
