"""Diffusion models by name: where their weights lie, and what an `inlay.json` beside these says belongs to them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .catalogue import EMBEDDED, embedded_segmenter
from .hub import cached, fetch, on_hub
from .parts import INDEX, read_json, refuse_pickle

BLOCKS, BLOCK = 256, 1 << 14
"""Blocks of a file that a fingerprint reads, and bytes of each: all of a small file, and 4 MB of a large one, where a
training of the layers of attention alone changes every hundredth byte or more."""


def locate(name: str, offline: bool = False, allow_pickle: bool = False, half: bool = False) -> Path:
    """The file or folder behind a model's name, fetched from the hub if it is an id and not in the cache.

    Raises:
        ModelError: nothing there.
    """
    if name in EMBEDDED:
        if not (EMBEDDED[name] / INDEX).exists():
            raise ModelError(f"The embedded model {name} is missing from this installation; reinstall inlay.")
        return EMBEDDED[name]
    path = Path(name).expanduser()
    refuse_pickle(name)
    if path.is_file() or (path / INDEX).is_file():
        return path
    if path.exists():
        raise ModelError(f"{name} is no model: a folder in diffusers layout has a model_index.json.")
    if path.suffix == ".safetensors" or not on_hub(name) or name.count("/") != 1:
        raise ModelError(
            f"There is no model at {name}; give a folder, a .safetensors file, a hub id like owner/name, or toybox."
        )
    return fetch(name, offline=offline, allow_pickle=allow_pickle, half=half, index=True)


def fingerprint(path: Path) -> str:
    """16 hex digits that tell weights apart, wherever they lie: SHA-256 over each file's place in the folder, its size,
    and `BLOCKS` blocks of it, evenly spaced, of which the first holds its header and the last its end."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors")) + sorted(path.rglob("*.bin"))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)} {size}".encode())
        with file.open("rb") as stream:
            for number in range(BLOCKS):
                stream.seek(max(0, size - BLOCK) * number // (BLOCKS - 1))
                digest.update(stream.read(BLOCK))
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model was trained on, and the things among them."""

    words: frozenset[str]
    things: tuple[str, ...]
    classes: dict[str, int]
    """Each thing's forms and the class that the model's guide has for it; 0 is the background."""

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """From a file with `words`, and `nouns`, the forms of each."""
        found = read_json(path)
        nouns: dict[str, list[str]] = found["nouns"]
        classes = {form: number for number, forms in enumerate(nouns.values(), start=1) for form in forms}
        return cls(frozenset(found["words"]), tuple(nouns), classes)

    def unknown(self, prompt: str) -> list[str]:
        """The words of a prompt that the model has never seen, in order, each once."""
        found = re.findall(r"[^\W\d_]+", prompt.lower())
        return list(dict.fromkeys(word for word in found if word not in self.words))

    def never_seen(self, model: str, prompt: str) -> str | None:
        """What to say of the words that it has never seen; None where there are none."""
        unknown = ", ".join(self.unknown(prompt))
        return f"{model} has never seen {unknown}; it knows {', '.join(self.things)}." if unknown else None


@dataclass(frozen=True)
class Belongings:
    """What an `inlay.json` says.

    `defaults` are what suits the model best: the guidance scale, the scheduler, the strength at which surroundings are
    continued, the methods' parameters; and `sees_surroundings`, true of a model that learned to paint a place with the
    photo around it before its eyes, without noise. "vocabulary" and "guide" name a file and a folder beside it.
    """

    defaults: dict[str, Any] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    guide_folder: Path | None = None

    @cached_property
    def guide(self) -> Any:
        """A network from pictures (b, 3, H, W) in [0, 1] to logits of the vocabulary's classes, frozen; None where the
        model has none. Raises ModelError where it is named and not there."""
        return embedded_segmenter(self.guide_folder) if self.guide_folder else None


def belongings(name: str) -> Belongings:
    """What belongs to a model of that name as far as it is on this machine; nothing of it is loaded or fetched."""
    folder = EMBEDDED.get(name) or cached(name)
    if folder is None or not (folder / "inlay.json").is_file():
        return Belongings()
    said = read_json(folder / "inlay.json")
    words, guide = said.pop("vocabulary", None), said.pop("guide", None)
    return Belongings(said, Vocabulary.read(folder / words) if words else None, folder / guide if guide else None)
