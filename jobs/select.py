"""From what a job points at to the mask, or masks, of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from ..editing.crop import bounds
from ..editing.job import POINTERS, Opening, Pointing, RemoveJob, Setup
from ..errors import UsageError
from ..photos.mask_files import load_alpha, load_mask, require_some
from ..photos.photo import Photo
from ..segmentation import Masks, masks, pick, segment
from ..segmentation.pointing import Pick, prompts_for

Mask = Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"]


@dataclass(frozen=True)
class Selected:
    """The places that a job points at, one per box, file, or thing found, at the photo's size.

    `candidates` are what the segmenter offered for each place, best first; none where masks came from files.
    """

    parts: tuple[Mask, ...]
    candidates: tuple[Masks, ...] = ()

    @property
    def mask(self) -> Mask:
        """All places together."""
        return np.maximum.reduce(self.parts)

    @property
    def backend(self) -> str | None:
        return self.candidates[0].backend if self.candidates else None


def opened(job: Opening, setup: Setup) -> Photo:
    """The photo that a job names."""
    if job.photo is None:
        raise UsageError("There is no photo; name one.")
    return Photo.open(job.photo, frame=job.frame, max_pixels=setup.max_pixels)


def select(photo: Photo, job: Pointing, setup: Setup = Setup()) -> Selected:
    """The places that `job` points at in `photo`, refined as it says.

    Raises:
        UsageError: nothing is pointed at, two ways of pointing are mixed, a prompt leaves the photo, a mask of another
            size, or nothing is left of a mask.
        PhotoError: a mask file cannot be read.
        ModelError: the segmenter's weights are not at hand.
    """
    given = {name for name in POINTERS if getattr(job, name)}
    if not given:
        raise UsageError(
            "Nothing is pointed at; give --point, --box, --select or --mask (to edit also --layout; for a mask also "
            "--difference or --everything)."
        )
    if len(given & {"select", "mask"}) and len(given) > 1:
        raise UsageError("Choose one way to point: --point and --box together, or --select, or --mask.")
    if job.mask:
        return Selected(places([read(file, photo, job, setup.max_pixels) for file in job.mask], job))
    found = offered(photo, job, setup)
    chosen = tuple(pick(one, picked(job.pick)) for one in found)
    if not all(mask.any() for mask in chosen):
        raise UsageError(
            f"{found[0].backend} finds nothing there; point at the middle of the thing, or draw a closer box."
        )
    return Selected(places(chosen, job), found)


def offered(photo: Photo, job: Pointing, setup: Setup) -> tuple[Masks, ...]:
    """The segmenter's candidates for each thing that is pointed at."""
    options: Any = {"backend": job.segmenter, "offline": setup.offline, "device": setup.device}
    if job.select:
        return (segment(photo, text=job.select, **options),)
    height, width = photo.pixels.shape[:2]
    points, labels = [point[:2] for point in job.point], [point[2] for point in job.point]
    things = prompts_for((height, width), points, labels, job.box)
    return tuple(
        segment(
            photo,
            points=thing.points.tolist(),
            labels=thing.labels.tolist(),
            boxes=() if thing.box is None else [thing.box.tolist()],
            **options,
        )
        for thing in things
    )


def picked(name: str) -> Pick:
    """What `pick` takes, from text."""
    return int(name) if name.isdecimal() else name  # type: ignore[return-value]  # `pick` refuses other names


def read(file: str, photo: Photo, job: Pointing, max_pixels: int) -> Mask:
    """A mask file at the photo's size."""
    height, width = photo.pixels.shape[:2]
    channel: Literal["alpha", "grey"] = "alpha" if job.mask_read == "alpha" else "grey"
    if job.mask_read != "opacity":
        return load_mask(file, (height, width), channel=channel, fit=job.mask_fit, max_pixels=max_pixels)
    alpha = load_alpha(file, (height, width), fit=job.mask_fit, max_pixels=max_pixels)
    require_some(alpha, file)
    return alpha


def places(found: Sequence[Mask], job: Pointing) -> tuple[Mask, ...]:
    """The places, refined as the job says: each by itself, or where what is not in it counts, all together.

    Raises:
        UsageError: nothing is left, or places with words of their own are to be inverted.
    """
    worded = len(getattr(job, "words", ())) > 1
    if worded and job.mask_invert and len(found) > 1:
        raise UsageError("What is around several places has no words of each; leave out --mask-invert, or all but one.")
    if job.mask_invert or ((job.mask_grow or 0) < 0 and not worded):
        found = [np.maximum.reduce(found)]
    return tuple(refined(mask, job) for mask in found)


def refined(mask: Mask, job: Pointing | RemoveJob) -> Mask:
    """Holes filled, grown, inverted, softened: whatever the job asks for. A soft mask does not grow by itself.

    Raises:
        UsageError: nothing is left, or a soft mask is to change.
    """
    soft = mask.dtype != bool
    grow = (0.0 if soft else default_growth(mask)) if job.mask_grow is None else job.mask_grow
    if soft and (job.mask_fill_holes or grow or job.mask_soften):
        raise UsageError(
            "A mask of opacities stays as it is drawn; leave out --mask-fill-holes, --mask-grow and --mask-soften, or "
            "--mask-read opacity."
        )
    if job.mask_fill_holes:
        mask = masks.fill_holes(mask)
    if grow:
        mask = masks.grow(mask, grow)
    if job.mask_invert:
        mask = masks.invert(mask) if mask.dtype == bool else 1 - mask
    if not mask.any():
        raise UsageError("Nothing is left of the mask; shrink it less, or point at something else.")
    return masks.feather(mask, job.mask_soften) if job.mask_soften else mask


def default_growth(mask: Mask) -> float:
    """Pixels by which the mask of a thing to be removed grows: over its rim and the beginning of its shadow."""
    box = bounds(mask)
    return max(2.0, 0.04 * max(box.width, box.height))
