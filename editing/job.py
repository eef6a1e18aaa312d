"""The one record of a piece of work: what the command line parses into, a result stores and --from reads back."""

from __future__ import annotations

from os import PathLike
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ..errors import UsageError
from ..photos.metadata import read_settings


class Frozen(BaseModel):
    """A record that refuses unknown fields and cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Method(Frozen):
    """A guidance method by its name in `METHODS`, with the parameters that differ from its defaults."""

    name: str
    parameters: dict[str, Any] = {}


class Selection(Frozen):
    """How the mask was made: prompts in display coordinates, a text, or files; then the changes to it, in this order.

    `pick` is "best", "largest", "all" or a number from 1. `read` says what white means in a file: at least half white,
    white as opacity, or the file's alpha channel. `grow` and `feather` are in photo pixels; `grow` below 0 shrinks.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # segmentation refuses them, and names the photo's size

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    text: str | None = None
    pick: str = "best"
    files: tuple[str, ...] = ()
    read: Literal["threshold", "opacity", "alpha"] = "threshold"
    fit: Literal["exact", "resize"] = "exact"
    backend: str = "auto"
    fill_holes: bool = False
    grow: float = Field(0.0, allow_inf_nan=False)
    invert: bool = False
    feather: float = Field(0.0, ge=0, allow_inf_nan=False)


POINTING = ("points", "labels", "boxes", "text", "files")
"""The fields of a `Selection` that point at something; the others say how."""


class Job(Frozen):
    """Everything that decides a result. Sizes are (height, width) in pixels; None means the model's own.

    `layout` is a layout.json, or a picture whose `colours` stand for words; its regions are then what is edited.
    `methods` None leaves the choice of guidance to `inlay`; () is plain classifier-free guidance.
    """

    action: Literal["edit", "generate"]
    model: str = "toybox"
    prompt: str
    negative_prompt: str = ""
    seed: int = Field(0, ge=0, le=2**62)  # seed + k fits a generator
    num_images: int = Field(1, ge=1)
    steps: int = Field(50, ge=1)
    guidance_scale: float | None = Field(None, ge=0)
    scheduler: str = "ddim"
    methods: tuple[Method, ...] | None = None
    words: tuple[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], ...] = ()
    layout: str | None = None
    colours: dict[str, str] = {}
    size: tuple[int, int] | None = None
    photo: str | None = None
    frame: int | None = None
    selection: Selection | None = None
    strength: float = Field(1.0, gt=0, le=1)
    invert: bool = False
    source_prompt: str = ""
    shrink: bool = False
    background: Literal["composite", "decoder"] = "composite"
    composite: Literal["feather", "poisson"] = "feather"
    feather: float | None = Field(None, ge=0)
    match_colour: bool = False
    context: float = Field(0.5, ge=0)
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
    layout_sha256: str | None = None
    changed_pixels: int | None = None
    inversion_psnr: float | None = None
    words: str | None = None
    advice: dict[str, dict[str, Any]] = {}
    """The model's own defaults of the methods' parameters, by method; they held where the job says nothing."""
    score: float | None = None
    ranker: str | None = None
    fallbacks: tuple[str, ...] = ()


Job.model_rebuild()


Record = TypeVar("Record", bound=Frozen)


def checked(kind: type[Record], **fields: Any) -> Record:
    """A record, with pydantic's complaint turned into one sentence.

    Raises:
        UsageError: a field outside its range.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"The setting {name} cannot be {first['input']!r}: {first['msg'].lower()}.") from error


def stored_job(path: str | PathLike[str], action: str) -> dict[str, Any]:
    """The settings stored in a result, as they make that very picture again: of n candidates just this one.

    Raises:
        UsageError: no settings, or those of another action.
        PhotoError: the file cannot be read.
    """
    settings = read_settings(path)
    if settings is None:
        raise UsageError(f"{path} carries no settings of inlay; name a result that inlay saved.")
    job = checked(Job, **settings)
    if job.action != action:
        raise UsageError(f"{path} was made by inlay {job.action}; use that command.")
    seed = job.facts.image_seed if job.facts else job.seed
    return job.model_dump() | {"seed": seed, "num_images": 1}


def parse_methods(text: str) -> tuple[Method, ...]:
    """Methods by name, with parameters, together: `zest:fraction=0.25:strength=1+paint-with-words`; `plain` is none.

    Raises:
        UsageError: a parameter without a value.
    """
    return tuple(parse_method(part) for part in text.split("+") if part.strip() != "plain")


def parse_method(text: str) -> Method:
    """One method with its parameters: numbers, true, false, or text."""
    name, *assignments = (part.strip() for part in text.split(":"))
    pairs = [assignment.partition("=") for assignment in assignments]
    if wrong := [parameter for parameter, equals, _ in pairs if not equals]:
        raise UsageError(f"The parameter {wrong[0]!r} of {name} has no value; write {name}:{wrong[0] or 'NAME'}=VALUE.")
    return Method(name=name, parameters={parameter.strip(): parsed(value.strip()) for parameter, _, value in pairs})


def parsed(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)
