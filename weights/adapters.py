"""What is loaded onto a diffusion model: its names, where the files lie, and what their headers say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, UsageError
from . import hub
from .catalogue import CONTROLS, REFERENCES
from .diffusion import fingerprint
from .parts import INDEX, PICKLES, SAVED_AS, WEIGHTED, choose, only, read_json, refuse_pickle

Shapes = dict[str, tuple[int, ...]]
"""Names of tensors and their shapes."""

ENCODER = "image_encoder"
"""The folder beside an IP-Adapter's file with the network that sees the reference picture."""


@dataclass(frozen=True)
class Adapters:
    """What is loaded onto a model, by name: LoRAs with their scales, textual inversions, an autoencoder in place of the
    model's own, ControlNets and T2I-Adapters, and an IP-Adapter ("" is the one that the catalogue has)."""

    lora: tuple[tuple[str, float], ...] = ()
    embedding: tuple[str, ...] = ()
    vae: str | None = None
    control: tuple[str, ...] = ()
    reference: str | None = None

    def __bool__(self) -> bool:
        return self != Adapters()

    @property
    def names(self) -> tuple[str, ...]:
        """All that is named."""
        single = [one for one in (self.vae, self.reference) if one]
        return (*(name for name, _ in self.lora), *self.embedding, *self.control, *single)


@dataclass(frozen=True)
class Base:
    """What adapters have to fit: a model's name, the configurations of its UNet and autoencoder, and the shapes of the
    weights of each of its parts."""

    name: str
    unet: Any
    vae: Any
    shapes: dict[str, Shapes]

    @classmethod
    def at(cls, name: str, path: Path) -> Base | None:
        """What configurations and headers of a folder say; None for a single file, which has other names, and for
        pickles, which have no headers."""
        if path.is_file():
            return None
        index, shapes = read_json(path / INDEX), dict[str, Shapes]()
        for part in WEIGHTED:
            if part in index and index[part] != [None, None]:
                chosen = choose(file.name for file in (path / part).glob("*"))
                if chosen is None:
                    return None
                shapes[part] = {key: own for file in chosen.files for key, own in header(path / part / file).items()}
        unet, vae = (read_json(path / part / "config.json") for part in ("unet", "vae"))
        return cls(name, unet, vae, {part: flat(own) for part, own in shapes.items()})


KINDS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
"""Stable Diffusion's kinds by the width of the text that the UNet reads."""


def kind_at(path: Path) -> str:
    """Which of `KINDS` a model is, by its UNet's configuration or its file's header; "" for another."""
    if path.is_dir():
        return KINDS.get(read_json(path / "unet" / "config.json")["cross_attention_dim"], "")
    shapes = header(path)
    read = (shape[-1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))
    return KINDS.get(next(read, 0), "")


def flat(shapes: Shapes) -> Shapes:
    """Without the "text_model." that text encoders had in their names before transformers 5."""
    return {name.removeprefix("text_model."): shape for name, shape in shapes.items()}


@dataclass(frozen=True)
class Found:
    """Where the files of adapters lie: each name, its file or folder, and a LoRA's scale."""

    lora: tuple[tuple[str, Path, float], ...] = ()
    embedding: tuple[tuple[str, Path], ...] = ()
    vae: tuple[str, Path] | None = None
    control: tuple[tuple[str, Path], ...] = ()
    reference: tuple[str, Path] | None = None

    @property
    def mark(self) -> str:
        """What tells these adapters from others; "" for none."""
        return "".join(f"+{mark}" for mark in self.marks.values())

    @property
    def marks(self) -> dict[str, str]:
        """The fingerprint of each adapter's weights, by name; an IP-Adapter's with that of its image encoder."""
        named = [*self.embedding, *self.control, *([self.vae] if self.vae else [])]
        named += [(name, file) for name, file, _ in self.lora]
        marks = {name: fingerprint(path) for name, path in named}
        if self.reference:
            name, file = self.reference
            marks[name] = f"{fingerprint(file)}+{fingerprint(file.parent / ENCODER)}"
        return marks


def find(adapters: Adapters, kind: str, offline: bool = False, allow_pickle: bool = False, half: bool = False) -> Found:
    """Where adapters lie for a model of `kind` (see `KINDS`), fetched from the hub where they are not here.

    Raises:
        ModelError: nothing there, or pickled.
    """

    def folder(name: str) -> Path:
        return adapter_folder(name, offline, allow_pickle, half)

    vae = adapters.vae
    reference = None if adapters.reference is None else known(REFERENCES, adapters.reference, kind)
    return Found(
        tuple((name, adapter_file(name, offline), scale) for name, scale in adapters.lora),
        tuple((name, adapter_file(name, offline)) for name in adapters.embedding),
        None if vae is None else (vae, adapter_file(vae, offline) if names_file(vae) else folder(vae)),
        tuple((name, folder(known(CONTROLS, name, kind))) for name in adapters.control),
        None if reference is None else (reference, reference_file(reference, offline)),
    )


def known(catalogue: dict[tuple[str, str], str], name: str, kind: str) -> str:
    """What a name of the catalogue stands for with a model of `kind`; any other name stands for itself.

    Raises:
        UsageError: the catalogue has none for such a model.
    """
    if not any(own == name for own, _ in catalogue):
        return name
    if (name, kind) not in catalogue:
        raise UsageError(
            f"inlay knows no weights for {name or 'a reference'} with this model; name a folder or hub id of your own."
        )
    return catalogue[name, kind]


def names_file(name: str) -> bool:
    """Whether a name is that of one file, here or in a repository of the hub."""
    return Path(name).suffix in (".safetensors", *PICKLES)


def adapter_file(name: str, offline: bool = False) -> Path:
    """The one file behind a name: a .safetensors file, a folder or hub id (owner/name) that holds one, or a file in a
    repository of the hub (owner/name/file.safetensors).

    Raises:
        ModelError: nothing there, several files, or a pickle.
    """
    refuse_pickle(name)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return path / only([file.name for file in path.iterdir()], name)
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not hub.on_hub(name) or not repository or (names_file(name) and not file):
        raise ModelError(f"There is no {name}; give a .safetensors file, a folder with one, or a hub id.")
    repository = f"{owner}/{repository}"
    return hub.fetch_file(repository, file or None, offline)


def adapter_folder(name: str, offline: bool = False, allow_pickle: bool = False, half: bool = False) -> Path:
    """The folder of an autoencoder, ControlNet or T2I-Adapter in diffusers layout, by its path or hub id.

    Raises:
        ModelError: nothing there, a file, or not whole.
    """
    refuse_pickle(name)
    path = Path(name).expanduser()
    if not path.is_dir() and (not hub.on_hub(name) or name.count("/") != 1):
        raise ModelError(f"{name} is no folder in diffusers layout, with a config.json, and no hub id like owner/name.")
    return hub.fetch(str(path) if path.is_dir() else name, offline=offline, allow_pickle=allow_pickle, half=half)


def reference_file(name: str, offline: bool = False) -> Path:
    """An IP-Adapter's file, with its image encoder in the folder beside it.

    Raises:
        ModelError: as `adapter_file`, or no image encoder.
    """
    file = adapter_file(name, offline)
    if not Path(name).expanduser().exists():
        owner, repository, *inside = name.split("/")
        folder = "/".join([*inside[:-1], ENCODER])
        hub.fetch_folder(f"{owner}/{repository}", folder, offline)
    encoder = file.parent / ENCODER
    if not (encoder / "config.json").is_file() or choose(one.name for one in encoder.iterdir()) is None:
        raise ModelError(f"{name} lacks its image encoder; put it into {encoder}, with its config.json.")
    return file


def header(file: Path) -> Shapes:
    """The shapes in a .safetensors file; its weights are not read.

    Raises:
        ModelError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} is no readable .safetensors file; fetch it anew.") from error


NAMELESS = {"emb_params", "clip_l", "clip_g"}
"""What embeddings are called that are named by their file."""


def words_of(file: Path) -> tuple[str, ...]:
    """The words that a textual inversion adds: the names in it, or that of the file where it has none."""
    keys = set(header(file))
    return (file.stem,) if keys <= NAMELESS else tuple(sorted(keys))


def kind_of(folder: Path) -> str | None:
    """What adapter a folder holds, as far as headers and configurations tell; None for none."""
    if (folder / "config.json").is_file():
        name = read_json(folder / "config.json").get("_class_name")
        return {"AutoencoderKL": "vae", "ControlNetModel": "control", "T2IAdapter": "control"}.get(str(name))
    for file in sorted(folder.rglob("*.safetensors")):
        keys = header(file).keys()
        if any(".lora_" in key or "_lora." in key for key in keys):
            return "lora"
        if any(key.startswith("ip_adapter.") for key in keys):
            return "reference"
        if file.name == SAVED_AS[1] or keys <= NAMELESS:
            return "embedding"
    return None
