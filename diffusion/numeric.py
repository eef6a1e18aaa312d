"""The watch for NaN and infinity: caught where they appear, never saved."""

from __future__ import annotations

from torch import Tensor

from ..errors import InlayError
from .schedule import Step


class NumericError(InlayError):
    """NaN or infinity in latents or pixels: half precision overflowed, or the weights are broken."""


def finite(values: Tensor, step: Step | None = None) -> Tensor:
    """`values`, checked: of a step's prediction or gradient, or else of a decoded picture.

    Raises:
        NumericError: NaN or infinity.
    """
    if not bool(values.isfinite().all()):
        place = "in the decoded picture" if step is None else f"at timestep {int(step.timestep)}"
        raise NumericError(
            f"The model produced NaN or infinity {place}: half precision overflows (try --dtype float32), or its "
            "weights are broken."
        )
    return values
