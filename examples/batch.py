"""Batch: retouch every photo of a folder, and look at what became of each. Run it again: what is done stays."""

import sys
from pathlib import Path

import inlay
import skimage.data

model, steps = sys.argv[1:] or ("toybox", "25")

photos = Path("photos")
for name in ("coffee", "chelsea", "rocket"):
    if not (photos / f"{name}.png").exists():
        inlay.Photo.from_image(getattr(skimage.data, name)()).save(photos / f"{name}.png")

options = {"box": "150,60,400,280", "prompt": "a pumpkin on grass", "words": "pumpkin"}
for outcome in inlay.batch(photos, "retouched", model=model, steps=int(steps), **options):
    print(f"{outcome.number} of {outcome.total}: {outcome.id} {outcome.state} {outcome.error}")
