"""The page's form, made from the job records, and the way back: from a record to a command and a manifest's row."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ..editing.job import EDGES, JOBS, POINTERS, Job, Opening, Pointing, Record, Shell, Written, checked
from ..errors import UsageError
from ..guidance.written import written

SIDES = ("left", "top", "right", "bottom")
MAIN = ("prompt", *SIDES, "method", "strength", "steps", "seed", "num_images", "model")
"""Fields in view; all others stand under "More", as their record has them."""

DRAWN = {*POINTERS, "words", "layout", "colour", "photo", "frame"}
"""Fields that are said on the canvas."""

SLIDERS = {"mask_grow", "feather"}
"""Fields of a mask that are said by a slider beside it."""

IDLE = {"action", "pick", "segmenter", "mask_read", "mask_fit", "mask_invert"}
"""Fields that say nothing of a mask which is drawn already."""

SHOWN = {"control", "reference"}
"""Fields that name pictures; the page names those that it has sent, as the server calls them."""


def form(kind: type[Job], model: str = "toybox") -> list[dict[str, Any]]:
    """A description of each field that a person fills in, those of `MAIN` first; `model` is the one to begin with."""
    schema = kind.model_json_schema()["properties"]
    names = [name for name in schema if name not in DRAWN | IDLE | sliders(kind)]
    names.sort(key=lambda name: MAIN.index(name) if name in MAIN else len(MAIN))
    schema["model"]["default"] = model
    return [described(name, schema[name], kind) for name in names]


def sliders(kind: type[Job]) -> set[str]:
    return SLIDERS if issubclass(kind, Pointing) else set()


def described(name: str, schema: Mapping[str, Any], kind: type[Job]) -> dict[str, Any]:
    """A field as the page draws it: a checkbox, a choice, a number in a range, the extent of a side, or the text that a
    shell would take."""
    plain = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    shell = next((one for one in kind.model_fields[name].metadata if isinstance(one, Shell)), Shell())
    control = plain.get("type") if plain.get("type") in ("boolean", "integer", "number") else "text"
    control = "extent" if name in SIDES else control
    limits = {
        "minimum": plain.get("minimum", plain.get("exclusiveMinimum")),
        "maximum": plain.get("maximum"),
        "choices": plain.get("enum"),
    }
    return {
        "name": name,
        "label": LABELS.get(name, name.replace("_", " ").capitalize()),
        "help": schema["description"],
        "control": "choice" if limits["choices"] else control,
        "default": schema.get("default") if control != "text" or isinstance(schema.get("default"), str) else None,
        "unset": shell.default,
        "more": name not in MAIN,
        "picture": name in SHOWN,
        **{limit: value for limit, value in limits.items() if value is not None},
    }


LABELS = {"num_images": "Images", "match_colour": "Match colour", "lora": "LoRA", "vae": "Autoencoder"}


def job_of(
    action: str,
    given: Mapping[str, Any],
    models: Collection[str],
    adapters: Collection[str],
    sent: Callable[[str], Path],
    **ours: Any,
) -> Job:
    """The job that a filled-in form asks for; `sent` gives the file of a picture that the page has sent, `ours` are the
    fields that the page does not say by name.

    Raises:
        UsageError: a field that the form does not have, or one outside its range; a model or adapter that was not
            offered, or a picture that was not sent.
    """
    if action not in JOBS:
        raise UsageError(f"The page cannot {action!r}; load it anew.")
    kind = JOBS[action]
    filled = {name: value for name, value in given.items() if value not in ("", None)}
    if foreign := filled.keys() - set(kind.model_fields) | filled.keys() & (IDLE | DRAWN):
        raise UsageError(f"The form has no field {min(foreign)!r}; load the page anew.")
    if filled["model"] not in models:
        raise UsageError(f"The model {filled['model']!r} was not offered; start inlay ui with --model to use another.")
    job = checked(kind, **{"prompt": "", **filled, **ours})
    if foreign := set(job.adapters.names) - set(adapters):
        raise UsageError(f"{min(foreign)} was not offered; start inlay ui with --adapter {min(foreign)} to use it.")
    if job.adapters.reference == "" and "" not in adapters:
        raise UsageError("No IP-Adapter is on this machine; start inlay ui with --adapter FILE, and say FILE=PICTURE.")
    return showing(job, lambda name: str(sent(name)))


def showing(job: Job, named: Callable[[str], str]) -> Job:
    """A job whose controls and reference are shown the pictures that `named` gives for theirs."""

    def other(one: Any) -> Any:
        return one if one.picture == EDGES else one.model_copy(update={"picture": named(one.picture)})

    shown = {"control": tuple(map(other, job.control)), "reference": job.reference and other(job.reference)}
    return job.model_copy(update=shown)


def filled_in(job: Job) -> dict[str, Any]:
    """What the form shows for a job: each field that differs from its default, as a shell would write it."""
    names = {field["name"] for field in form(type(job))} | sliders(type(job))
    return {
        name: value if isinstance(value, bool | int | float) else ";".join(spoken(name, value))
        for name, value in differing(showing(job, lambda picture: Path(picture).name)).items()
        if name in names
    }


def differing(job: Job) -> dict[str, Any]:
    """The fields that are not as they are anyway."""
    return {name: value for name, value in job if value != type(job).model_fields[name].default}


def spoken(name: str, value: Any) -> list[str]:
    """A field's value as the command line writes it: one text for each time that the option is given."""
    if name == "method":
        return [written(tuple((one.name, one.parameters) for one in value)) or "plain"]
    if name == "size":
        return [f"{value[1]}x{value[0]}"]
    if isinstance(value, dict):
        return [f"{key}={one}" for key, one in value.items()]
    if name == "guidance_interval":
        return [",".join(f"{end:g}" for end in value)]
    if isinstance(value, list | tuple):
        return [
            str(one) if isinstance(one, str | Written) else ",".join(f"{number:g}" for number in one) for one in value
        ]
    return [f"{value:g}" if isinstance(value, float) else str(value)]


def command(record: Record, picture: Path) -> str:
    """The command that makes a picture again, by a name of its own beside its photo, which it has in the history."""
    job = again(record)
    words = ["inlay", job.action, *([job.photo] if isinstance(job, Opening) and job.photo else [])]
    for name, value in differing(job).items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif name != "photo":
            words += [part for text in spoken(name, value) for part in (f"--{option}", text)]
    return shlex.join([*words, "--output", f"{picture.stem}-{job.action}{picture.suffix}"])


def row(record: Record, name: str, output: str) -> str:
    """The row of a JSONL manifest that makes a picture again."""
    job = again(record)
    fields = job.model_dump(mode="json", include={"action", *differing(job)})
    return json.dumps({"id": name, "output": output, **fields})


def again(record: Record) -> Job:
    """The job that makes a picture again."""
    return checked(type(record.job), **record.again())
