"""Every option of a piece of work, declared once: a field of a frozen record.

From the fields come the options of the command line, the keywords of `Editor.edit`, the rows of a manifest, the
settings that a result stores, and the form of the page. A field takes what JSON holds and what a shell can write:
`"170,15"` is the point `[170, 15, 1]`, `"512x384"` the size `[384, 512]`, `"zest:fraction=0.3"` a method.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    ValidationError,
)

from ..diffusion.samplers import SCHEDULERS, check_scheduler
from ..errors import UsageError
from ..guidance.written import parse
from ..photos import MAX_PIXELS
from ..weights.adapters import Adapters

LARGEST_SEED = 2**62
"""A seed and the number of an image fit a generator's 64 bits."""


class Frozen(BaseModel):
    """A record that refuses unknown fields and cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Shell:
    """How the command line writes a field: a short name beside the long one, or another long one in its place; what
    stands for the value in the help; and what the default means where the value itself would not say it."""

    name: str = ""
    metavar: str = ""
    default: str = ""


Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def says(help: str, **limits: Any) -> Any:
    """A field's sentence of help, and its range."""
    return Field(description=help, **limits)


class Method(Frozen):
    """A guidance method by its name in `METHODS`, with the parameters that differ from its defaults."""

    name: str
    parameters: dict[str, Any] = {}


def parse_methods(text: Any) -> Any:
    """Methods as text; see `inlay.guidance.written.parse`."""
    if not isinstance(text, str):
        return text
    return tuple({"name": name, "parameters": parameters} for name, parameters in parse(text))


def numbers(text: str, counts: tuple[int, ...], form: str) -> list[float]:
    """Numbers between commas, as many as one of `counts`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts:
        raise UsageError(f"{text!r} is not {form}.")
    return values


def parse_point(value: Any) -> Any:
    """`X,Y` or `X,Y,0`, or a list; the third number says whether the point lies on the thing."""
    point = numbers(value, (2, 3), "a point X,Y or X,Y,0") if isinstance(value, str) else value
    if not isinstance(point, list | tuple) or len(point) not in (2, 3):
        return point
    if point[2:] and point[2] not in (0, 1):
        raise UsageError(f"The third number of the point {value!r} is 1 for this thing or 0 for not this.")
    return (*point, 1)[:3]


def parse_box(value: Any) -> Any:
    return numbers(value, (4,), "X0,Y0,X1,Y1") if isinstance(value, str) else value


def parse_interval(value: Any) -> Any:
    """`LOW,HIGH`."""
    return numbers(value, (2,), "an interval LOW,HIGH such as 0.2,0.8") if isinstance(value, str) else value


def rising(interval: tuple[float, float]) -> tuple[float, float]:
    """Refuses an interval that ends before it begins."""
    if interval[0] > interval[1]:
        raise UsageError(f"The interval {interval[0]:g},{interval[1]:g} is empty; write the lower end first.")
    return interval


def parse_size(value: Any) -> Any:
    """`WIDTHxHEIGHT`, or [height, width]."""
    if not isinstance(value, str):
        return value
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"{value!r} is not WIDTHxHEIGHT, such as 512x384.")
    return int(height), int(width)


def parse_pairs(value: Any) -> Any:
    """`A=B`, one or a list of them, or a mapping."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    pairs = [pair(str(one)) for one in value]
    names = [name for name, _ in pairs]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{doubled[0]} is given twice; once is meant.")
    return dict(pairs)


def pair(text: str) -> tuple[str, str]:
    """The two sides of `A=B`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not of the form A=B.")
    return name.strip(), value.strip()


def in_utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{text!r} is not text in UTF-8; write it anew.") from error
    return text


def scaled(text: str) -> tuple[str, float]:
    """`NAME[:SCALE]`; without a scale 1."""
    name, _, scale = text.strip().rpartition(":")
    try:
        return (name, float(scale)) if name else (scale, 1.0)
    except ValueError:
        return text.strip(), 1.0


def split(value: Any) -> Any:
    """A text with several names between semicolons as a list."""
    return [part.strip() for part in value.split(";") if part.strip()] if isinstance(value, str) else value


class Written(Frozen):
    """A record that a shell writes as one text, and several of them as a list, or in one text between semicolons."""

    @classmethod
    def parse(cls, text: str) -> dict[str, Any]:
        """The fields that a text says."""
        raise NotImplementedError

    @classmethod
    def read(cls, value: Any) -> Any:
        """One or several, from texts or from what JSON holds."""
        several = split(value)
        if not isinstance(several, list | tuple):
            return value
        return tuple(cls.parse(one) if isinstance(one, str) else one for one in several)


class Lora(Written):
    """A LoRA by its file or hub id, and how much of it is added."""

    weights: Phrase
    scale: float = 1.0

    def __str__(self) -> str:
        return with_scale(self.weights, self.scale)

    @classmethod
    def parse(cls, text: str) -> dict[str, Any]:
        """`FILE_OR_ID[:SCALE]`."""
        weights, scale = scaled(text)
        return {"weights": weights, "scale": scale}


EDGES = "canny"
"""In place of a control's picture: the photo's own edges."""


class Control(Written):
    """What a ControlNet or T2I-Adapter is shown: `weights` is a name of the catalogue, a folder or a hub id, `picture`
    a file of the photo's size or "canny", the edges of the photo."""

    weights: Phrase
    picture: Phrase
    scale: Annotated[float, Field(ge=0)] = 1.0

    def __str__(self) -> str:
        picture = "" if self.weights == self.picture == EDGES else f"={self.picture}"
        return with_scale(self.weights + picture, self.scale)

    @classmethod
    def parse(cls, text: str) -> dict[str, Any]:
        """`WEIGHTS=PICTURE[:SCALE]`, or `canny[:SCALE]`."""
        shown, scale = scaled(text)
        weights, equals, picture = shown.partition("=")
        if not equals and weights != EDGES:
            raise UsageError(
                f"Say what {weights!r} is shown: {weights}=PICTURE, or {weights}=canny for the photo's edges."
            )
        return {"weights": weights, "picture": picture if equals else EDGES, "scale": scale}


class Reference(Written):
    """A picture of the thing that is meant, for an IP-Adapter; no `weights` takes the catalogue's for the model."""

    picture: Phrase
    weights: str = ""
    scale: Annotated[float, Field(ge=0)] = 1.0

    def __str__(self) -> str:
        return with_scale((f"{self.weights}=" if self.weights else "") + self.picture, self.scale)

    @classmethod
    def parse(cls, text: str) -> dict[str, Any]:
        """`[WEIGHTS=]PICTURE[:SCALE]`."""
        shown, scale = scaled(text)
        weights, _, picture = shown.rpartition("=")
        return {"weights": weights, "picture": picture, "scale": scale}

    @classmethod
    def read(cls, value: Any) -> Any:
        """The one that there is."""
        return cls.parse(value) if isinstance(value, str) else value


def with_scale(text: str, scale: float) -> str:
    return text if scale == 1 else f"{text}:{scale:g}"


def listed(value: Any) -> Any:
    """One value stands for a list of one: a manifest's cell, or a keyword; so do the numbers of one box or point."""
    flat = isinstance(value, Sequence) and len(value) and all(isinstance(number, Real) for number in value)
    return (value,) if isinstance(value, str) or flat else value


Anywhere = Annotated[float, Field(allow_inf_nan=True)]
"""Segmentation refuses what lies outside the photo, and names its size."""
Point = Annotated[tuple[Anywhere, Anywhere, int], BeforeValidator(parse_point)]
Box = Annotated[tuple[Anywhere, Anywhere, Anywhere, Anywhere], BeforeValidator(parse_box)]
Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[
    tuple[Share, Share],
    says("Noise levels with classifier-free guidance, as shares of the model's timesteps: 0 is clean, 1 is noise."),
    BeforeValidator(parse_interval),
    AfterValidator(rising),
    Shell(metavar="LOW,HIGH", default="0,1"),
]
EVERYWHERE = (0.0, 1.0)
Listed = BeforeValidator(listed)
Text = Annotated[str, AfterValidator(in_utf8)]
FILE, TEXT, PROMPT = Shell(metavar="FILE"), Shell(metavar="TEXT"), Shell("-p", "TEXT")
Fill = Annotated[
    Literal["keep", "blur", "neutral", "smooth", "border"],
    says("What the place holds before it is painted: the photo, blurred, grey, or its surroundings continued."),
]


Methods = Annotated[
    tuple[Method, ...] | None,
    says(
        "plain, or guidance by name: masked-attention:alpha=0.3:fraction=0.5 sets two parameters, "
        "zest+paint-with-words joins two."
    ),
    BeforeValidator(parse_methods),
]
ModelName = Annotated[str, says("toybox, a diffusers folder, .safetensors file or hub id."), Shell("-m", "MODEL")]
Loras = Annotated[
    tuple[Lora, ...],
    says("Add a LoRA to the model, so much of it. Repeatable."),
    BeforeValidator(Lora.read),
    Shell(metavar="FILE_OR_ID[:SCALE]"),
]
Embeddings = Annotated[
    tuple[Phrase, ...],
    says("Teach the model the word of a textual inversion. Repeatable."),
    BeforeValidator(split),
    Shell(metavar="FILE_OR_ID"),
]
Autoencoder = Annotated[
    Phrase | None,
    says("Another autoencoder: a folder, file or hub id."),
    Shell(metavar="FOLDER_OR_FILE_OR_ID", default="the model's own"),
]
Scheduler = Annotated[
    Annotated[str, AfterValidator(check_scheduler)] | None,
    says(f"{', '.join(SCHEDULERS)}; with :trailing for few-step models."),
    Shell(default="the model's own advice, else ddim"),
]


Continuing = Annotated[
    float | None,
    says("Above 0, to 1: how much is painted anew.", gt=0, le=1),
    Shell(default="the model's own, else 0.8"),
]
"""The strength where what surrounds a place is to be continued."""


class SamplingJob(Frozen):
    """What decides how a picture is sampled. None means that inlay or the model chooses."""

    prompt: Annotated[Text, says("What should be there."), PROMPT]
    negative_prompt: Annotated[Text, says("What should not."), TEXT] = ""
    seed: Annotated[int, says("Image k is made from seed + k alone.", ge=0, le=LARGEST_SEED)] = 0
    num_images: Annotated[int, says("How many candidates.", ge=1, le=1000), Shell("-n")] = 1
    steps: Annotated[int, says("Denoising steps.", ge=1, le=1000)] = 50
    guidance_scale: Annotated[
        float | None, says("Strength of classifier-free guidance.", ge=0), Shell(default="the model's own")
    ] = None
    guidance_interval: Interval = EVERYWHERE
    method: Annotated[
        Methods, Shell(metavar="METHOD", default="masked-attention where there is a --layout or --words, else plain")
    ] = None
    scheduler: Scheduler = None
    model: ModelName = "toybox"
    quality: Annotated[
        int | None,
        says("Of a JPEG or WebP, from 1 to 100.", ge=1, le=100),
        Shell(default="the photo's own, or 95; WebP is lossless"),
    ] = None
    lora: Loras = ()
    embedding: Embeddings = ()
    vae: Autoencoder = None
    control: Annotated[
        tuple[Control, ...],
        says(
            "Follow a picture of the photo's size by a ControlNet or T2I-Adapter: canny (the photo's edges), "
            "depth=PICTURE, FOLDER_OR_ID=PICTURE. Repeatable."
        ),
        BeforeValidator(Control.read),
        Shell(metavar="KIND[=PICTURE][:SCALE]"),
    ] = ()
    reference: Annotated[
        Reference | None,
        says("Paint the thing that a picture shows, by an IP-Adapter."),
        BeforeValidator(Reference.read),
        Shell(metavar="[FILE_OR_ID=]PICTURE[:SCALE]"),
    ] = None

    @property
    def made_of(self) -> tuple[str, Adapters]:
        """The model and what is loaded onto it."""
        return self.model, self.adapters

    @property
    def adapters(self) -> Adapters:
        """What is loaded onto the model."""
        return Adapters(
            tuple((one.weights, one.scale) for one in self.lora),
            self.embedding,
            self.vae,
            tuple(one.weights for one in self.control),
            self.reference.weights if self.reference else None,
        )


class Opening(Frozen):
    """The photo that a job is about; "-" is standard input."""

    photo: Annotated[str | None, says("The photo to edit, - for standard input."), Shell(metavar="PHOTO")] = None
    frame: Annotated[int | None, says("Which picture of an animation or multi-page file, from 0.")] = None


class Pointing(Opening):
    """What is pointed at in a photo, in display coordinates; then the changes to the mask, in their order.

    `mask_grow` and `mask_soften` are in photo pixels.
    """

    point: Annotated[
        tuple[Point, ...],
        says("A pixel of the thing; with ,0 one of what it is not. Repeatable."),
        Listed,
        Shell(metavar="X,Y[,0]"),
    ] = ()
    box: Annotated[
        tuple[Box, ...], says("A box around the thing. Repeatable."), Listed, Shell(metavar="X0,Y0,X1,Y1")
    ] = ()
    select: Annotated[Text | None, says("Find the thing by what it is."), TEXT] = None
    pick: Annotated[
        str, says("Which of several candidates: best, largest, all, or a number from 1."), BeforeValidator(str), TEXT
    ] = "best"
    mask: Annotated[
        tuple[str, ...], says("Mask file, white = edit: PNG, TIFF, or COCO run lengths (JSON)."), Listed, FILE
    ] = ()
    mask_read: Annotated[
        Literal["threshold", "opacity", "alpha"],
        says("threshold: half white and more; opacity: grey is changed less; alpha: FILE's alpha."),
    ] = "threshold"
    mask_fit: Annotated[
        Literal["exact", "resize"], says("exact refuses a mask of another size, resize brings it to it.")
    ] = "exact"
    mask_fill_holes: Annotated[bool, says("Close holes in the mask.")] = False
    mask_grow: Annotated[float, says("Grow the mask by so many pixels; below 0 shrinks.")] = 0.0
    mask_invert: Annotated[bool, says("Edit everything else.")] = False
    mask_soften: Annotated[float, says("Soften the mask over so many pixels outside it.", ge=0)] = 0.0
    segmenter: Annotated[str, says("Who makes masks: auto, grabcut, sam, or weights."), TEXT] = "auto"


Contrast = tuple[Phrase, Phrase]


class MaskJob(Pointing):
    """Make a mask by pointing, or from what tells two prompts apart."""

    difference: Annotated[
        Contrast | None,
        says("Mask where the model sees these two differ: what is there, and what should be (DiffEdit)."),
        Shell(metavar="TEXT TEXT"),
    ] = None
    model: Annotated[ModelName, says("Whose predictions --difference compares.")] = "toybox"


POINTERS = ("point", "box", "select", "mask")
"""The fields of `Pointing` that point at something; the others say how."""
REFINING = ("mask_fill_holes", "mask_grow", "mask_invert", "mask_soften")
"""The fields of `Pointing` that change a mask; a layout's places stay as they are."""


Matching = Annotated[bool, says("Bring the edit to the tone around it.")]


class Painting(Frozen):
    """How the place is painted and put back into the photo."""

    strength: Annotated[float, says("Above 0, to 1: how much is painted anew.", gt=0, le=1)] = 1.0
    invert: Annotated[bool, says("Start from the photo's DDIM inversion in place of noise.")] = False
    source_prompt: Annotated[Text, says("What the photo shows now, for --invert."), TEXT] = ""
    shrink: Annotated[bool, says("Begin with a grown mask, for thin places.")] = False
    background: Annotated[Literal["composite", "decoder"], says("composite, or decoder: also tune the decoder.")] = (
        "composite"
    )
    composite: Annotated[Literal["feather", "poisson"], says("How the edit is put into the photo.")] = "feather"
    feather: Annotated[
        float | None,
        says("Pixels outside the mask over which the edit fades.", ge=0),
        Shell(default="half a latent cell"),
    ] = None
    match_colour: Matching = False
    match_grain: Annotated[bool, says("Give the edit the photo's noise, measured around it.")] = False
    fill: Fill = "keep"
    context: Annotated[float, says("How much of the surroundings the model sees, in mask lengths.", ge=0)] = 0.5
    split: Annotated[bool, says("Edit distant places in windows of their own.")] = True


Layout = Annotated[str | None, says("Places and their words: layout.json, or a picture with --colour."), FILE]
Colours = Annotated[
    dict[str, str],
    says("What a colour of the layout picture means. Repeatable."),
    BeforeValidator(parse_pairs),
    Shell(metavar="#RRGGBB=WORDS"),
]


class EditJob(Painting, Pointing, SamplingJob):
    """Paint a place in a photo anew; all else stays as it was."""

    action: Literal["edit"] = "edit"
    words: Annotated[
        tuple[Phrase, ...],
        says("Words of the prompt that belong in the mask; once for each --box or --mask."),
        Listed,
        Shell(metavar="TEXT", default="with a --method all but stop words"),
    ] = ()
    layout: Layout = None
    colour: Colours = {}


class GenerateJob(SamplingJob):
    """Make a picture from a prompt, or from a layout. `size` is (height, width) in pixels."""

    action: Literal["generate"] = "generate"
    layout: Layout = None
    colour: Colours = {}
    size: Annotated[
        tuple[int, int] | None,
        says("Size of the picture."),
        BeforeValidator(parse_size),
        Shell(metavar="WIDTHxHEIGHT", default="the model's own"),
    ] = None


class RemoveJob(Painting, Pointing, SamplingJob):
    """Take a thing out of a photo and continue what is behind it."""

    action: Literal["remove"] = "remove"
    prompt: Annotated[Text, says("What is behind the thing, where its surroundings do not say it."), PROMPT] = ""
    strength: Continuing = None  # type: ignore[assignment]  # what cannot be set may be more general
    method: Annotated[Methods, Shell(metavar="METHOD", default="removal")] = None
    fill: Fill = "smooth"
    mask_grow: Annotated[
        float | None,
        says("Grow the mask by so many pixels, over shadows and rims; below 0 shrinks."),
        Shell(default="4 % of its longer side"),
    ] = None  # type: ignore[assignment]  # what cannot be set may be more general


def parse_extent(value: Any) -> Any:
    """Pixels, or a share of the photo's side such as `20%`."""
    said = str(value).strip()
    if not isinstance(value, str | Integral) or not re.fullmatch(r"\d{1,9}(\.\d+)?%|\d{1,9}", said):
        raise UsageError(
            f"{value!r} is neither a number of pixels, such as 200, nor a share of the photo, such as 20%, of nine "
            "digits at most."
        )
    return said


Extent = Annotated[str, BeforeValidator(parse_extent), Shell(metavar="PIXELS|SHARE%")]


class ExtendJob(Painting, Opening, SamplingJob):
    """Make a photo larger: paint what lies beyond its sides."""

    action: Literal["extend"] = "extend"
    prompt: Annotated[Text, says("What the larger picture shows, where the photo does not say it."), PROMPT] = ""
    left: Annotated[Extent, says("How much to add at the left.")] = "0"
    top: Annotated[Extent, says("How much to add at the top.")] = "0"
    right: Annotated[Extent, says("How much to add at the right.")] = "0"
    bottom: Annotated[Extent, says("How much to add at the bottom.")] = "0"
    strength: Continuing = None  # type: ignore[assignment]
    method: Annotated[Methods, Shell(metavar="METHOD", default="removal, with a --prompt plain")] = None
    match_colour: Matching = True
    fill: Fill = "border"
    feather: Annotated[
        float | None,
        says("Pixels of the photo over which what is added fades in.", ge=0),
        Shell(default="two latent cells"),
    ] = None


SHARED = ("steps", "scheduler", "guidance_scale", "guidance_interval", "strength", "invert", "shrink", "background")
"""Fields of a job that all samples of a batch have alike; the last says how the editor decodes them."""

Job = EditJob | RemoveJob | ExtendJob | GenerateJob
JOBS: dict[str, type[EditJob] | type[RemoveJob] | type[ExtendJob] | type[GenerateJob]] = {
    "edit": EditJob,
    "remove": RemoveJob,
    "extend": ExtendJob,
    "generate": GenerateJob,
}
"""The record of each action."""


class Setup(Frozen):
    """Where and with which permissions a job runs; none of it decides what comes out."""

    device: Annotated[str, says("auto, cpu, cuda, cuda:1, mps."), TEXT] = "auto"
    dtype: Annotated[str, says("auto, float32, float16, bfloat16."), TEXT] = "auto"
    compile: Annotated[bool, says("Compile what no method opens: slow at first, kept for later runs.")] = False
    config: Annotated[Path | None, says("Configurations that a single file lacks."), Shell(metavar="DIR")] = None
    offline: Annotated[bool, says("Use what is on this machine alone.")] = False
    allow_pickle: Annotated[bool, says("Also load weights in formats that can run code.")] = False
    ranker: Annotated[
        str | None,
        says("CLIP weights that rank the candidates."),
        Shell(metavar="DIR", default="toybox ranks its own"),
    ] = None
    max_memory: Annotated[
        float | None,
        says("GB that a job may take of the device's memory.", gt=0),
        Shell(metavar="GB", default="what is free on the GPU"),
    ] = None
    max_pixels: Annotated[int, says("Refuse larger photos.", ge=1)] = MAX_PIXELS


class Facts(Frozen):
    """What a run found out about itself."""

    inlay: str
    torch: str
    diffusers: str
    weights: str
    adapters: dict[str, str] = {}
    """The fingerprint of each adapter's weights, by name."""
    device: str
    dtype: str
    image_seed: int
    size: tuple[int, int]
    """(height, width) of the picture."""
    crops: tuple[tuple[int, int, int, int], ...] = ()
    photo_sha256: str | None = None
    mask_sha256: str | None = None
    control_sha256: tuple[str, ...] = ()
    """Of the pictures that the controls were shown, the reference's last."""
    layout_sha256: str | None = None
    changed_pixels: int | None = None
    inversion_psnr: float | None = None
    words: str | None = None
    advice: dict[str, dict[str, Any]] = {}
    """The model's own defaults of the methods' parameters, by method; they held where the job says nothing."""
    score: float | None = None
    ranker: str | None = None
    fallbacks: tuple[str, ...] = ()


class Record(Frozen):
    """What a result stores: the job, and what was found out while doing it."""

    WATCHED: ClassVar[dict[str, str]] = {
        "weights": "weights",
        "adapters": "adapters",
        "control_sha256": "control pictures",
        "photo_sha256": "photo",
        "mask_sha256": "mask",
        "layout_sha256": "layout",
        "device": "device",
        "dtype": "dtype",
        "torch": "torch version",
    }
    """Facts that must agree for a picture to come out the same, and what they are called."""

    job: Annotated[Job, Discriminator("action")]
    facts: Facts

    def again(self) -> dict[str, Any]:
        """The job that makes this very picture again: of n candidates just this one."""
        return self.job.model_dump(exclude_unset=True) | {
            "action": self.job.action,
            "seed": self.facts.image_seed,
            "num_images": 1,
        }

    def changes(self, made: Record) -> tuple[str, ...]:
        """What differs in `made`, so that its picture is not this one."""
        return tuple(
            said for name, said in self.WATCHED.items() if getattr(self.facts, name) != getattr(made.facts, name)
        )


Kind = TypeVar("Kind", bound=Frozen)


def checked(kind: type[Kind], /, **fields: Any) -> Kind:
    """A record, with pydantic's complaint turned into one sentence.

    Raises:
        UsageError: a field outside its range, missing, or unknown.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        # a misspelt name may be why another is missing
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, kind.model_fields, n=1)
            raise UsageError(f"There is no setting {name}{f'; did you mean {near[0]}?' if near else '.'}") from error
        if first["type"] == "missing" and name == "prompt":
            raise UsageError("Say what should be there: --prompt TEXT.") from error
        given = textwrap.shorten(repr(first["input"]), 60, placeholder="...")
        raise UsageError(f"The setting {name} cannot be {given}: {first['msg'].lower()}.") from error


def merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings under given ones: what points replaces all stored pointing, and so does a layout, which also
    replaces what changes a mask, and the other way round; a layout brings its own prompt."""
    fields = dict(stored)
    pointing = given.keys() & set(POINTERS)
    if pointing or given.get("layout"):
        replaced = (*POINTERS, "layout", "colour", *(() if pointing else ("words", *REFINING)))
        fields = {name: value for name, value in fields.items() if name not in replaced}
    fields |= given
    if fields.get("layout"):
        fields.setdefault("prompt", "")
    return fields
