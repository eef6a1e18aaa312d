"""One declaration: a record's fields are the options, the keywords, the rows and the form."""

from __future__ import annotations

import inspect
import typing
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from inlay.cli import takes
from inlay.editing.editor import Editor
from inlay.editing.job import EditJob, ExtendJob, Facts, GenerateJob, Record, SamplingJob, Shell, checked, merged, says
from inlay.editing.settings import EditSettings, GenerateSettings
from inlay.errors import UsageError
from typer.testing import CliRunner

ELSEWHERE = {
    *("action", "prompt", "model", "method", "words", "layout", "colour"),
    *("lora", "embedding", "vae", "control", "reference"),
    *("photo", "point", "box", "select", "pick", "mask", "frame", "segmenter"),
    *("mask_read", "mask_fit", "mask_fill_holes", "mask_grow", "mask_invert", "mask_soften"),
    "quality",
}
"""Fields that the editor itself or an argument of its own says: where the mask comes from, and how a result is written,
is not its business."""


@pytest.mark.parametrize(("settings", "job"), [(EditSettings, EditJob), (GenerateSettings, GenerateJob)])
def test_keywords_are_the_fields(settings: Any, job: Any) -> None:
    assert set(typing.get_type_hints(settings)) == set(job.model_fields) - ELSEWHERE


@pytest.mark.parametrize("method", [Editor.edit, Editor.generate])
def test_the_editor_takes_no_setting_beside_the_records(method: Any) -> None:
    own = set(inspect.signature(method).parameters) & (set(EditJob.model_fields) | set(GenerateJob.model_fields))
    assert own - ELSEWHERE == set()


class Sharper(EditJob):
    """A copy of a record with one option more."""

    sharpen: Annotated[float, says("Sharpen the edit by so much.", ge=0, le=2), Shell(metavar="AMOUNT")] = 0.5


def test_one_field_more_is_an_option_a_row_and_a_part_of_the_form() -> None:
    app, seen = typer.Typer(rich_markup_mode=None), list[dict[str, Any]]()

    @app.command()
    @takes(Sharper)
    def run(**options: Any) -> None:
        seen.append(options)

    shown = CliRunner().invoke(app, ["--help"]).output
    assert "--sharpen AMOUNT" in shown
    assert "Sharpen the edit by so much. [0.5]" in shown
    assert CliRunner().invoke(app, ["photo.png", "--sharpen", "1.5"]).exit_code == 0
    assert seen[0]["sharpen"] == "1.5"
    assert checked(Sharper, prompt="x", sharpen="1.5").sharpen == 1.5  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="sharpen"):
        checked(Sharper, prompt="x", sharpen=3)
    assert Sharper.model_json_schema()["properties"]["sharpen"]["maximum"] == 2


@pytest.mark.parametrize(
    ("shell", "json"),
    [
        ({"point": ["3,4", "5,6,0"]}, {"point": [[3, 4], [5, 6, 0]]}),
        ({"box": "1,2,3,4"}, {"box": [[1, 2, 3, 4]]}),
        ({"box": "1,2,3,4", "point": "3,4"}, {"box": [1, 2, 3, 4], "point": [3, 4]}),
        ({"method": "zest:fraction=0.3+paint-with-words"}, None),
        ({"mask": "a.png", "words": "a cat"}, {"mask": ["a.png"], "words": ["a cat"]}),
        ({"colour": ["#f00=cat"]}, {"colour": {"#f00": "cat"}}),
        ({"steps": "7", "strength": "0.5", "invert": "true"}, {"steps": 7, "strength": 0.5, "invert": True}),
    ],
)
def test_a_field_reads_what_the_shell_writes_and_what_json_holds(shell: dict[str, Any], json: Any) -> None:
    job = checked(EditJob, prompt="x", **shell)
    assert job == checked(EditJob, prompt="x", **(json or {"method": job.model_dump()["method"]}))
    assert EditJob.model_validate_json(job.model_dump_json()) == job


def test_a_size_is_width_first_in_the_shell_and_height_first_in_json() -> None:
    assert checked(GenerateJob, prompt="x", size="512x384") == checked(GenerateJob, prompt="x", size=[384, 512])


def test_pixels_to_add_are_whole_and_none_below_0() -> None:
    assert checked(ExtendJob, left=np.int64(8), top="20%") == checked(ExtendJob, left="8", top="20%")
    for wrong in (-8, 8.0, True, "far"):
        with pytest.raises(UsageError, match="neither a number of pixels, such as 200, nor a share"):
            checked(ExtendJob, left=wrong)


def test_what_is_said_of_a_wrong_value_is_short() -> None:
    with pytest.raises(UsageError, match=r"The setting photo cannot be .*\.\.\.: ") as refused:
        checked(EditJob, prompt="x", photo=list(range(10_000)))
    assert len(str(refused.value)) < 200


def test_a_pair_is_given_once() -> None:
    with pytest.raises(UsageError, match="#f00 is given twice"):
        checked(EditJob, prompt="x", colour=["#f00=cat", "#f00=dog"])


@pytest.mark.parametrize(
    "fields", [{"steps": 0}, {"strength": 0}, {"unheard": 1}, {"seed": -1}, {"mask_read": "x"}, {}]
)
def test_what_cannot_be_is_one_sentence(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        checked(EditJob, **({"prompt": "x"} | fields if fields else {}))
    assert "\n" not in str(refused.value)
    assert next(iter(fields), "prompt") in str(refused.value)


STORED = {"prompt": "a cat", "point": ((1, 2, 1),), "mask_grow": 3.0, "words": ("cat",), "layout": None, "steps": 9}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, STORED),
        ({"steps": "4"}, STORED | {"steps": "4"}),
        (
            {"box": ["1,2,3,4"]},
            {"prompt": "a cat", "box": ["1,2,3,4"], "mask_grow": 3.0, "words": ("cat",), "steps": 9},
        ),
        ({"layout": "l.json"}, {"prompt": "a cat", "layout": "l.json", "steps": 9}),
    ],
)
def test_what_is_given_goes_before_what_is_stored(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert merged(STORED, given) == expected


def test_a_record_makes_the_one_picture_again() -> None:
    facts = {"inlay": "1", "torch": "1", "diffusers": "1", "weights": "w", "device": "cpu", "dtype": "float32"}
    found = Facts(**facts, image_seed=7, size=(8, 8))
    record = Record(job=GenerateJob(prompt="x", seed=5, num_images=3), facts=found)
    again = checked(GenerateJob, **record.again())
    assert (again.seed, again.num_images, again.prompt) == (7, 1, "x")
    other = Record(job=again, facts=found.model_copy(update={"weights": "v", "size": (9, 9)}))
    assert record.changes(other) == ("weights",)
    assert record.changes(record) == ()


def test_every_field_has_a_sentence_and_every_range_is_in_the_schema() -> None:
    for kind in (EditJob, GenerateJob, SamplingJob):
        for name, field in kind.model_fields.items():
            assert name == "action" or (field.description or "").endswith("."), name


def test_an_interval_is_written_low_first() -> None:
    assert checked(GenerateJob, prompt="x", guidance_interval="0.2,0.8").guidance_interval == (0.2, 0.8)
    for wrong in ("0.8,0.2", "0.5", "0,1.5", "low,high"):
        with pytest.raises(UsageError, match=r"[Ii]nterval"):
            checked(GenerateJob, prompt="x", guidance_interval=wrong)
