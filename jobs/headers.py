"""What can be refused or said of a job at once: from its names, its files' headers and its model's word list alone.

PyTorch is not imported here, so that the answer comes within a second, and for ten thousand photos within some more.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..editing.extend import extended_size
from ..editing.job import EDGES, POINTERS, REFINING, EditJob, ExtendJob, GenerateJob, Job, Opening, Pointing
from ..errors import PhotoError, UsageError
from ..guidance.names import check_names
from ..photos.read import STANDARD_INPUT, size_of
from ..segmentation.pointing import prompts_for
from ..weights.diffusion import belongings


def check_headers(job: Job, max_pixels: int) -> tuple[int, int] | None:
    """(width, height) of the picture that the job makes of its photo; None where it has none, or where that comes by
    standard input.

    Raises:
        InlayError: an unknown method, a file that is not there or no picture, points outside the photo, masks or
            pictures of controls of another size.
    """
    check_names(one.name for one in job.method or ())
    size = None
    if isinstance(job, Opening):
        if job.photo is None:
            raise UsageError("There is no photo; name one.")
        if job.photo != STANDARD_INPUT:
            size = size_of(job.photo, frame=job.frame, max_pixels=max_pixels)
        if isinstance(job, Pointing):
            check_pointing(job, size, max_pixels)
    for one in job.control:
        shown = None if one.picture == EDGES else size_of(one.picture, max_pixels=max_pixels)
        if shown and size and shown != size and not isinstance(job, ExtendJob):
            raise UsageError(
                f"The control's picture {one.picture} is {shown[0]}x{shown[1]} and the photo {size[0]}x{size[1]}; "
                "make them one size."
            )
    if job.reference:
        size_of(job.reference.picture, max_pixels=max_pixels)
    layout = layout_of(job)
    if layout is not None and not os.path.isfile(layout):
        raise UsageError(f"The layout {layout} does not exist, or is no file.")
    if getattr(job, "colour", None) and (layout is None or layout.lower().endswith(".json")):
        raise UsageError("--colour says what the colours of a layout's picture mean; give that picture as --layout.")
    return extended_size(size, job) if size and isinstance(job, ExtendJob) else size


def layout_of(job: Job) -> str | None:
    return job.layout if isinstance(job, EditJob | GenerateJob) else None


def check_pointing(job: Pointing, size: tuple[int, int] | None, max_pixels: int) -> None:
    """Refuse what cannot be meant on a photo of `size` (width, height), or on any."""
    given = {name for name in POINTERS if getattr(job, name)}
    if getattr(job, "layout", None) is not None:
        if given or getattr(job, "words", None):
            raise UsageError("A layout says both where and which words; leave out points, boxes, masks and --words.")
        if any(getattr(job, name) for name in REFINING):
            raise UsageError(
                "A layout's places stay as they are; leave out what fills, grows, inverts or softens masks."
            )
        return
    if not given:
        raise UsageError("Nothing is pointed at; give --point, --box, --select or --mask (or, to edit, --layout).")
    if len(given & {"select", "mask"}) and len(given) > 1:
        raise UsageError("Choose one way to point: --point and --box together, or --select, or --mask.")
    if size is None:
        return
    if given & {"point", "box"}:
        points, labels = [point[:2] for point in job.point], [point[2] for point in job.point]
        prompts_for((size[1], size[0]), points, labels, job.box)
    for mask in job.mask:
        width, height = mask_size(Path(mask), max_pixels)
        if (width, height) != size and job.mask_fit != "resize":
            raise UsageError(
                f"The mask {mask} is {width} x {height} pixels and the photo {size[0]} x {size[1]}; give one of the "
                "same size, or --mask-fit resize."
            )


def mask_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """(width, height) of a mask file."""
    if path.suffix.lower() != ".json":
        return size_of(path, max_pixels=max_pixels)
    try:
        height, width = (int(side) for side in json.loads(path.read_text("utf-8-sig"))["size"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise PhotoError(f"The mask {path} cannot be read: it is not COCO run lengths.") from error
    return width, height


def never_seen(job: Job) -> str | None:
    """What to say of words in the job's prompt, or its layout's, that its model was not trained on."""
    vocabulary = belongings(job.model).vocabulary
    return vocabulary.never_seen(job.model, job.prompt or layout_prompt(job)) if vocabulary else None


def layout_prompt(job: Job) -> str:
    """The prompt in a job's layout.json; none where that is missing or broken, which whoever reads it will say."""
    layout = layout_of(job)
    if layout is None or not layout.lower().endswith(".json"):
        return ""
    try:
        return str(json.loads(Path(layout).read_text("utf-8-sig"))["prompt"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
