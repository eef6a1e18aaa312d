"""Add: draw a place in a photo, say what to put there, and let guidance make it fill the place."""

import sys

import inlay
import numpy as np
import skimage.data
from inlay.guidance import MaskedAttention
from skimage.draw import disk

model, steps = sys.argv[1:] or ("toybox", "25")

photo = inlay.Photo.from_image(skimage.data.chelsea())
mask = np.zeros(photo.pixels.shape[:2], bool)
mask[disk((215, 60), 55, shape=mask.shape)] = True

editor = inlay.Editor.from_pretrained(model)
result = editor.edit(
    photo, mask, "a ball on the floor", guidance=MaskedAttention(), words="ball", steps=int(steps), seed=1
)

result.best.save("added.png", overwrite=True)
print("added.png")
