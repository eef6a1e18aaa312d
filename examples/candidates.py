"""Several candidates: make four, rank them inside the mask, and look at all on one sheet."""

import sys

import inlay
import skimage.data
from inlay.photos.sheet import preview
from inlay.segmentation import masks, segment

model, steps = sys.argv[1:] or ("toybox", "25")

photo = inlay.Photo.from_image(skimage.data.rocket())
mask = masks.grow(segment(photo, boxes=[(290, 115, 355, 400)]).best, 6)

editor = inlay.Editor.from_pretrained(model)
result = editor.edit(photo, mask, "a cactus in the desert", words="cactus", num_images=4, steps=int(steps))

ranked = [result.images[k] for k in result.ranking]
captions = [f"seed {result.seeds[k]}, score {result.scores[k] or 0:.2f}" for k in result.ranking]
page = preview(photo.pixels, mask, [image.pixels for image in ranked], captions=captions)
inlay.Photo.from_image(page).save("candidates.png", overwrite=True)
result.best.save("best.png", overwrite=True)
print("candidates.png best.png")
