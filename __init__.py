"""Edit real photos with diffusion models: point at a thing, say what should be there, keep the rest."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import segmentation as segmentation
    from .editing.editor import Editor as Editor
    from .editing.result import Result as Result
    from .guidance.regions import Region as Region
    from .jobs.batch import batch as batch
    from .photos.photo import Photo as Photo

__version__ = "0.1.0"

_HOME = {
    "Editor": ".editing.editor",
    "Result": ".editing.result",
    "batch": ".jobs.batch",
    "Photo": ".photos.photo",
    "Region": ".guidance.regions",
}
_ROOMS = (
    *("diffusion", "editing", "errors", "evaluation", "guidance", "jobs"),
    *("photos", "segmentation", "toybox", "ui", "weights"),
)
__all__ = ["Editor", "Photo", "Region", "Result", "__version__", "batch"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_ROOMS]
