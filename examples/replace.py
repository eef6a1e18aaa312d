"""Replace: point at a thing in a photo, and put another there."""

import sys

import inlay
import skimage.data
from inlay.guidance import Chain, PaintWithWords, Zest
from inlay.segmentation import segment

model, steps = sys.argv[1:] or ("toybox", "25")

photo = inlay.Photo.from_image(skimage.data.coffee())
mask = segment(photo, boxes=[(170, 15, 425, 330)], points=[(290, 120)]).best

editor = inlay.Editor.from_pretrained(model)
guidance = Chain((Zest(), PaintWithWords()))  # what makes the new thing fill its place
result = editor.edit(photo, mask, "a pumpkin on wood", guidance=guidance, words="pumpkin", steps=int(steps))

result.best.save("replaced.png", overwrite=True, settings=result.settings[0].model_dump(mode="json"))
changed = result.settings[0].facts.changed_pixels
print(f"replaced.png: {changed} of {mask.size} pixels changed, every other one is as it was")
