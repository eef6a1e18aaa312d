"""Write the photos that the other examples edit, from scikit-image, and two layouts into the working folder."""

import shutil
from pathlib import Path

import inlay
import skimage.data

for name in ("coffee", "chelsea", "astronaut", "rocket"):
    if not Path(f"{name}.png").exists():
        inlay.Photo.from_image(getattr(skimage.data, name)()).save(f"{name}.png")
for layout in ("layout.json", "layout.png"):
    shutil.copy(Path(__file__).with_name(layout), layout)
