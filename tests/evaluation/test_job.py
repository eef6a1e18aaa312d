"""What an evaluation may be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inlay.editing.job import checked
from inlay.errors import UsageError
from inlay.evaluation.job import EditEvaluation, GenerateEvaluation, expand_sweep


@pytest.mark.parametrize(
    ("said", "methods"),
    [
        ("plain,masked-attention", ("plain", "masked-attention")),
        (["plain", "zest:fraction=0.3,multidiffusion"], ("plain", "zest:fraction=0.3", "multidiffusion")),
        ("zest:layers=1,2,plain", ("zest:layers=1,2", "plain")),
        (
            "zest:layers=1,2+paint-with-words:strength=1,attention-swapping:layers=0,1",
            ("zest:layers=1,2+paint-with-words:strength=1", "attention-swapping:layers=0,1"),
        ),
        ("plain,", ("plain",)),
        ("", ()),
    ],
)
def test_commas_stand_between_methods_and_within_lists(said: Any, methods: tuple[str, ...]) -> None:
    assert checked(GenerateEvaluation, methods=said).methods == methods
    assert checked(GenerateEvaluation, methods=methods).methods == methods


def test_a_record_comes_back_from_json() -> None:
    job = checked(
        EditEvaluation, methods="plain", seeds="0,3", images=["theirs=folder"], sweep="zest:fraction=0.1,0.2", limit="4"
    )
    assert (job.seeds, job.images, job.limit) == ((0, 3), {"theirs": Path("folder")}, 4)
    assert EditEvaluation.model_validate_json(job.model_dump_json()) == job


def test_a_sweep_is_a_method_per_value() -> None:
    swept = expand_sweep("zest:fraction=0.1,0.5,1+paint-with-words")
    assert swept == tuple(f"zest:fraction={value}+paint-with-words" for value in ("0.1", "0.5", "1"))
    assert expand_sweep("masked-attention:fraction=0.2:alpha=1,2")[1] == "masked-attention:fraction=0.2:alpha=2"


@pytest.mark.parametrize("sweep", ["zest", "zest:fraction=0.1", "zest:fraction=1,2:strength=1,2"])
def test_a_sweep_needs_one_list(sweep: str) -> None:
    with pytest.raises(UsageError, match="no one list of values"):
        expand_sweep(sweep)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", -1),
        ("limit", 0),
        ("seeds", "1,1"),
        ("seeds", "-1"),
        ("seeds", str(2**70)),
        ("seeds", ""),
        ("seeds", "one"),
        ("methods", "plain,plain"),
        ("steps", 0),
        ("steps", 10**9),
        ("images", "no folder"),
        ("size", "wide"),
        ("protocol", "same"),
        ("guidance_scale", "nan"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(field: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        checked(GenerateEvaluation, **{field: value})
    assert "\n" not in str(caught.value)
