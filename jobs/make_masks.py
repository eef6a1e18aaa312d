"""From a photo and what is pointed at to mask files: what `inlay mask` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..editing.job import POINTERS, MaskJob, Pointing, Setup
from ..errors import UsageError
from ..photos.mask_files import FORMATS, save_mask
from ..photos.overlay import overlay as drawn
from ..photos.overlay import overlay_labels
from ..photos.photo import Photo
from ..photos.save import STANDARD_OUTPUT, check_output
from ..segmentation.everything import everything
from .select import Mask, Selected, opened, refined, select


@dataclass(frozen=True)
class MaskFile:
    """A mask on disk: the share of the photo that it covers, who made it, and how good that one thinks it is."""

    path: Path
    share: float
    backend: str | None
    score: float | None


def make_masks(
    job: MaskJob,
    output: Path,
    setup: Setup = Setup(),
    overlay: Path | None = None,
    candidates: bool = False,
    overwrite: bool = False,
) -> list[MaskFile]:
    """Write the mask that `job` means on its photo, and the photo with each place in a colour to `overlay`.

    With `candidates` all that the segmenter offers, as output-1, output-2, … best first.

    Raises:
        UsageError, PhotoError: outputs that cannot be written; whatever `Photo.open` and `select` raise.
    """
    check_outputs(output, overlay, overwrite)
    if candidates and output == STANDARD_OUTPUT:
        raise UsageError("Standard output takes one mask: name a file for --candidates.")
    photo = opened(job, setup)
    selected = differing(photo, job, setup) if job.difference else select(photo, job, setup)
    score = min((float(one.scores.max()) for one in selected.candidates), default=None)
    offers = offered_by(selected, job) if candidates else [(selected.mask, score)]
    paths = [output.with_stem(f"{output.stem}-{k + 1}") for k in range(len(offers))] if candidates else [output]
    for path in paths:
        check_outputs(path, overlay, overwrite)
    if overlay:
        shown = drawn(photo.pixels, [part >= 0.5 for part in selected.parts])
        Photo.from_image(shown).save(overlay, overwrite=overwrite)
    return [written(mask, path, selected, score) for path, (mask, score) in zip(paths, offers, strict=True)]


def differing(photo: Photo, job: MaskJob, setup: Setup) -> Selected:
    """The places that tell two prompts apart, refined as the job says.

    Raises:
        UsageError: something is pointed at, too; nothing differs, or nothing is left.
        ModelError: the model is not at hand.
    """
    if any(getattr(job, name) for name in POINTERS):
        raise UsageError("--difference finds the place by itself; leave out points, boxes, --select and --mask.")
    from ..editing.difference import difference_mask
    from .perform import editor_for

    assert job.difference is not None
    return Selected((refined(difference_mask(editor_for(job.model, setup).model, photo, *job.difference), job),))


@dataclass(frozen=True)
class MapFile:
    """All masks of a photo in one file: how many, and the share of the photo that they cover together."""

    path: Path
    count: int
    share: float
    backend: str


def map_everything(
    job: Pointing,
    output: Path,
    setup: Setup = Setup(),
    overlay: Path | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> MapFile:
    """Write every mask of a photo, see `Everything.save`, and the photo with each in a colour to `overlay`.

    Raises:
        UsageError, PhotoError: outputs that cannot be written; a photo without masks; whatever `Photo.open` raises.
        ModelError: the segmenter's weights are not at hand.
    """
    check_outputs(output, overlay, overwrite)
    photo = opened(job, setup)
    found = everything(
        photo, backend=job.segmenter, offline=setup.offline, device=setup.device, on_progress=on_progress
    )
    if overlay:
        Photo.from_image(overlay_labels(photo.pixels, found.label_map)).save(overlay, overwrite=overwrite)
    found.save(output)
    return MapFile(output, len(found.rles), float(np.mean(found.label_map > 0)), found.backend)


def check_outputs(output: Path, overlay: Path | None, overwrite: bool) -> None:
    """Refuse, before the work, what could not be written after it."""
    check_output(output, overwrite=overwrite, formats=FORMATS)
    if overlay:
        check_output(overlay, overwrite=overwrite)
        if overlay.absolute() == output.absolute():
            raise UsageError(f"{output} cannot be both the mask and the overlay; name two files.")


def offered_by(selected: Selected, job: Pointing) -> list[tuple[Mask, float]]:
    """Every candidate for the one thing that is pointed at, refined, and its score.

    Raises:
        UsageError: masks from files, or several things.
    """
    if len(selected.candidates) != 1:
        raise UsageError("--candidates shows what a segmenter offers for one thing: give points, one box, or a text.")
    (found,) = selected.candidates
    return [(refined(mask, job), float(score)) for mask, score in zip(found.masks, found.scores, strict=True)]


def written(mask: Mask, path: Path, selected: Selected, score: float | None) -> MaskFile:
    save_mask(mask, path)
    return MaskFile(path, float(np.mean(mask >= 0.5)), selected.backend, score)
