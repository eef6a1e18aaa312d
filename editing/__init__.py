"""Photo in, photo out: open, crop, composite, save."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .composite import Composite as Composite
    from .crop import Box as Box
    from .crop import Crop as Crop
    from .crop import crops_for as crops_for
    from .metadata import read_settings as read_settings
    from .photo import Photo as Photo
    from .save import Saved as Saved
    from .save import check_output as check_output

_HOME = {
    "Box": "crop",
    "Composite": "composite",
    "Crop": "crop",
    "Photo": "photo",
    "Saved": "save",
    "check_output": "save",
    "crops_for": "crop",
    "read_settings": "metadata",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
