"""Write the photos that the other examples edit, from scikit-image, into the working folder."""

from pathlib import Path

import inlay
import skimage.data

for name in ("coffee", "chelsea", "astronaut", "rocket"):
    if not Path(f"{name}.png").exists():
        inlay.Photo.from_image(getattr(skimage.data, name)()).save(f"{name}.png")
