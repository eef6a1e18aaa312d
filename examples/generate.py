"""Generate: a picture from nothing, with each thing where it was drawn."""

import sys

import inlay
import numpy as np
from inlay.guidance import Chain, PaintWithWords, Zest

model, steps = sys.argv[1:] or ("toybox", "50")

left, right = np.zeros((256, 256), bool), np.zeros((256, 256), bool)
left[80:220, 16:120] = True
right[80:220, 140:240] = True
regions = [inlay.Region(left, "cat"), inlay.Region(right, "pumpkin")]

editor = inlay.Editor.from_pretrained(model)
guidance = Chain((Zest(), PaintWithWords()))
result = editor.generate("a cat and a pumpkin on grass", regions=regions, guidance=guidance, steps=int(steps))

result.best.save("generated.png", overwrite=True)
print("generated.png")
