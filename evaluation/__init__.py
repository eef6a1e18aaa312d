"""The papers' tables: protocols over COCO-format data, metrics, and one function that runs them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .background import background_fidelity
    from .overlap import mean_iou
    from .run import evaluate

_HOMES = {"background_fidelity": "background", "evaluate": "run", "mean_iou": "overlap"}

__all__ = ["background_fidelity", "evaluate", "mean_iou"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
