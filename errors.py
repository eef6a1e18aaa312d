"""The errors that `inlay` raises on purpose.

Each message is one sentence that says what is wrong and what to do next; the command line prints it
to stderr and exits with the class's `exit_code`.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class InlayError(Exception):
    """Base of every error that a user can cause or cure."""

    exit_code = 1


class UsageError(InlayError):
    """An argument cannot mean what it says: a point outside the photo, an empty mask, a missing word."""

    exit_code = 2


class PhotoError(InlayError):
    """A photo or mask file cannot be read, or a result cannot be written."""

    exit_code = 1


class BatchError(InlayError):
    """Some rows of a batch failed; the rest is done."""

    exit_code = 3


class ModelError(InlayError):
    """Weights are missing, corrupt, refused, or of a kind that `inlay` cannot run."""

    exit_code = 4


class OutOfMemoryError(InlayError):
    """Memory ran out after every fallback."""

    exit_code = 5


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of what only the extra `name` installs: `with extra("evaluate"): import matplotlib`.

    Raises:
        InlayError: a package is not installed; the message gives the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InlayError(f"This needs {error.name}; get it with: pip install 'inlay[{name}]'.") from error
