"""Loading through transformers, with its failures told in one sentence."""

from pathlib import Path
from typing import Any

from ..errors import ModelError


def from_pretrained(kind: Any, name_or_path: str, offline: bool, **options: Any) -> Any:
    """`kind.from_pretrained`, never from a pickle and, `offline`, never from the network. Raises ModelError."""
    if issubclass(kind, _models()):
        options["use_safetensors"] = True
    try:
        return kind.from_pretrained(name_or_path, local_files_only=offline, **options)
    except (OSError, ValueError, RuntimeError) as error:
        if Path(name_or_path).exists():
            said = str(error).strip().splitlines()[0].rstrip(".")
            raise ModelError(f"{name_or_path} cannot be loaded: {said}.") from error
        cure = "run once without --offline" if offline else f"run: hf download {name_or_path}"
        raise ModelError(f"The weights of {name_or_path} are not on this machine; {cure}.") from error


def _models() -> type:
    from transformers import PreTrainedModel

    return PreTrainedModel
