"""All methods by name, those of plugins, too; and guidance as names and parameters, there and back."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from ..errors import UsageError
from .base import Chain, Guidance, members
from .names import OWN, PLUGINS, near, no_method
from .written import Written

METHODS: dict[str, type[Guidance]] = Guidance.registered
"""Every method registers itself when its file is imported."""

for _name in OWN:
    import_module(f".{_name.replace('-', '_')}", __package__)

for _plugin in entry_points(group=PLUGINS):
    try:
        _plugin.load()
    except Exception as error:  # a stranger's code: the other methods must not fall with it
        warnings.warn(f"The guidance plugin {_plugin.name} cannot be loaded: {error}", stacklevel=1)


def chained(methods: Written) -> Guidance:
    """The guidance of names and parameters: plain for none, a `Chain` for several.

    Raises:
        UsageError: an unknown method or parameter, or a value that it cannot have.
    """
    values = tuple(_one(name, parameters) for name, parameters in methods)
    return values[0] if len(values) == 1 else Chain(values) if values else Guidance()


def _one(name: str, parameters: dict[str, Any]) -> Guidance:
    if name not in METHODS:
        raise no_method(name, METHODS)
    known = parameters_of(name)
    if unknown := [parameter for parameter in parameters if parameter not in known]:
        raise UsageError(f"{name} has no parameter {unknown[0]!r}{near(unknown[0], known)}")
    return METHODS[name](
        **{key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()}
    )


def method(name: str, **parameters: Any) -> Guidance:
    """The method of a name; names joined by + make a `Chain`, in order.

        method("zest", fraction=0.3)
        method("zest+paint-with-words", strength=0.5, **{"zest.fraction": 0.3})

    A parameter goes to every method of the chain that has it; "zest.fraction" (by dictionary) to that method alone.

    Raises:
        UsageError: an unknown method or parameter, or a value that it cannot have.
    """
    names = [part.strip() for part in name.split("+")]
    chained(tuple((part, {}) for part in names))  # refuses unknown names first
    own: list[dict[str, Any]] = [{} for _ in names]
    for parameter, value in parameters.items():
        target, _, bare = (part.strip() for part in parameter.rpartition("."))
        value = value.strip() if isinstance(value, str) else value
        takers = [
            values
            for part, values in zip(names, own, strict=True)
            if target in ("", part) and bare in parameters_of(part)
        ]
        if not takers:
            known = sorted({known for part in names for known in parameters_of(part)})
            raise UsageError(f"{name} has no parameter {parameter!r}{near(bare, known)}")
        for values in takers:
            values[bare] = value
    return chained(tuple(zip(names, own, strict=True)))


@dataclass(frozen=True)
class Described:
    """Guidance as a record keeps it."""

    methods: Written
    """What `chained` takes."""
    lost: tuple[str, ...] = ()
    """What no record can hold, such as a network; empty if `chained` gives the same guidance."""

    @property
    def unrepeatable(self) -> tuple[str, ...]:
        """A sentence where something is lost."""
        what = " and ".join(self.lost)
        return (f"The stored settings cannot hold {what}, so --from will not make this picture again.",) if what else ()


def described(guidance: Guidance) -> Described:
    """A guidance value as names and the parameters that differ from their defaults."""
    methods: list[tuple[str, dict[str, Any]]] = []
    lost: list[str] = []
    for one in members(guidance):
        if type(one) is Guidance:
            continue  # plain: it adds nothing
        if METHODS.get(one.name) is not type(one):
            lost.append(f"the method {one.name}")
        changed = {
            field.name: value
            for field in fields(one)
            if (value := getattr(one, field.name)) is not field.default and value != field.default
        }
        methods.append((one.name, {name: value if is_plain(value) else repr(value) for name, value in changed.items()}))
        lost += [f"the {name} of {one.name}" for name, value in changed.items() if not is_plain(value)]
    return Described(tuple(methods), tuple(lost))


def is_plain(value: Any) -> bool:
    """Whether JSON holds a value: numbers, text, and lists and maps of them."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, int | float | str)


def parameters_of(name: str) -> list[str]:
    """Names of a method's parameters."""
    return [field.name for field in fields(METHODS[name])]
