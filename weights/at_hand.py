"""Model weights of all rooms: which are on this machine, fetching and checking them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from . import catalogue, hub
from .adapters import adapter_file, kind_of, names_file
from .catalogue import CLIP, DETECTORS, EMBEDDED, KNOWN, METRICS
from .device import pick_device, pick_dtype
from .download import Progress, fetch
from .parts import INDEX, lacking


@dataclass(frozen=True)
class Weights:
    """One model: what it is for, "ready" or "missing", bytes on disk or to fetch, and where it lies."""

    name: str
    kind: str
    state: str
    size: int
    licence: str
    place: Path | None

    def __str__(self) -> str:
        return f"{self.name:34} {self.kind:12} {self.state:8} {self.size / 1e6:8.1f} MB  {self.licence}"


def weights_at_hand() -> list[Weights]:
    """The embedded models, diffusion models in the hub's cache, and every known model of the other kinds."""
    embedded = [
        Weights(name, "diffusion", _state(not lacking(folder)), _size(folder), "MIT", folder)
        for name, folder in EMBEDDED.items()
    ]
    folders = cached_folders()
    snapshots = {name: folder for name, folder in folders.items() if not lacking(folder)}
    diffusion = [
        Weights(name, "diffusion", "ready", _size(folder), "see its page", folder)
        for name, folder in snapshots.items()
        if (folder / INDEX).is_file()
    ]
    adapters = [
        Weights(name, kind, "ready", _size(folder), "see its page", folder)
        for name, folder in folders.items()
        if (kind := _adapter(folder))
    ]
    known = [
        Weights(one.name, one.kind, _state(catalogue.is_present(one)), one.size, one.licence, one.folder)
        for one in (*KNOWN, *METRICS)
    ]
    others = [
        Weights(one.name, one.kind, _state(one.name in snapshots), one.size, one.licence, snapshots.get(one.name))
        for one in (*DETECTORS, CLIP)
    ]
    return [*embedded, *diffusion, *adapters, *known, *others]


def _adapter(folder: Path) -> str | None:
    """Which kind of adapter a folder holds, whole; None for another thing."""
    try:
        kind = None if (folder / INDEX).is_file() else kind_of(folder)
    except ModelError:
        return None
    return None if kind in ("vae", "control") and lacking(folder) else kind


def cached_models() -> dict[str, Path]:
    """Hub id to folder, for whole models in the hub's cache."""
    return {name: folder for name, folder in cached_folders().items() if not lacking(folder)}


def cached_folders() -> dict[str, Path]:
    """Hub id to folder, for all of models and adapters that is in the hub's cache."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return {}
    names = sorted(repository.repo_id for repository in found if repository.repo_type == "model")
    return {name: folder for name in names if (folder := hub.cached(name))}


def download(
    name: str, *, offline: bool = False, allow_pickle: bool = False, on_progress: Progress | None = None
) -> Path:
    """The folder of a model's weights, fetched where they are missing or corrupt.

    `name`: a known model, a hub id like owner/name, a file in such a repository, like owner/name/file.safetensors, or
    an embedded one, which is always there.

    Raises:
        ModelError: an unknown name, no connection, or nothing here and `offline`.
    """
    if name in EMBEDDED:
        return EMBEDDED[name]
    if names_file(name):
        return adapter_file(name, offline).parent
    if "/" in name:
        half = str(pick_dtype("auto", pick_device())) == "torch.float16"
        if not offline and hub.on_hub(name) and (here := hub.cached(name)):
            drop_corrupt(here)
        return hub.fetch(name, offline=offline, allow_pickle=allow_pickle, half=half)
    return fetch(catalogue.known_model(name), offline=offline, on_progress=on_progress)


def drop_corrupt(folder: Path) -> None:
    """Take files of the hub's cache away whose content is not what it should be, so that they are fetched again."""
    for file in folder.rglob("*.safetensors"):
        if _checked(file) != "ready":
            file.resolve().unlink(missing_ok=True)
            file.unlink(missing_ok=True)  # the link, where the cache has links


def verify(name: str | None = None) -> dict[str, dict[str, str]]:
    """By model, of a name or all that are ready here, each weight file's state after reading it whole: "ready",
    "missing" or "corrupt".

    Hub files are compared with the SHA-256 that names them in the cache; embedded ones are read.

    Raises:
        ModelError: an unknown name.
    """
    names = [name] if name else [one.name for one in weights_at_hand() if one.state == "ready"]
    return {one: _verified(one) for one in names}


def _verified(name: str) -> dict[str, str]:
    if folder := EMBEDDED.get(name) or ("/" in name and hub.cached(name)):
        files = sorted(folder.rglob("*.safetensors"))
        return {f"{name}/{file.relative_to(folder)}": _checked(file) for file in files}
    if "/" in name:
        raise ModelError(f"The model {name} is not on this machine; run: inlay models download {name}")
    model = catalogue.known_model(name)
    return {f"{model.name}/{file}": state for file, state in catalogue.verify(model).items()}


def _checked(file: Path) -> str:
    """Whether a cached file's content is what its name in the cache says, or, outside the cache, can be read."""
    from safetensors import SafetensorError, safe_open

    stored = file.resolve()
    if not stored.is_file():
        return "missing"
    if len(stored.name) == 64:
        with stored.open("rb") as stream:
            return "ready" if hashlib.file_digest(stream, "sha256").hexdigest() == stored.name else "corrupt"
    try:
        with safe_open(stored, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a mapping
                tensors.get_tensor(key)
    except (OSError, SafetensorError):
        return "corrupt"
    return "ready"


def _state(ready: bool) -> str:
    return "ready" if ready else "missing"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
