"""A diffusion model's folder in diffusers layout, by the names of its files: its parts, and which weights to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError

WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")
WORDED = ("tokenizer", "tokenizer_2")
INDEX = "model_index.json"
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
SAVED_AS = ("pytorch_lora_weights.safetensors", "learned_embeds.safetensors")
"""What diffusers' savers call the one file of an adapter."""
_VARIANT = r"\.(fp16|fp32|bf16|ema|non_ema)"
_WEIGHTS = re.compile(  # older shards have their variant behind the number
    rf"(?:diffusion_pytorch_model|model|pytorch_model)(?:{_VARIANT})?(?:-\d{{5}}-of-(\d{{5}}))?(?:{_VARIANT})?"
    r"\.(safetensors|bin)"
)


@dataclass(frozen=True)
class Choice:
    """The weights of a part that are read: their variant ("fp16", or None), and the files."""

    variant: str | None
    pickled: bool
    files: tuple[str, ...]


def choose(names: Iterable[str], *, half: bool = False, allow_pickle: bool = False) -> Choice | None:
    """Of the files in a part's folder the weights to read, whole ones only; None where there are none.

    Half precision prefers the variant fp16, others the plain one; safetensors go before pickles.
    """
    groups: dict[tuple[bool, str | None], dict[int, list[str]]] = {}
    for name in sorted(names):
        if found := _WEIGHTS.fullmatch(name):
            kind = found[4] == "bin", _variant(found)
            groups.setdefault(kind, {}).setdefault(int(found[2] or 1), []).append(name)
    variants = ("fp16", None) if half else (None, "fp16")
    for kind in [(pickled, variant) for pickled in (False, True)[: 1 + allow_pickle] for variant in variants]:
        for count, files in sorted(groups.get(kind, {}).items()):
            if len(files) == count:
                return Choice(kind[1], kind[0], tuple(files))
    return None


def weight_bytes(path: Path, allow_pickle: bool = False) -> int:
    """Bytes on disk of a UNet's weights in a model's folder, or of a single file."""
    if path.is_file():
        return path.stat().st_size
    folder = path / "unet"
    chosen = choose((file.name for file in folder.iterdir()), allow_pickle=allow_pickle) if folder.is_dir() else None
    return sum((folder / name).stat().st_size for name in chosen.files) if chosen else 0


def strays(names: Iterable[str], choice: Choice) -> list[str]:
    """The safetensors beside a part's weights that are neither these nor another variant of them."""
    others = [name for name in sorted(names) if name.endswith(".safetensors") and name not in choice.files]
    return [name for name in others if not (found := _WEIGHTS.fullmatch(name)) or _variant(found) == choice.variant]


def _variant(found: re.Match[str]) -> str | None:
    return found[1] or found[3]


def needed(files: Iterable[str], half: bool, allow_pickle: bool = False) -> list[str]:
    """Of a repository's files those that are loaded: configurations and vocabularies, and weights of one variant."""
    files = list(files)
    whole = INDEX in files
    kept = [file for file in files if "/" not in file and file.endswith((".json", ".txt", ".model"))]
    for part in (*WEIGHTED, *WORDED, "scheduler") if whole else ("",):
        names = _inside(part, files)
        chosen = choose(names, half=half, allow_pickle=allow_pickle) if part in ("", *WEIGHTED) else None
        wanted = chosen.files if chosen else ()
        kept += [f"{part}/{name}" for name in names if part and name.endswith((".json", ".txt"))]
        kept += [f"{part}/{name}".lstrip("/") for name in wanted]
    return list(dict.fromkeys(kept))


def lacking(folder: Path, allow_pickle: bool = False) -> str | None:
    """What a folder lacks to be a whole model of diffusers or transformers, in words; None where it is whole."""
    if not (folder / INDEX).is_file():
        names = _names(folder)
        return "no config.json" if "config.json" not in names else _unweighted(names, allow_pickle, "")
    try:
        index = read_json(folder / INDEX)
    except ModelError:
        return f"no {INDEX} that can be read"
    for part in (*WEIGHTED, *WORDED, "scheduler"):
        names = _names(folder / part)
        if part not in index or index[part] == [None, None]:
            continue
        if part in WEIGHTED and (said := _unweighted(names, allow_pickle, f" of its {part}")):
            return said
        if part in WORDED and "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= set(names):
            return f"no vocabulary of its {part}"
        if part not in WORDED and not any(name.endswith("config.json") for name in names):
            return f"no configuration of its {part}"
    return None


def refused(files: Iterable[str], allow_pickle: bool) -> str | None:
    """Why no weights of a repository's `files` are loaded, where all that a part of the model has are pickles."""
    files = list(files)
    for part in WEIGHTED if INDEX in files else ():
        names = _inside(part, files)
        if choose(names, allow_pickle=True) and (said := _unweighted(names, allow_pickle, f" of its {part}")):
            return said
    return None


def _inside(part: str, files: list[str]) -> list[str]:
    """The names of a repository's files that lie in a part's folder, or, for "", in none."""
    return [name for folder, _, name in (file.rpartition("/") for file in files) if folder == part]


def _names(folder: Path) -> list[str]:
    """The files in a folder; a link of the hub's cache to what is gone is none."""
    return [file.name for file in folder.glob("*") if file.is_file()]


def _unweighted(names: list[str], allow_pickle: bool, whose: str) -> str | None:
    if choose(names, allow_pickle=allow_pickle):
        return None
    if not choose(names, allow_pickle=True):
        return f"no weights{whose}"
    return f"only pickled weights{whose}, which {'need --allow-pickle' if whose else 'are refused'}"


def read_json(path: Path) -> dict[str, Any]:
    """A configuration.

    Raises:
        ModelError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is missing or damaged; fetch or convert the model anew.") from error


def refuse_pickle(name: str) -> None:
    """Raises ModelError where a name is that of a pickle."""
    if Path(name).suffix in PICKLES:
        raise ModelError(f"{name} is a pickle, which can run code when it is opened; convert it to .safetensors first.")


def only(names: list[str], where: str) -> str:
    """Of the files of a folder the one that is an adapter.

    Raises:
        ModelError: none, several, or a pickle alone.
    """
    weights = [name for name in sorted(names) if name.endswith(".safetensors") and "/" not in name]
    chosen = [name for name in weights if name in SAVED_AS] or weights
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise ModelError(f"{where} holds {', '.join(chosen)}; name one of them as {where}/{chosen[0]}.")
    pickles = [name for name in names if Path(name).suffix in PICKLES]
    if pickles:
        refuse_pickle(f"{where}/{pickles[0]}")
    raise ModelError(f"{where} holds no .safetensors file; name another.")
