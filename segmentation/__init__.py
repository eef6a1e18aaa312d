"""The mask by pointing: photo and prompts in, masks out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import masks as masks
    from .pointing import pick as pick
    from .pointing import segment as segment
    from .protocol import Encoded as Encoded
    from .protocol import Masks as Masks
    from .protocol import Prompts as Prompts
    from .protocol import Segmenter as Segmenter

_HOME = {
    "segment": "pointing",
    "pick": "pointing",
    "Encoded": "protocol",
    "Masks": "protocol",
    "Prompts": "protocol",
    "Segmenter": "protocol",
}
__all__ = ["Encoded", "Masks", "Prompts", "Segmenter", "masks", "pick", "segment"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "masks":
        return import_module(".masks", __name__)
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
