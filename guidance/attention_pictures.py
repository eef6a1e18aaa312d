"""Where the words look: a recorder of cross-attention that runs beside any method, and pictures of what it saw.

records = []
method = Chain((MaskedAttention(), RecordAttention(("red apple",), records.append)))
... run it ...
save_pictures(Attention.gathered(records), images, "attention")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ..diffusion.attention import Layer, Maps
from ..diffusion.denoiser import Request, Watch
from ..diffusion.schedule import Step
from ..errors import UsageError
from ..photos.photo import Photo
from ..photos.sheet import sheet as contact_sheet
from .base import Guidance, Hooks, Run
from .layers import Layers

if TYPE_CHECKING:
    from PIL.Image import Image

CELL = 160
"""Pixels: the longer side of a picture on a sheet."""

SHOWN = 6
"""Steps on a sheet, evenly spread."""

LEGEND = "Black is 0, yellow the number: the share of a pixel's attention that the word gets."


@dataclass(frozen=True, eq=False)
class Attention:
    """Recorded attention: how much of each pixel's attention goes to a word (mean over its tokens), in [0, 1]."""

    words: tuple[str, ...]
    """No two alike: words of which regions take one occurrence each are numbered by it, "apple (1)", "apple (2)"."""
    maps: Float[Tensor, "samples words steps h w"]
    """fp32 on the CPU: mean over heads and layers, each layer brought to the finest one's grid bilinearly."""
    seeds: tuple[int, ...]
    """One per sample."""

    @staticmethod
    def gathered(parts: Sequence[Attention]) -> Attention:
        """The records of several batches as one; of a sample that was run twice the last counts."""
        rows = {seed: part.maps[row] for part in parts for row, seed in enumerate(part.seeds)}
        return Attention(parts[-1].words, torch.stack(list(rows.values())), tuple(rows))


@dataclass(frozen=True)
class RecordAttention(Guidance):
    """Records the attention of phrases in every forward that predicts; changes nothing and needs no gradient.

    Args:
        words: phrases of the prompt. One whose regions take single occurrences of it is recorded for each of these.
        keep: given the record of each run, once its last step is done.
        layers: "all", or depths and names of cross-attention layers; default the grids from the latents' own to a
            quarter of it.

    Raises:
        UsageError: when it begins, a phrase that is not in a prompt.
    """

    words: tuple[str, ...]
    keep: Callable[[Attention], None]
    layers: Layers = (0, 1, 2)

    def hooks(self, run: Run) -> Hooks[RecordAttention] | None:
        return Recording(self, run, self.layers) if self.words else None


class Recording(Hooks[RecordAttention]):
    needs_words = False

    def __init__(self, method: RecordAttention, run: Run, layers: Layers) -> None:
        super().__init__(method, run, layers)
        rows = captions(method.words, run)
        self.words, self.tokens = tuple(rows.values()), tuple(zip(*rows, strict=True))
        """Captions, and per sample and caption the token indices."""
        self.grid = max(layer.grid(run.size) for layer in self.layers)
        self.steps: list[Float[Tensor, "b words h w"]] = []

    def request(self, step: Step) -> Request:
        columns = {token for phrases in self.tokens for tokens in phrases for token in tokens}
        return Request(watches=(Watch(self._receive, self.layers, tuple(sorted(columns))),))

    def _receive(self, maps: Maps, step: Step) -> None:
        mean = torch.stack([self._phrases(maps, layer) for layer in self.layers]).mean(dim=0)
        self.steps.append(mean.float().cpu())
        if step.index == self.run.schedule.count - 1:
            seeds = tuple(generator.initial_seed() for generator in self.run.generators)
            self.method.keep(Attention(self.words, torch.stack(self.steps, dim=2), seeds))

    def _phrases(self, maps: Maps, layer: Layer) -> Float[Tensor, "b words h w"]:
        """One layer's attention to each phrase, at the record's resolution."""
        heads = maps.layers[layer.name].mean(dim=1)
        rows = [
            torch.stack([row[..., maps.positions(tokens)].mean(dim=-1) for tokens in phrases])
            for row, phrases in zip(heads, self.tokens, strict=True)
        ]
        return F.interpolate(torch.stack(rows), self.grid, mode="bilinear", align_corners=False)


def captions(words: Sequence[str], run: Run) -> dict[tuple[tuple[int, ...], ...], str]:
    """Captions by token indices per sample: each phrase, or those of its occurrences that regions take."""
    rows: dict[tuple[tuple[int, ...], ...], str] = {}
    regions = [place.region for places in run.places for place in places]
    for phrase in words:
        whole = tuple(run.model.prompts.find(prompt, phrase) for prompt in run.prompts)
        taken = {region.occurrence for region in regions if region.words == phrase} or {None}
        for occurrence in sorted(taken, key=lambda taken: -1 if taken is None else taken):
            tokens = tuple(run.model.prompts.find(prompt, phrase, occurrence) for prompt in run.prompts)
            caption = phrase if occurrence is None or tokens == whole else f"{phrase} ({occurrence + 1})"
            rows.setdefault(tokens, caption)
    return rows


def heat_map(image: UInt8[np.ndarray, "H W 3"], heat: Float[Tensor, "h w"]) -> UInt8[np.ndarray, "H W 3"]:
    """A word's map over the picture: dark where it is least, bright where it is most; the picture shines through."""
    import cv2

    above = (heat - heat.min()).numpy()
    large = np.asarray(cv2.resize(above, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC))
    grey = image.mean(axis=-1, keepdims=True)
    return np.rint(0.4 * grey + 0.6 * coloured(large, float(above.max()))).astype(np.uint8)


def coloured(values: Float[np.ndarray, "h w"], most: float) -> UInt8[np.ndarray, "h w 3"]:
    """Colours from black (0) over red to pale yellow (`most`)."""
    import cv2

    levels = np.clip(255 * values / max(most, 1e-12), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def sheet(attention: Attention, image: UInt8[np.ndarray, "H W 3"], sample: int = 0) -> Image:
    """A row per word: its mean over all steps on the picture, then the map at steps from first to last.

    The colours of a row share one scale, from 0 to the number beside the word: the largest share of its attention that
    a pixel gives to the word at a step on the sheet.
    """
    maps = attention.maps[sample]
    chosen = np.unique(np.linspace(0, maps.shape[1] - 1, SHOWN).round().astype(int))
    rows = []
    for word, word_maps in zip(attention.words, maps, strict=True):
        most = float(word_maps[chosen].max())
        steps = [coloured(word_maps[step].numpy(), most) for step in chosen]
        mean = (heat_map(image, word_maps.mean(dim=0)), f"{word}: 0 to {most:.3f}")
        rows.append([mean, *((step, "") for step in steps)])
    return contact_sheet(rows, ["all steps", *(f"step {step + 1}" for step in chosen)], LEGEND, cell=CELL)


def save_pictures(
    attention: Attention,
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    folder: str | PathLike[str],
    *,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write per sample SEED-WORD.png, a heat map over its picture, and SEED-steps.png; the folder is made.

    Raises:
        UsageError: a file exists, unless `overwrite`.
        PhotoError: a file cannot be written.
    """
    pictures: dict[Path, Image | UInt8[np.ndarray, "H W 3"]] = {}
    for sample, (seed, image) in enumerate(zip(attention.seeds, images, strict=True)):
        for number, word in enumerate(attention.words):
            name = re.sub(r"\W+", "-", word).strip("-") or str(number + 1)
            path = Path(folder) / f"{seed}-{name}.png"
            path = path.with_stem(f"{path.stem}-{number + 1}") if path in pictures else path
            pictures[path] = heat_map(image, attention.maps[sample, number].mean(dim=0))
        pictures[Path(folder) / f"{seed}-steps.png"] = sheet(attention, image, sample)
    there = [path for path in pictures if path.exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} exists: choose another folder or pass --overwrite (overwrite=True).")
    for path, picture in pictures.items():
        Photo.from_image(picture).save(path, overwrite=overwrite)
    return tuple(pictures)
