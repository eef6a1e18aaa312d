"""Every option of an evaluation, declared once as those of an edit are: see `inlay.editing.job`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ..editing.job import (
    EVERYWHERE,
    LARGEST_SEED,
    Autoencoder,
    Continuing,
    Embeddings,
    Fill,
    Frozen,
    Interval,
    Loras,
    Scheduler,
    Shell,
    parse_pairs,
    parse_size,
    says,
)
from ..errors import UsageError
from ..guidance.written import between_commas
from ..weights.adapters import Adapters

CLIP = "openai/clip-vit-base-patch32"
FILLINGS = ("blur", "neutral", "smooth", "border")
"""Ways to fill a hole that are systems of their own where things are removed."""
REAL = "real"
"""The name of the dataset's own images among the systems of a table."""


def parse_methods(value: Any) -> Any:
    """Methods between commas, in one text or several: `plain,zest:layers=1,2` are two."""
    from ..guidance.methods import METHODS

    texts = [value] if isinstance(value, str) else value
    return tuple(method for text in texts for method in between_commas(text, {*METHODS, *FILLINGS, "ground"}))


def parse_seeds(value: Any) -> Any:
    """Whole numbers between commas, in one text or several."""
    texts = [value] if isinstance(value, str) else value
    return tuple(seed for text in texts for seed in (text.split(",") if isinstance(text, str) else [text]))


def expand_sweep(text: str) -> tuple[str, ...]:
    """The methods of a sweep, in order: `zest:fraction=0.1,0.5+paint-with-words` are two.

    Raises UsageError unless exactly one value is a list.
    """
    lists = re.findall(r"=([^:+]*,[^:+]*)", text)
    if len(lists) != 1:
        raise UsageError(f"The sweep '{text}' has no one list of values; write METHOD:PARAMETER=V1,V2,V3.")
    return tuple(text.replace(lists[0], value, 1) for value in lists[0].split(","))


def once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuses what is named twice: it would be counted twice."""
    if twice := [value for index, value in enumerate(values) if value in values[:index]]:
        raise UsageError(f"{twice[0]} is named twice; name it once.")
    return values


Folders = Annotated[
    dict[str, Path],
    says("Score images made elsewhere, named as the dataset's. Repeatable."),
    BeforeValidator(parse_pairs),
    Shell(metavar="NAME=DIR"),
]


class Evaluation(Frozen):
    """Measure methods on a dataset, as the papers do."""

    dataset: Annotated[
        str, says("A folder or instances file in COCO format, or toybox."), BeforeValidator(str), Shell(metavar="DATA")
    ] = "toybox"
    methods: Annotated[
        tuple[str, ...],
        says("Methods between commas, as for --method."),
        BeforeValidator(parse_methods),
        AfterValidator(once),
        Shell(metavar="METHODS"),
    ] = ()
    sweep: Annotated[
        str | None,
        says("A method with a list as one value, as masked-attention:alpha=0.01,0.04."),
        Shell(metavar="METHOD"),
    ] = None
    images: Folders = {}  # noqa: RUF012, pydantic copies it
    judge: Annotated[str, says("judge, guide, a transformers model, or a folder of label maps.")] = "judge"
    limit: Annotated[
        int | None, says("How many scenes at most, chosen at random, always the same ones first.", ge=1)
    ] = None
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...],
        says("Seeds between commas, one image each.", min_length=1),
        BeforeValidator(parse_seeds),
        AfterValidator(once),
        Shell(metavar="SEEDS", default="0"),
    ] = (0,)
    steps: Annotated[int, says("Denoising steps.", ge=1, le=1000)] = 25
    guidance_scale: Annotated[
        float | None, says("Strength of classifier-free guidance.", ge=0), Shell(default="the model's own")
    ] = None
    guidance_interval: Interval = EVERYWHERE
    scheduler: Scheduler = None
    model: Annotated[str, says("As for edit and generate."), Shell("-m", "MODEL")] = "toybox"
    lora: Loras = ()
    embedding: Embeddings = ()
    vae: Autoencoder = None

    @property
    def adapters(self) -> Adapters:
        """What is loaded onto the model."""
        return Adapters(tuple((one.weights, one.scale) for one in self.lora), self.embedding, self.vae)


class TableEvaluation(Evaluation):
    """What the papers' tables measure beside where things are."""

    features: Annotated[
        str, says("Network of the Frechet distance: judge, inception, clip, or a CLIP model by id or folder.")
    ] = "judge"
    clip: Annotated[str, says("CLIP model of the CLIP score, left out where it is not at hand.")] = CLIP


class GenerateEvaluation(TableEvaluation):
    """Generate every scene's layout with each method, and score it."""

    action: Literal["generate"] = "generate"
    protocol: Annotated[
        Literal["all", "mag", "zest-all", "zest-filtered", "zest-few"], says("Which scenes, and their prompts.")
    ] = "all"
    size: Annotated[
        tuple[int, int] | None,
        says("Size whose area pictures are made at, in the scenes' own aspects."),
        BeforeValidator(parse_size),
        Shell(metavar="WIDTHxHEIGHT", default="the model's own"),
    ] = None


class EditEvaluation(TableEvaluation):
    """Edit every scene's picture with each method, and score it."""

    action: Literal["edit"] = "edit"
    protocol: Annotated[
        Literal["same", "other"], says("What is asked for in the place of a thing: the same, or another.")
    ] = "same"


class RemoveEvaluation(Evaluation):
    """Take a thing out of every scene's picture, and compare with what is behind it."""

    action: Literal["remove"] = "remove"
    protocol: ClassVar[str] = "remove"
    methods: Annotated[
        tuple[str, ...],
        says(
            "Methods between commas, as for --method; ground+METHOD says the ground's words in the prompt; "
            "blur, neutral, smooth and border are no more than that filling."
        ),
        BeforeValidator(parse_methods),
        AfterValidator(once),
        Shell(metavar="METHODS", default="smooth,plain,ground+plain,removal"),
    ] = ("smooth", "plain", "ground+plain", "removal")
    steps: Annotated[int, says("Denoising steps.", ge=1, le=1000)] = 50
    strength: Continuing = None
    fill: Fill = "smooth"


AnyEvaluation = GenerateEvaluation | EditEvaluation | RemoveEvaluation
EVALUATIONS: dict[str, type[AnyEvaluation]] = {
    "generate": GenerateEvaluation,
    "edit": EditEvaluation,
    "remove": RemoveEvaluation,
}
"""The record of each task."""
