"""Pictures that a model is shown beside the photo: what controls follow, and the thing that a reference means."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ..errors import UsageError
from ..photos.photo import Photo
from ..weights.adapters import Adapters
from .crop import Crop
from .job import EDGES

Pixels = UInt8[np.ndarray, "H W 3"]

THRESHOLDS = (100, 200)
"""Of Canny's hysteresis, as in diffusers' guide to ControlNets."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture for each control, None for the photo's edges, and the reference's."""

    controls: tuple[Pixels | None, ...] = ()
    reference: Pixels | None = None

    @property
    def sha256(self) -> tuple[str, ...]:
        """Of each picture that was given, the reference's last."""
        given = [picture for picture in (*self.controls, self.reference) if picture is not None]
        return tuple(hashlib.sha256(np.ascontiguousarray(picture).data).hexdigest() for picture in given)

    def check(self, size: tuple[int, int]) -> None:
        """Refuse pictures of another size than the photo's (width, height), that of the larger canvas in an extension.

        Raises:
            UsageError: one of another size.
        """
        for picture in self.controls:
            if picture is not None and (picture.shape[1], picture.shape[0]) != size:
                raise UsageError(
                    f"A control's picture is {picture.shape[1]}x{picture.shape[0]} and the photo {size[0]}x{size[1]}; "
                    "make them one size."
                )

    def within(self, crop: Crop, photo: Pixels) -> tuple[Pixels, ...]:
        """What the controls are shown in a window of the photo, at the model's size."""
        return tuple(edges(crop.cut(photo)) if picture is None else crop.cut(picture) for picture in self.controls)

    def whole(self, size: tuple[int, int], canvas: tuple[int, int]) -> tuple[Pixels, ...]:
        """What the controls are shown where a picture of `size` is made from nothing, on a `canvas` of whole latents,
        both (height, width).

        Raises:
            UsageError: no picture, or one of another aspect.
        """
        import cv2

        made = []
        for picture in self.controls:
            if picture is None:
                raise UsageError("There is no photo whose edges a control could follow; name a picture: canny=PICTURE.")
            height, width = picture.shape[:2]
            if abs(width * size[0] - height * size[1]) > max(*size, height, width):  # more than rounding to a pixel
                raise UsageError(
                    f"A control's picture is {width}x{height} and what is made {size[1]}x{size[0]}; give it the same "
                    "aspect, or choose another --size."
                )
            fit = (height, width) == canvas
            smaller = width > canvas[1]
            how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
            made.append(picture if fit else np.asarray(cv2.resize(picture, canvas[::-1], interpolation=how), np.uint8))
        return tuple(made)


NOTHING = Shown()


def edges(picture: Pixels) -> Pixels:
    """Its edges by Canny, white on black."""
    import cv2

    return np.repeat(cv2.Canny(picture, *THRESHOLDS)[..., None], 3, axis=-1)


def said(adapters: Adapters, control: Sequence[Any], reference: Any) -> tuple[dict[str, Any], Shown]:
    """The fields of a job, and the pictures, that an editor's keywords say.

    Each of `control` is a picture, "canny", or a pair of one of these and a scale; `reference` is a picture, or such a
    pair. A picture is whatever a photo can be, or a path.

    Raises:
        UsageError: not as many as the editor was loaded with.
    """
    if len(control) != len(adapters.control):
        raise UsageError(
            f"The editor was loaded with {len(adapters.control)} controls and is given {len(control)} pictures."
        )
    if (reference is None) != (adapters.reference is None):
        raise UsageError("A reference needs an editor that was loaded with reference=WEIGHTS, and the other way round.")
    fields, pictures = dict[str, Any](), list[Pixels | None]()
    for weights, one in zip(adapters.control, control, strict=True):
        name, pixels, scale = seen(one)
        fields.setdefault("control", []).append({"weights": weights, "picture": name, "scale": scale})
        pictures.append(pixels)
    if reference is None:
        return fields, Shown(tuple(pictures))
    name, pixels, scale = seen(reference)
    fields["reference"] = {"weights": adapters.reference, "picture": name, "scale": scale}
    return fields, Shown(tuple(pictures), pixels)


def seen(given: Any) -> tuple[str, Pixels | None, float]:
    """A picture's name, its pixels, None for the photo's edges, and its scale."""
    picture, scale = given if isinstance(given, tuple) else (given, 1.0)
    if isinstance(picture, str) and picture == EDGES:
        return EDGES, None, scale
    photo = opened(picture)
    return str(photo.path or "in memory"), photo.pixels, scale


def opened(picture: Any) -> Photo:
    if isinstance(picture, Photo):
        return picture
    return Photo.open(picture) if isinstance(picture, str | Path) else Photo.from_image(picture)
