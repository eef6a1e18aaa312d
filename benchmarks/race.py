"""inlay against diffusers' own pipelines as a person writes them: start, plain pictures, edits; in turn, in one run.

    python benchmarks/race.py                                  start and toybox, and the shape of Stable Diffusion 1.5
    python benchmarks/race.py --device cuda --shapes toybox sd15 sdxl          SDXL has three UNets at once: 40 GB
    python benchmarks/race.py --shapes sd15 --races plain inpainting --rounds 5 --json race.json

Weights are toybox's own, else random in the shapes of Stable Diffusion 1.5 and SDXL. A pipeline runs as its
`from_pretrained` gives it: fp32 on the CPU, fp16 where a GPU is asked for; inlay runs as `auto` decides. Both sample by
DDIM with the same steps, prompts and guidance scale. Seconds are medians over the rounds, ratios inlay / diffusers are
medians of each round's. On a machine that does other things, too, look at the seconds of the CPU.

On two cores of an AMD EPYC with AVX-512's bfloat16 and nothing beside it, seconds of the clock, inlay's, diffusers' and
their ratio: with `--shapes toybox --rounds 3` import 6.89, 6.77, 1.05; cold start of an edit 7.51, 7.92, .98; toybox,
plain, 1.83, 1.77, 1.05; blended edit 2.22, 2.14, 1.04; 24 megapixels and its window alone 3.06, 2.75, 1.13. With
`--shapes sd15 --rounds 1`, four steps, plain 31.0, 58.4, .53; nine channels 34.2, 69.4, .49: a forward takes 7.6 in
bfloat16 and 11.3 in float32, as attention gains nothing by it there, the decoder 7.2 and 16.5. More steps weigh the
forwards more.

Fresh memory can cost a virtual machine .2 s for a photo of 24 megapixels; that race then has up to 1.2.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from inlay.benchmarks.guidance import PROMPT, build, materialised
from inlay.diffusion.model import Model
from inlay.editing.editor import Editor
from inlay.photos.photo import Photo
from inlay.weights.catalogue import EMBEDDED
from inlay.weights.device import pick_device, pick_dtype
from PIL import Image

STEPS = {"toybox": 25, "sd15": 4, "sdxl": 2}
"""Few where a forward takes seconds; what does not depend on their number is then a larger part than in earnest."""

IMPORTS = {
    "inlay": "import inlay; inlay.Editor; inlay.Photo; from diffusers import AutoencoderKL, UNet2DConditionModel, "
    "DDIMScheduler; from transformers import CLIPTextModel, CLIPTokenizer",
    "diffusers": "from diffusers import StableDiffusionImg2ImgPipeline, DDIMScheduler; from PIL import Image",
}

SCRIPT = """
import sys
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image

weights, photo, mask, output = sys.argv[1:]
pipe = StableDiffusionImg2ImgPipeline.from_pretrained(weights)
pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
photo, mask = Image.open(photo), Image.open(mask)
made = pipe("an apple on grass", image=photo, strength=1.0, num_inference_steps=10).images[0]
Image.composite(made, photo, mask).save(output)
"""
"""What a person writes to change a place in a photo with toybox, whose eight channels no inpainting pipeline takes."""


@dataclass(frozen=True)
class Time:
    """Seconds of the clock, and of all CPUs."""

    wall: float
    cpu: float


def timed(work: Callable[[], Any], device: torch.device) -> Time:
    """One run, its children's time included."""
    wall, cpu = time.perf_counter(), spent()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Time(time.perf_counter() - wall, spent() - cpu)


def spent() -> float:
    """CPU seconds of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


Race = tuple[Callable[[], Any], Callable[[], Any]]
"""inlay's work, and diffusers'."""


def starts(folder: Path, device: str) -> Iterator[tuple[str, Race]]:
    """Fresh processes: the imports alone, and an edit from the command line."""

    def run(*arguments: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    yield "import", (run("-c", IMPORTS["inlay"]), run("-c", IMPORTS["diffusers"]))
    photo, mask = pictures(folder, (256, 256))
    command = "from inlay.cli import main; main()"
    options = ["--mask", mask, "-p", "an apple on grass", "--steps", "10", "--device", device, "--overwrite"]
    script = folder / "edit.py"
    script.write_text(SCRIPT)
    yield (
        "cold start of an edit",
        (
            run("-c", command, "edit", photo, *options, "-o", str(folder / "inlay.png")),
            run(str(script), str(EMBEDDED["toybox"]), photo, mask, str(folder / "diffusers.png")),
        ),
    )


def pictures(folder: Path, size: tuple[int, int]) -> tuple[str, str]:
    """Files of a photo of (height, width) and of a mask in its middle."""
    photo, mask = scene(size)
    paths = str(folder / "photo.png"), str(folder / "mask.png")
    for array, path in zip((photo, mask.astype(np.uint8) * 255), paths, strict=True):
        Image.fromarray(array).save(path)
    return paths


def scene(size: tuple[int, int], place: float = 0.5) -> tuple[Any, Any]:
    """A photo of (height, width), and a square mask in its middle with `place` of its shorter side."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    photo = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=-1).astype(np.uint8)
    mask, side = np.zeros(size, bool), int(place * min(size))
    mask[(height - side) // 2 :, (width - side) // 2 :][:side, :side] = True
    return photo, mask


@dataclass(frozen=True)
class Entrants:
    """One set of weights, with inlay and with diffusers."""

    shape: str
    editor: Editor
    stock: Model
    """Whose modules the pipelines take."""

    @classmethod
    def of(cls, shape: str, device: torch.device) -> Entrants:
        if shape == "toybox":
            kind = "float16" if device.type == "cuda" else "float32"
            stock = Model.from_pretrained("toybox", device=str(device), dtype=kind)
        else:
            stock = build(shape, str(device), torch.float16 if device.type == "cuda" else torch.float32)
        return cls(shape, Editor(auto(stock, stock.unet)), stock)

    def pipeline(self, cls: Any, unet: Any = None) -> Any:
        """A pipeline of diffusers over the same weights."""
        stock = self.stock
        names = ["", "_2"][: len(stock.prompts.encoders)]
        words = {f"tokenizer{name}": own for name, own in zip(names, stock.prompts.tokenizers, strict=True)}
        texts = {f"text_encoder{name}": own for name, own in zip(names, stock.prompts.encoders, strict=True)}
        alone = {} if len(names) > 1 else {"safety_checker": None, "feature_extractor": None}
        alone |= {} if len(names) > 1 else {"requires_safety_checker": False}
        scheduler = diffusers.DDIMScheduler.from_config(stock.scheduler_config)
        pipe = cls(unet=unet or plain_unet(stock.unet), vae=stock.vae, scheduler=scheduler, **words, **texts, **alone)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def races(self) -> Iterator[tuple[str, Race]]:
        steps, size = STEPS[self.shape], self.stock.native_size
        large = "XL" if len(self.stock.prompts.encoders) > 1 else ""
        given: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": 7.5}
        asked: dict[str, Any] = {"steps": steps, "guidance_scale": 7.5}
        pipe = self.pipeline(getattr(diffusers, f"StableDiffusion{large}Pipeline"))
        yield "plain", (lambda: self.editor.generate(PROMPT, **asked), lambda: pipe(PROMPT, **given))
        photo, mask = scene(size)
        shown, hidden = Image.fromarray(photo), Image.fromarray(mask.astype(np.uint8) * 255)
        toybox = self.shape == "toybox"
        editing = getattr(diffusers, f"StableDiffusion{large}{'Img2Img' if toybox else 'Inpaint'}Pipeline")
        given |= {"image": shown, "strength": 1.0} | ({} if toybox else {"mask_image": hidden})
        pipe = self.pipeline(editing, pipe.unet)
        yield "blended edit", (lambda: self.editor.edit(photo, mask, PROMPT, **asked), lambda: pipe(PROMPT, **given))
        if toybox:
            return
        del pipe
        config = {**self.stock.unet.config, "in_channels": 2 * self.stock.latent_channels + 1}
        with torch.device("meta"):
            unet = diffusers.UNet2DConditionModel.from_config(config)
        unet = materialised(unet.to(self.stock.dtype), self.stock.device)
        editor, nine = replace(self.editor, model=auto(self.stock, unet)), self.pipeline(editing, unet)
        yield "inpainting", (lambda: editor.edit(photo, mask, PROMPT, **asked), lambda: nine(PROMPT, **given))


def auto(stock: Model, unet: Any) -> Model:
    """A model over copies of a UNet and its autoencoder in the precision that `auto` loads them in."""
    kind = pick_dtype("auto", stock.device, 4 * sum(weight.numel() for weight in unet.parameters()))
    own, vae = (torch.nn.Module.to(copy, dtype=kind) for copy in (plain_unet(unet), deepcopy(stock.vae)))
    prompts, config = stock.prompts, stock.scheduler_config
    parts = {"unet": own, "vae": vae, "tokenizers": prompts.tokenizers, "encoders": prompts.encoders}
    return Model.assemble(stock.name, {**parts, "scheduler_config": config}, device=stock.device)


def plain_unet(unet: Any) -> Any:
    """A copy of a UNet with diffusers' own attention."""
    copy = deepcopy(unet)
    copy.set_attn_processor(AttnProcessor2_0())
    return copy


def large_photo(folder: Path, editor: Editor, steps: int) -> Race:
    """An edit of a small place in 24 megapixels, from disk to disk; and of that window alone, with the reading and
    writing of the large photo."""
    pixels, mask = scene((4000, 6000), 0.05)
    whole, small = folder / "large.png", folder / "small.png"
    Image.fromarray(pixels).save(whole)
    left, top, right, bottom = editor.edit(pixels, mask, PROMPT, steps=1).settings[0].facts.crops[0]
    Image.fromarray(pixels[top:bottom, left:right]).save(small)
    place = mask[top:bottom, left:right]

    def edited(path: Path, mask: Any) -> None:
        photo = Photo.open(path)
        editor.edit(photo, mask, PROMPT, steps=steps).best.save(folder / "edited.png", overwrite=True)

    def apart() -> None:
        Photo.open(whole).save(folder / "copied.png", overwrite=True)
        edited(small, place)

    return lambda: edited(whole, mask), apart


def run(name: str, race: Race, rounds: int, device: torch.device, warm: bool = True) -> dict[str, Any]:
    """Both in turn, `rounds` times, and what came of it as a line of the table."""
    if warm:
        for work in race:
            work()
    times = [tuple(timed(work, device) for work in race) for _ in range(rounds)]
    found: dict[str, Any] = {"race": name}
    for clock in ("wall", "cpu"):
        ours, theirs = ([getattr(pair[side], clock) for pair in times] for side in (0, 1))
        found[clock] = [statistics.median(ours), statistics.median(theirs)]
        found[f"{clock}_ratio"] = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    wall, cpu = (f"{found[c][0]:9.2f}{found[c][1]:10.2f}{found[f'{c}_ratio']:8.3f}" for c in ("wall", "cpu"))
    print(f"{name:32}{wall}{cpu}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shapes", nargs="*", default=["toybox", "sd15"], choices=STEPS)
    parser.add_argument("--races", nargs="+", help="parts of names [all]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-start", dest="start", action="store_false", help="leave out fresh processes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    device, found = pick_device(asked.device), list[dict[str, Any]]()
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}; torch {torch.__version__}, diffusers {diffusers.__version__}")
    print(f"{'':32}{'seconds':>9}{'diffusers':>10}{'ratio':>8}{'CPU s':>9}{'diffusers':>10}{'ratio':>8}")

    def enter(name: str, race: Race, warm: bool = True) -> None:
        if not asked.races or any(part in name for part in asked.races):
            found.append(run(name, race, asked.rounds, device, warm))
            gc.collect()

    with tempfile.TemporaryDirectory() as folder:
        if asked.start:
            for name, race in starts(Path(folder), asked.device):
                enter(name, race)
        for shape in asked.shapes:
            entrants = Entrants.of(shape, device)
            for name, race in entrants.races():
                enter(f"{shape}, {name}, {STEPS[shape]} steps", race)
            enter(f"{shape}, 24 megapixels / its window", large_photo(Path(folder), entrants.editor, STEPS[shape]))
            del entrants, race
    if asked.json:
        about = {"where": where, "torch": torch.__version__, "diffusers": diffusers.__version__}
        asked.json.write_text(json.dumps({**about, "rounds": asked.rounds, "races": found}, indent=1))


if __name__ == "__main__":
    main()
