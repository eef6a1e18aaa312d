"""Contact sheets: pictures in a grid, each with its caption on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

LABEL = 14


def write_sheet(
    file: Path, images: Float[Tensor, "n 3 h w"], captions: Sequence[str], columns: int = 8, side: int = 160
) -> None:
    """Writes the pictures, in [0, 1], as one PNG."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + LABEL + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = index % columns * (side + 4), index // columns * (side + LABEL + 4)
        pixels = (image.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side)), (left, top + LABEL))
        draw.text((left + 2, top + 1), caption[:28], fill="black")
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file)
