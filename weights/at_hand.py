"""Model weights of all rooms: which are on this machine, fetching and checking them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..diffusion.model import EMBEDDED, from_hub
from ..errors import ModelError
from . import catalogue as segmentation
from .download import Progress
from .download import download as download_segmentation


@dataclass(frozen=True)
class Weights:
    """One model: what it is for, "ready" or "missing", bytes on disk or to fetch, and where it lies."""

    name: str
    kind: str
    state: str
    size: int
    licence: str
    place: Path

    def __str__(self) -> str:
        return f"{self.name:32} {self.kind:12} {self.state:8} {self.size / 1e6:8.1f} MB  {self.licence}"


def weights_at_hand() -> list[Weights]:
    """The embedded models, diffusion models in the hub's cache, and every known segmentation model."""
    embedded = [
        Weights(name, "diffusion", _state(_is_diffusion(folder)), _size(folder), "MIT", folder)
        for name, folder in EMBEDDED.items()
    ]
    cached = [
        Weights(name, "diffusion", "ready", _size(folder), "see its page", folder)
        for name, folder in cached_diffusion().items()
    ]
    known = [
        Weights(
            model.name, "segmentation", _state(segmentation.is_present(model)), model.size, model.licence, model.folder
        )
        for model in segmentation.KNOWN
    ]
    return [*embedded, *cached, *known]


def cached_diffusion() -> dict[str, Path]:
    """Hub id to folder, for models in diffusers layout in the hub's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = sorted(scan_cache_dir().repos, key=lambda repository: repository.repo_id)
    except CacheNotFound:
        return {}
    latest = {one.repo_id: max(one.revisions, key=lambda revision: revision.last_modified) for one in repositories}
    return {name: revision.snapshot_path for name, revision in latest.items() if _is_diffusion(revision.snapshot_path)}


def download(name: str, *, offline: bool = False, on_progress: Progress | None = None) -> Path:
    """The folder of a model's weights, fetched where they are missing or corrupt.

    `name`: a known segmentation model, a hub id like owner/name, or an embedded one, which is always there.

    Raises:
        ModelError: an unknown name, no connection, or nothing here and `offline`.
    """
    if name in EMBEDDED:
        return EMBEDDED[name]
    if "/" in name:
        return from_hub(name, offline, allow_pickle=False)
    return download_segmentation(name, offline=offline, on_progress=on_progress)


def verify(name: str | None = None) -> dict[str, str]:
    """Each weight file's state after reading it whole: "ready", "missing" or "corrupt".

    Hub files are compared with the SHA-256 that names them in the cache; embedded ones are read.

    Raises:
        ModelError: an unknown name.
    """
    if name is None:
        here = [one.name for one in weights_at_hand() if one.state == "ready"]
        return {file: state for one in here for file, state in verify(one).items()}
    diffusion = {**EMBEDDED, **cached_diffusion()}
    if name in diffusion:
        files = sorted(diffusion[name].rglob("*.safetensors"))
        return {f"{name}/{file.relative_to(diffusion[name])}": _checked(file) for file in files}
    if "/" in name:
        raise ModelError(f"The model {name} is not on this machine; run: inlay models download {name}")
    model = segmentation.known_model(name)
    return {f"{model.name}/{file}": state for file, state in segmentation.verify(model).items()}


def _checked(file: Path) -> str:
    """Whether a cached file's content is what its name in the cache says, or, outside the cache, can be read."""
    from safetensors import SafetensorError, safe_open

    stored = file.resolve()
    if len(stored.name) == 64:
        with stored.open("rb") as stream:
            return "ready" if hashlib.file_digest(stream, "sha256").hexdigest() == stored.name else "corrupt"
    try:
        with safe_open(stored, "np") as tensors:
            for key in tensors.keys():  # noqa: SIM118 - not a mapping
                tensors.get_tensor(key)
    except (OSError, SafetensorError):
        return "corrupt"
    return "ready"


def _is_diffusion(folder: Path) -> bool:
    return (folder / "model_index.json").is_file() and (folder / "unet").is_dir()


def _state(ready: bool) -> str:
    return "ready" if ready else "missing"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
