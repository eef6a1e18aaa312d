"""The one record of a piece of work: what the command line parses into, a result stores and --from reads back."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import UsageError


class Frozen(BaseModel):
    """A record that refuses unknown fields and cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Method(Frozen):
    """A guidance method by its name in `METHODS`, with the parameters that differ from its defaults."""

    name: str
    parameters: dict[str, Any] = {}


class Selection(Frozen):
    """How the mask was made: prompts in display coordinates, or a file, then the changes to it."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    text: str | None = None
    pick: str = "best"
    file: str | None = None
    fit: Literal["refuse", "resize"] = "refuse"
    backend: str = "auto"
    grow: float = 0.0
    feather: float | None = None
    invert: bool = False
    fill_holes: bool = False


class Job(Frozen):
    """Everything that decides a result. Sizes are (height, width) in pixels."""

    action: Literal["edit", "generate"]
    model: str = "toybox"
    prompt: str
    negative_prompt: str = ""
    seed: int = Field(0, ge=0)
    num_images: int = Field(1, ge=1)
    steps: int = Field(50, ge=1)
    guidance_scale: float = Field(ge=0)
    scheduler: str = "ddim"
    methods: tuple[Method, ...] = ()
    words: tuple[str, ...] = ()
    layout: str | None = None
    size: tuple[int, int] | None = None
    photo: str | None = None
    selection: Selection | None = None
    strength: float = 1.0
    invert: bool = False
    source_prompt: str = ""
    shrink: bool = False
    background: Literal["composite", "decoder"] = "composite"
    composite: Literal["feather", "poisson"] = "feather"
    feather: float | None = None
    match_colour: bool = False
    context: float = 0.5
    split: bool = True
    facts: Facts | None = None
    """What was found while doing it; None before."""


class Facts(Frozen):
    """What a run found out about itself."""

    inlay: str
    torch: str
    diffusers: str
    weights: str
    device: str
    dtype: str
    image_seed: int
    crops: tuple[tuple[int, int, int, int], ...] = ()
    mask_sha256: str | None = None
    changed_pixels: int | None = None
    inversion_psnr: float | None = None
    words: str | None = None
    score: float | None = None
    ranker: str | None = None
    fallbacks: tuple[str, ...] = ()


Job.model_rebuild()


def checked(**fields: Any) -> Job:
    """A `Job`, with pydantic's complaint turned into one sentence.

    Raises:
        UsageError: a field outside its range.
    """
    from pydantic import ValidationError

    try:
        return Job(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"The setting {name} cannot be {first['input']!r}: {first['msg'].lower()}.") from error
