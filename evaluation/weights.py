"""Weights that metrics need and that are not embedded: used where they are at hand, never downloaded in passing."""

from pathlib import Path

from ..errors import ModelError


def local_weights(model: str) -> Path:
    """The folder of a model given by folder or hub id; raises ModelError where it is not on this machine."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise ModelError(f"{model} is not here; get it with `hf download {model}`, or name a folder.") from error


def torch_hub_weights(file: str, what: str) -> Path:
    """A file in torch's hub cache; raises ModelError where it is not there."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise ModelError(f"The weights of {what} are not on this machine; put {file} into {path.parent}.")
    return path
