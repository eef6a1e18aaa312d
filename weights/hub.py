"""Models of the hub, in its own cache: one variant of a diffusion model, and what transformers loads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InlayError, ModelError
from .parts import INDEX, lacking, needed, only, refused


def on_hub(name: str) -> bool:
    """Whether a name can only be that of something in the hub: owner/name, or a file in it."""
    return "/" in name and not name.startswith((".", "/", "~")) and not Path(name).exists()


def fetch(
    name: str, *, offline: bool = False, allow_pickle: bool = False, half: bool = False, index: bool = False
) -> Path:
    """The folder of a model given by folder or hub id; one that is whole in the cache is used without asking the hub.

    Of several variants only one is fetched: that of half precision where `half`, else the plain one. `index` says that
    a diffusion model is wanted; else a repository without configurations is one of an adapter's file.

    Raises:
        ModelError: not here, and not to be had; nothing that inlay could load.
    """
    from huggingface_hub import snapshot_download

    folder = cached(name)
    said = lacking(folder, allow_pickle) if folder else None
    if folder and not said:
        return folder
    if folder == Path(name).expanduser():
        raise ModelError(f"{name} is not a whole model, it has {said}; fetch or convert it anew.")
    state = f"is not whole on this machine, it has {said}" if said else "is not on this machine"
    if offline:
        raise ModelError(f"The model {name} {state}; with a connection run: inlay models download {name}")
    with fetching(f"The model {name} {state}", f"; with a connection run: inlay models download {name}"):
        files = files_of(name)
        if index and INDEX not in files:
            raise ModelError(f"{name} is no diffusion model; it has no {INDEX}.")
        if said := refused(files, allow_pickle):
            raise ModelError(f"The model {name} has {said}; they can run code when they are opened.")
        if not {INDEX, "config.json"} & set(files):
            return fetch_file(name, None, offline).parent
        folder = Path(snapshot_download(name, allow_patterns=needed(files, half, allow_pickle)))
    if said := lacking(folder, allow_pickle):
        raise ModelError(f"The model {name} cannot be used, it has {said}; choose another.")
    return folder


def fetch_file(name: str, file: str | None, offline: bool) -> Path:
    """One file of a repository, from the hub's cache or fetched into it; without `file` the one that is an adapter.

    Raises:
        ModelError: not here, and not to be had; none, or several of which none is named.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    folder = cached(name)
    if folder and file is None and any(folder.glob("*.safetensors")):
        return folder / only([one.name for one in folder.iterdir()], name)
    with fetching(f"{_file(name, file)} is not on this machine"):
        if file and isinstance(here := try_to_load_from_cache(name, file), str):
            return Path(here)
        if not offline:
            files = files_of(name)
            if file and file not in files:
                raise ModelError(f"{name} has no {file}; it has {', '.join(files[:10])}.")
            return Path(hf_hub_download(name, file or only(files, name)))
    raise ModelError(
        f"{_file(name, file)} is not on this machine; with a connection run: inlay models download {_file(name, file)}"
    )


def _file(name: str, file: str | None) -> str:
    return f"{name}/{file}" if file else name


def fetch_folder(name: str, folder: str, offline: bool) -> None:
    """A network of transformers in a folder of a repository, into the hub's cache where it is not there.

    Raises:
        ModelError: not to be had.
    """
    from huggingface_hub import snapshot_download

    here = cached(name)
    if here and (here / folder).is_dir() and not lacking(here / folder):
        return
    if offline:
        raise ModelError(f"{name}/{folder} is not on this machine; run once with a connection.")
    with fetching(f"{name}/{folder} is not on this machine"):
        inside = [file.removeprefix(f"{folder}/") for file in files_of(name) if file.startswith(folder)]
        snapshot_download(name, allow_patterns=[f"{folder}/{file}" for file in needed(inside, half=False)])


def files_of(name: str) -> list[str]:
    """The files of a repository. The client's own listing asks for half a minute where there is no connection."""
    from huggingface_hub import HfApi

    return [file.rfilename for file in HfApi().model_info(name).siblings or ()]


@contextmanager
def fetching(said: str, advice: str = "") -> Iterator[None]:
    """Tell in one sentence that the hub gave nothing. Its client lets through what its HTTP library raises, which has
    been another one in each of its last major releases.

    Raises:
        ModelError: in place of it.
    """
    try:
        yield
    except InlayError:
        raise
    except Exception as error:
        raise ModelError(f"{said} and could not be fetched ({reason(error)}){advice}") from error


def cached(name: str) -> Path | None:
    """The folder of a hub id in the hub's cache, or a folder itself; None where nothing of it is here."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def from_pretrained(kind: Any, name: str, offline: bool, **options: Any) -> Any:
    """`kind.from_pretrained` of transformers on a folder or hub id.

    Raises:
        ModelError: not here and not to be had, pickled, of another kind, or without some of its weights.
    """
    from transformers import PreTrainedModel

    folder = fetch(name, offline=offline)
    with quiet("transformers"), told(name):
        reports = isinstance(kind, type) and issubclass(kind, PreTrainedModel)  # processors do not
        if not reports:
            return kind.from_pretrained(folder, local_files_only=True, **options)
        loaded: Any = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"{name} lacks {missing[0]} and {len(missing) - 1} more weights; fetch it anew.")
    return model


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tell what a library's loader raises in one sentence.

    Raises:
        ModelError: in place of it.
    """
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    try:
        yield
    except (UnpicklingError, OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{what} cannot be loaded ({reason(error)}); fetch or convert it anew.") from error


def reason(error: Exception) -> str:
    """The first sentence of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(" .:") if lines else type(error).__name__


@contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Silence the loading chatter of diffusers or transformers; errors still come as exceptions."""
    logs: list[Any] = [import_module(f"{library}.utils.logging") for library in libraries]
    levels = [log.get_verbosity() for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)
