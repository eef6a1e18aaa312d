"""The keywords of `Editor.edit` and `Editor.generate` for type checkers: the fields of their records.

A test holds them equal to `EditJob` and `GenerateJob`, where each is explained.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class SamplingSettings(TypedDict, total=False):
    """Of `SamplingJob`, but what the editor itself or an argument of its own says."""

    negative_prompt: str
    seed: int
    num_images: int
    steps: int
    guidance_scale: float | None
    guidance_interval: tuple[float, float]
    scheduler: str


class GenerateSettings(SamplingSettings, total=False):
    """Of `GenerateJob`."""

    size: tuple[int, int] | None


class EditSettings(SamplingSettings, total=False):
    """Of `EditJob`."""

    strength: float
    invert: bool
    source_prompt: str
    shrink: bool
    background: Literal["composite", "decoder"]
    composite: Literal["feather", "poisson"]
    feather: float | None
    match_colour: bool
    match_grain: bool
    fill: Literal["keep", "blur", "neutral", "smooth", "border"]
    context: float
    split: bool
