"""From a backend's name to a loaded segmenter."""

from functools import lru_cache

from ..errors import ModelError
from .grabcut import GrabCut
from .protocol import Segmenter


@lru_cache(maxsize=2)
def load(backend: str = "auto", offline: bool = False) -> Segmenter:
    """The segmenter of that name.

    "grabcut" needs no weights; "auto" takes the best that is at hand. Raises ModelError for a backend that is not
    there.
    """
    if backend in ("auto", "grabcut"):
        return GrabCut()
    raise ModelError(f"There is no segmentation backend called {backend!r}; known are auto and grabcut.")
