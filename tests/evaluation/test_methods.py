"""Methods and sweeps by name."""

from __future__ import annotations

import dataclasses

import pytest
from inlay.errors import UsageError
from inlay.evaluation.methods import expand_sweep, parse_method
from inlay.guidance import METHODS, Chain


@pytest.mark.parametrize("name", METHODS)
def test_every_method_by_its_name_with_its_defaults(name: str) -> None:
    assert parse_method(name) == METHODS[name]()


def test_parameters_and_chains() -> None:
    mag, zest, words = (METHODS[name] for name in ("masked-attention", "zest", "paint-with-words"))
    assert parse_method("masked-attention:alpha=0.04:fraction=1") == mag(alpha=0.04, fraction=1)
    assert parse_method("zest+paint-with-words") == Chain((zest(), words()))
    assert parse_method(" masked-attention: normalize = none:instances= false") == mag(
        normalize="none", instances=False
    )
    chain = Chain((zest(fraction=0.25), words(strength=0.2)))
    assert parse_method("zest:fraction=0.25+paint-with-words:strength=0.2") == chain


def test_a_sweep_is_a_method_per_value() -> None:
    swept = expand_sweep("zest:fraction=0.1,0.5,1+paint-with-words")
    assert swept == [f"zest:fraction={value}+paint-with-words" for value in ("0.1", "0.5", "1")]
    assert expand_sweep("masked-attention:fraction=0.2:alpha=1,2")[1] == "masked-attention:fraction=0.2:alpha=2"
    assert all(dataclasses.is_dataclass(parse_method(name)) for name in swept)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("magic", "no method 'magic'"),
        ("zest:colour=1", "zest has no parameter"),
        ("zest+", "no method ''"),
        ("plain:strength=1", "plain has no parameter"),
    ],
)
def test_unknown_names_are_one_sentence(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_method(name)


@pytest.mark.parametrize("sweep", ["zest", "zest:fraction=0.1", "zest:fraction=1,2:strength=1,2"])
def test_a_sweep_needs_one_list(sweep: str) -> None:
    with pytest.raises(UsageError, match="no one list of values"):
        expand_sweep(sweep)
