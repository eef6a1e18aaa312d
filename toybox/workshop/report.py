"""What the shipped toybox can do, measured afresh: `python -m inlay.toybox.workshop.report --out DIR`.

Pictures are made with stock diffusers; scenes come from `toybox/benchmark`, so neither npm nor a network is needed.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Bool, Float, Int
from PIL import Image
from scipy import ndimage
from torch import Tensor
from transformers import CLIPTokenizer

from ...evaluation.datasets import open_dataset
from ...evaluation.features import frechet_distance, load_features
from ...weights.catalogue import EMBEDDED
from ..segmenter import Segmenter, load_segmenter
from ..vocabulary import shipped
from .autoencoder import FACTOR, reconstruction
from .captions import Caption
from .denoising import LEVELS, attention_auc
from .networks import Painter
from .photos import photo_bank, to_unit
from .pool import MENTIONS, tokenize
from .sheets import write_sheet
from .tokens import LENGTH

STEPS = 25
FOUND = 0.02
"""Share of the picture that a class must cover to count as found."""
PATCH = 0.01
"""A connected patch of a class on less of the picture than this is the judge's slip and no thing.

With it the judge counts every true scene of one thing right, and 95 % of all the benchmark's.
"""


@dataclass(frozen=True)
class Exam:
    """The benchmark in tensors: `classes` are the segmenters' (0 is the ground), objects are (class, mask)."""

    images: Float[Tensor, "n 3 h w"]
    classes: Int[Tensor, "n h w"]
    captions: tuple[str, ...]
    objects: tuple[tuple[tuple[int, Bool[Tensor, "h w"]], ...], ...]


def read_exam() -> Exam:
    pictures = open_dataset("toybox").pictures
    names = {name: index + 1 for index, name in enumerate(shipped()["nouns"])}
    pixels = [np.asarray(Image.open(picture.file)) for picture in pictures]
    images = to_unit(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    objects = tuple(
        tuple((names[segment.category], torch.from_numpy(segment.mask)) for segment in picture.instances)
        for picture in pictures
    )
    classes = torch.stack([sum((mask * number for number, mask in row), torch.zeros(())) for row in objects]).long()
    return Exam(images, classes, tuple(picture.captions[0] for picture in pictures), objects)


def pictures_of(pipeline: Any, prompts: list[str], first_seed: int, scale: float) -> Float[Tensor, "n 3 h w"]:
    """One picture per prompt, of seeds from `first_seed` on."""
    made = []
    for start in range(0, len(prompts), 10):
        part = prompts[start : start + 10]
        seeds = [torch.Generator().manual_seed(first_seed + start + index) for index in range(len(part))]
        images = pipeline(
            part, num_inference_steps=STEPS, guidance_scale=scale, generator=seeds, output_type="np"
        ).images
        made.append(torch.from_numpy(images).permute(0, 3, 1, 2))
    return torch.cat(made).float()


def prompts_of(objects: int, count: int) -> tuple[list[str], list[list[int]]]:
    """Prompts of one or two nouns, each noun as often as the others, with the classes that they ask for."""
    random, world = Random(objects), shipped()
    nouns, grounds = list(world["nouns"]), [phrases[0] for phrases in world["grounds"].values()]
    prompts, classes = [], []
    for index in range(count):
        first = index % len(nouns)
        chosen = [first, random.choice([k for k in range(len(nouns)) if k != first])][:objects]
        things = " and ".join(phrase(nouns[k]) for k in chosen)
        prompts.append(f"{things} {random.choice(grounds)}")
        classes.append([k + 1 for k in chosen])
    return prompts, classes


def phrase(noun: str) -> str:
    """A noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@torch.no_grad()
def labelled(segmenter: Segmenter, images: Float[Tensor, "n 3 h w"]) -> Int[Tensor, "n s s"]:
    """Labels of the pictures at the size that segmenters know."""
    size = shipped()["size"]
    return torch.cat([segmenter(resized(part, size)).argmax(1) for part in images.split(16)])


def resized(images: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    return torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)


def found_share(labels: Int[Tensor, "n s s"], classes: Sequence[Sequence[int]]) -> float:
    """The share of pictures that show all their classes."""
    shown = [
        all(float((label == k).float().mean()) >= FOUND for k in row)
        for label, row in zip(labels, classes, strict=True)
    ]
    return sum(shown) / len(shown)


def exact_share(labels: Int[Tensor, "n s s"], classes: Sequence[Sequence[int]]) -> float:
    """The share of pictures that show exactly the things in `classes`: none missing, none twice, none besides.

    A thing is a connected patch of its class. `classes` names one as often as it should be there.
    """
    right = [things_in(label) == Counter(row) for label, row in zip(labels, classes, strict=True)]
    return sum(right) / len(right)


def things_in(label: Int[Tensor, "s s"]) -> Counter[int]:
    """How many things of each class a label map shows."""
    things: Counter[int] = Counter()
    for number in label.unique().tolist():
        if number:
            patches, _ = ndimage.label((label == number).numpy())
            sizes = np.bincount(patches.ravel())[1:]
            things[number] = int((sizes >= PATCH * patches.size).sum())
    return +things


def frechet_to_scenes(images: Float[Tensor, "n 3 h w"], exam: Exam) -> float:
    """The Fréchet distance of pictures to the benchmark's scenes, by the judge's features at the size it knows."""
    network, size = load_features("judge"), shipped()["size"]

    def features(pictures: Float[Tensor, "n 3 h w"]) -> Float[np.ndarray, "n d"]:
        pixels = (resized(pictures, size).clamp(0, 1).permute(0, 2, 3, 1) * 255).round().byte().numpy()
        return np.stack([network.features(picture) for picture in pixels])

    return frechet_distance(features(exam.images), features(images))


def intersection_over_union(found: Int[Tensor, "n h w"], true: Int[Tensor, "n h w"], classes: int) -> float:
    """Mean over classes, ground included."""
    table = torch.bincount((true * classes + found).flatten(), minlength=classes**2).view(classes, classes)
    union = table.sum(0) + table.sum(1) - table.diag()
    return float((table.diag() / union.clamp(min=1))[table.sum(1) > 0].mean())


def mentions_of(exam: Exam, vae: AutoencoderKL, tokenizer: CLIPTokenizer, side: int) -> dict[str, Tensor]:
    """The benchmark as the UNet's training sees scenes (`pool.encode`), on latents of `side` cells."""
    names = list(shipped()["nouns"])
    count, images = len(exam.images), resized(exam.images, side * FACTOR)
    ids = torch.empty(count, LENGTH, dtype=torch.long)
    words = torch.zeros(count, MENTIONS, LENGTH, dtype=torch.bool)
    masks = torch.zeros(count, MENTIONS, side, side)
    for row, (text, objects) in enumerate(zip(exam.captions, exam.objects, strict=True)):
        spoken = text.replace(",", " ,").split()
        for mention, number in enumerate(sorted({number for number, _ in objects})):
            forms = shipped()["nouns"][names[number - 1]]
            place = next(index for index, word in enumerate(spoken) if word in forms)
            ids[row], [(start, stop)] = tokenize(Caption(tuple(spoken), ((place, ()),)), tokenizer)
            words[row, mention, start:stop] = True
            cover = torch.stack([mask for other, mask in objects if other == number]).any(0).float()
            cover = resized(cover[None, None], side * FACTOR)
            masks[row, mention] = torch.nn.functional.avg_pool2d(cover, FACTOR)[0, 0]
    with torch.no_grad():
        latents = torch.cat([vae.encode(part * 2 - 1).latent_dist.mean for part in images.split(16)])
    return {"latents": latents, "ids": ids, "words": words, "masks": (masks * 255).round().byte()}


def painted(model: str, exam: Exam, judge: Segmenter, count: int, out: Path) -> tuple[float, float]:
    """Region mIoU of plain pictures and of paint-with-words, on scenes with one object."""
    from ...editing.editor import Editor
    from ...guidance.paint_with_words import PaintWithWords
    from ...guidance.regions import Region

    editor = Editor.from_pretrained(model)
    scores: dict[str, list[float]] = {"plain": [], "painted": []}
    shown, labels = [], []
    for row in range(count):
        (number, mask) = exam.objects[row][0]
        forms = shipped()["nouns"][list(shipped()["nouns"])[number - 1]]
        word = next(word for word in re.findall(r"[\w-]+", exam.captions[row]) if word in forms)
        for name, guidance in (("plain", None), ("painted", PaintWithWords())):
            regions = [Region(mask.numpy(), word)] if guidance else []
            result = editor.generate(exam.captions[row], regions=regions, guidance=guidance, steps=STEPS, seed=row)
            image = to_unit(torch.from_numpy(result.images[0].pixels.copy()).permute(2, 0, 1)[None])
            place = labelled(judge, image)[0] == number
            scores[name].append(float((place & mask).sum() / (place | mask).sum()))
            shown.append(image)
            labels.append(f"{name}: {exam.captions[row]}")
    write_sheet(out / "painted.png", torch.cat(shown), labels)
    return sum(scores["plain"]) / count, sum(scores["painted"]) / count


def shares(labels: Int[Tensor, "n s s"], classes: Sequence[Sequence[int]]) -> str:
    found, exact = 100 * found_share(labels, classes), 100 * exact_share(labels, classes)
    return f"all found in {found:.0f} %, exactly as many things as asked for in {exact:.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m inlay.toybox.workshop.report", description=__doc__)
    parser.add_argument("--model", default="toybox", help=f"{', '.join(EMBEDDED)}, or a folder in diffusers layout")
    parser.add_argument("--out", type=Path, required=True, help="folder for the contact sheets")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--painted", type=int, default=30, help="scenes for paint-with-words; 0 for none")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    exam, out = read_exam(), options.out
    weights = EMBEDDED.get(options.model, Path(options.model))
    pipeline = StableDiffusionPipeline.from_pretrained(weights)
    pipeline.set_progress_bar_config(disable=True)
    guide, judge = load_segmenter("guide"), load_segmenter("judge")
    vae, count = pipeline.vae, len(judge.classes)

    side = pipeline.unet.config.sample_size
    print(f"{options.model}: {side * FACTOR} px, {count - 1} nouns")
    print(f"autoencoder, benchmark scenes: PSNR {reconstruction(vae, exam.images):.2f} dB")
    photos = to_unit(photo_bank(shipped()["size"])[:200])
    if len(photos):
        print(
            f"autoencoder, crops of scikit-image's photos (seen in training): PSNR {reconstruction(vae, photos):.2f} dB"
        )
    for name, segmenter in (("guide", guide), ("judge", judge)):
        score = intersection_over_union(labelled(segmenter, exam.images), exam.classes, count)
        print(f"segmenter {name}: mIoU {score:.3f}")

    painter = Painter.from_pretrained(weights)
    batch = mentions_of(exam, vae, pipeline.tokenizer, side)
    levels = pipeline.scheduler.alphas_cumprod
    scores = ", ".join(f"{attention_auc(painter, batch, level, levels):.3f} at {level}" for level in LEVELS)
    print(f"a noun's attention on its own object, by the signal's share of the variance: AUC {scores}")

    true = [[number for number, _ in row] for row in exam.objects]
    print(f"true scenes: {shares(labelled(judge, exam.images), true)}")
    scale = json.loads((weights / "inlay.json").read_text())["guidance_scale"]
    made = []
    for objects, asked in ((1, "one noun"), (2, "two nouns")):
        prompts, classes = prompts_of(objects, options.prompts)
        made.append(pictures_of(pipeline, prompts, 1000 * objects, scale))
        print(f"{len(prompts)} plain pictures of {asked}: {shares(labelled(judge, made[-1]), classes)}")
        write_sheet(out / f"nouns-{objects}.png", made[-1], prompts)
    distance = frechet_to_scenes(torch.cat(made), exam)
    print(f"Fréchet distance of these {2 * options.prompts} to the benchmark's scenes (judge): {distance:.3f}")
    with torch.no_grad():
        shown = exam.images[50:66]
        decoded = vae.decode(vae.encode(shown * 2 - 1).latent_dist.mean).sample / 2 + 0.5
    labels = [*exam.captions[50:66], *["decoded"] * 16]
    write_sheet(out / "autoencoder.png", torch.cat([shown, decoded]), labels, columns=16, side=128)

    if options.painted:
        plain, moved = painted(options.model, exam, judge, options.painted, out)
        print(f"paint-with-words, {options.painted} scenes: region mIoU {moved:.3f}, plain {plain:.3f}")
    begun = time.monotonic()
    pipeline("an apple on grass", num_inference_steps=STEPS)
    print(f"{STEPS} steps with guidance on {options.threads} threads: {time.monotonic() - begun:.2f} s")


if __name__ == "__main__":
    main()
