"""The twelve jobs, as a shell would state them, and how their pictures are read back and compared."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import Image


@dataclass(frozen=True)
class Job:
    """One run of `inlay` and what is known of its pictures without looking.

    `arguments` lacks model, steps and output; the files in it are those of `inputs`. `output` names the file, `form` is
    the format and mode that it comes in, and `kind` the tiny model that runs the job.
    """

    name: str
    arguments: str
    output: str
    form: tuple[str, str]
    images: int = 1
    kind: str = "sd1"

    def command(self, model: str, steps: int, folder: Path) -> list[str]:
        """The arguments in full, for a model and the folder that outputs go to."""
        run = ["--model", model, "--steps", str(steps), "--device", "cpu", "--dtype", "float32"]
        return [*shlex.split(self.arguments), *run, "--output", str(folder / self.output)]

    def outputs(self, folder: Path) -> list[Path]:
        path = folder / self.output
        if self.images == 1:
            return [path]
        return [path.with_stem(f"{path.stem}-{index + 1}") for index in range(self.images)]


JOBS = (
    Job(
        "plain",
        "edit turned.jpg --mask disc.png --mask-grow 2 --strength 0.8 --prompt 'a red apple'",
        "plain.jpg",
        ("JPEG", "RGB"),
    ),
    Job(
        "masked-attention",
        "edit clear.png --mask soft.png --mask-read opacity --feather 3 --prompt 'a red apple on grass' "
        "--words apple --method masked-attention:alpha=0.5:fraction=0.8",
        "masked-attention.png",
        ("PNG", "RGBA"),
    ),
    Job(
        "attention-swapping",
        "edit wide.png --mask start.png --mask end.png --words apple --words cat --split --context 0.2 "
        "--prompt 'an apple and a cat' --method attention-swapping:fraction=0.6",
        "attention-swapping.webp",
        ("WEBP", "RGB"),
    ),
    Job(
        "zest",
        "edit deep.tif --mask ring.png --mask-fill-holes --prompt 'a photo of a dog' --words dog --method zest",
        "zest.tif",
        ("TIFF", "RGB;16"),
    ),
    Job(
        "paint-with-words",
        "edit ink.tif --mask right.png --composite poisson --prompt 'a cat and a tree' --words cat "
        "--method paint-with-words:strength=1.5 --seed 3",
        "paint-with-words.tif",
        ("TIFF", "CMYK"),
    ),
    Job(
        "inverted",
        "edit grey.png --mask disc.png --mask-invert --invert --source-prompt 'a cup' --strength 0.8 "
        "--prompt 'a red banana'",
        "inverted.png",
        ("PNG", "RGB"),
    ),
    Job(
        "shrunk",
        "edit photo.png --mask line.png --shrink --num-images 2 --seed 5 --scheduler euler "
        "--negative-prompt 'a cup' --guidance-scale 3 --match-colour --prompt 'a banana'",
        "shrunk.png",
        ("PNG", "RGB"),
        images=2,
    ),
    Job(
        "edit-layout",
        "edit photo.png --layout layout.json --method zest+paint-with-words",
        "edit-layout.webp",
        ("WEBP", "RGB"),
    ),
    Job(
        "multidiffusion",
        "generate --layout strokes.json --method multidiffusion:bootstrap=0.4 --seed 2",
        "multidiffusion.png",
        ("PNG", "RGB"),
    ),
    Job(
        "directed-diffusion",
        "generate --layout colours.png --colour #ff0000=apple --colour blue=cat --prompt 'an apple and a cat' "
        "--method directed-diffusion:fraction=0.5 --scheduler dpm++2m",
        "directed-diffusion.tif",
        ("TIFF", "RGB"),
    ),
    Job(
        "several",
        "generate --layout layout.json --method zest+paint-with-words --num-images 2 --size 72x48",
        "several.png",
        ("PNG", "RGB"),
        images=2,
        kind="sdxl",
    ),
    Job(
        "segmenter",
        "edit photo.png --mask disc.png --prompt 'a red apple' --words apple --method segmenter",
        "segmenter.png",
        ("PNG", "RGB"),
    ),
)


def decoded(path: Path) -> tuple[tuple[str, str], Shaped[np.ndarray, "h w ..."]]:
    """(format, mode) and the samples of a file, by readers that are not inlay's."""
    with Image.open(path) as image:
        form, samples = (image.format or "", image.mode), np.asarray(image)
    if form[0] == "TIFF" and form[1] == "RGB":
        import tifffile  # Pillow halves 16 bits a colour sample

        samples = tifffile.imread(path)
    return (form[0], form[1] + (";16" if samples.dtype == np.uint16 else "")), samples


def difference(made: Shaped[np.ndarray, "h w ..."], expected: Shaped[np.ndarray, "h w ..."]) -> tuple[float, float]:
    """The largest difference in grey levels of 255, and the share of the values that differ at all."""
    apart = np.abs(made.astype(int) - expected) / (257 if expected.dtype == np.uint16 else 1)
    return float(apart.max()), float((apart > 0).mean())


def alike(made: Shaped[np.ndarray, "h w ..."], expected: Shaped[np.ndarray, "h w ..."], job: Job) -> bool:
    """Equal, or within one grey level in at most 0.1 % of the values.

    A JPEG spreads what differs by one level over a block and all channels: 3 levels and 1 % there. An inversion
    amplifies what another kind of processor rounds otherwise (.2 to .4 % on an EPYC, recorded on a Xeon): 1 % there.
    """
    if (made.shape, made.dtype) != (expected.shape, expected.dtype):
        return False
    largest, share = difference(made, expected)
    if job.form[0] == "JPEG":
        return largest <= 3 and share <= 0.01
    return largest <= 1 and share <= (0.01 if "--invert" in job.arguments.split() else 0.001)
