"""A sheet of edits on photos: `python -m inlay.toybox.workshop.edits --model M --photos DIR --out edits.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageOps

from ...editing.editor import Editor
from ...photos.photo import Photo
from ..vocabulary import shipped
from .photos import to_unit
from .report import phrase
from .sheets import write_sheet

SIDE = 256
PLACES = ((0.35, 0.6), (0.65, 0.5))
"""Centres of the two places, in shares of width and height."""


def edited(model: str, photos: Path, file: Path) -> None:
    """A sheet of edits: on coffee, chelsea and every .jpg in `photos` two things each, beside the photo.

    What is asked for and where goes by turns through the nouns and two places: nothing is picked for its looks.
    """
    editor, nouns = Editor.from_pretrained(model), list(shipped()["nouns"])
    opened = {name: Photo.from_image(getattr(skimage.data, name)()) for name in ("coffee", "chelsea")}
    opened |= {path.stem: Photo.open(path) for path in sorted(photos.glob("*.jpg"))}
    shown, labels = [], []
    for row, (name, photo) in enumerate(opened.items()):
        height, width = photo.pixels.shape[:2]
        side, made = int(0.45 * min(height, width)), [photo]
        for turn, (x, y) in enumerate(PLACES):
            prompt = phrase(nouns[(5 * row + 8 * turn) % len(nouns)])
            mask = np.zeros((height, width), bool)
            left, top = int(x * width) - side // 2, int(y * height) - side // 2
            mask[top : top + side, left : left + side] = True
            made.append(editor.edit(photo, mask, prompt, steps=25, seed=row).images[0])
            labels.append(prompt)
        labels.insert(-2, name)
        for picture in made:
            square = ImageOps.pad(Image.fromarray(picture.pixels), (SIDE, SIDE), color="white")
            shown.append(torch.from_numpy(np.asarray(square)).permute(2, 0, 1))
    write_sheet(file, to_unit(torch.stack(shown)), labels, columns=6, side=SIDE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m inlay.toybox.workshop.edits", description=edited.__doc__)
    parser.add_argument("--model", default="toybox", help="a model that ships, or a folder in diffusers layout")
    parser.add_argument("--photos", type=Path, required=True, help="folder of .jpg photos beside coffee and chelsea")
    parser.add_argument("--out", type=Path, required=True, help="the sheet, a PNG")
    options = parser.parse_args()
    edited(options.model, options.photos, options.out)


if __name__ == "__main__":
    main()
