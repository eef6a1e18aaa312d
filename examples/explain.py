"""Explain: where each word of the prompt looked while a photo was edited."""

import sys

import inlay
import skimage.data
from inlay.guidance.attention_pictures import save_pictures
from inlay.segmentation import segment

model, steps = sys.argv[1:] or ("toybox", "25")

photo = inlay.Photo.from_image(skimage.data.astronaut())
mask = segment(photo, boxes=[(355, 190, 500, 400)]).best

editor = inlay.Editor.from_pretrained(model)
result = editor.edit(photo, mask, "a frog on a wall", words="frog", attention=("frog", "wall"), steps=int(steps))

assert result.attention is not None
window = result.settings[0].facts.crops[-1]
seen = result.best.image.convert("RGB").crop(window)
for path in save_pictures(result.attention, [inlay.Photo.from_image(seen).pixels], "words", overwrite=True):
    print(path)
