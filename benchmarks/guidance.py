"""What every guidance method costs beside plain sampling.

    python benchmarks/guidance.py                    FLOPs of all shapes on the meta device; time and memory of toybox
    python benchmarks/guidance.py --device cuda      the same, and time and memory of the full-size shapes in fp16
    python benchmarks/guidance.py --shapes sd15 --methods masked-attention zest --json costs.json
    python benchmarks/guidance.py --shapes sd15 --measure sd15 --steps 4    on the CPU, too: half an hour on two cores

Weights are random in the shapes of toybox, Stable Diffusion 1.5 and SDXL. FLOPs and the counted peak are of the real
loop on the meta device; the peak is of weights in half precision with unfused attention, an upper bound of what tensors
take on a GPU.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from inlay.benchmarks.counting import Count, count_run
from inlay.diffusion.denoiser import Denoiser, gaussian, generators
from inlay.diffusion.loop import denoise
from inlay.diffusion.model import Model
from inlay.diffusion.schedule import Schedule
from inlay.guidance.attention_pictures import RecordAttention
from inlay.guidance.attention_swapping import AttentionSwapping
from inlay.guidance.base import Chain, Guidance, Run
from inlay.guidance.directed_diffusion import DirectedDiffusion
from inlay.guidance.masked_attention import MaskedAttention
from inlay.guidance.multidiffusion import MultiDiffusion
from inlay.guidance.paint_with_words import PaintWithWords
from inlay.guidance.regions import Region, bind
from inlay.guidance.removal import Removal
from inlay.guidance.segmenter import SegmenterGuidance
from inlay.guidance.zest import Zest
from inlay.tests.tiny import SCHEDULER, tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

PROMPT, NEGATIVE = "a red apple and a big cup on grass", ""
WORDS = ("red apple", "cup")

NETWORK = torch.nn.Conv2d(3, 2, 3)
"""A segmenter that costs nothing itself: what remains is the way through UNet and decoder. Used in copies, since it
moves to the model's device."""

METHODS: dict[str, Guidance] = {
    "plain": Guidance(),
    "masked-attention": MaskedAttention(),
    "masked-attention, inner layers": MaskedAttention(layers=(1, 2)),
    "masked-attention, every other step": MaskedAttention(every=2),
    "masked-attention in one forward": MaskedAttention(order="one-forward"),
    "masked-attention in one forward, inner layers": MaskedAttention(order="one-forward", layers=(1, 2)),
    "zest": Zest(),
    "attention-swapping": AttentionSwapping(),
    "paint-with-words": PaintWithWords(),
    "directed-diffusion": DirectedDiffusion(),
    "zest + paint-with-words": Chain((Zest(), PaintWithWords())),
    "masked-attention + attention-swapping": Chain((MaskedAttention(), AttentionSwapping())),
    "multidiffusion": MultiDiffusion(),
    "segmenter": SegmenterGuidance(NETWORK, {word: index for index, word in enumerate(WORDS)}),
    "removal": Removal(),
    "plain, attention recorded": RecordAttention(WORDS, lambda attention: None),
}


@dataclass(frozen=True)
class Shape:
    """A model without its weights."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    tokens: int
    text: tuple[int, ...]
    """Widths of the text encoders."""


SHAPES = {
    "toybox": Shape(
        {
            "sample_size": 32,
            "in_channels": 8,
            "out_channels": 8,
            "block_out_channels": (64, 96, 128),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D",) * 3,
            "only_cross_attention": (True, False, False),
            "layers_per_block": (1, 2, 3),
            "norm_num_groups": 16,
            "cross_attention_dim": 128,
            "attention_head_dim": 4,
        },
        {"block_out_channels": (16, 32, 48, 64), "layers_per_block": 1, "latent_channels": 8, "norm_num_groups": 8},
        20,
        (128,),
    ),
    "sd15": Shape(
        {
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512},
        77,
        (768,),
    ),
    "sdxl": Shape(
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1280 + 6 * 256,
        },
        {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 1024},
        77,
        (768, 1280),
    ),
}


def build(name: str, device: str, dtype: torch.dtype) -> Model:
    """A random model; its text encoders have one layer, since they run once and outside the loop."""
    shape = SHAPES[name]
    levels = len(shape.vae["block_out_channels"])
    with tempfile.TemporaryDirectory() as folder:
        words = tokenizer(Path(folder), shape.tokens)
    torch.manual_seed(0)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shape.unet)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            **shape.vae,
        )
    with torch.device(device):
        encoders = [
            (CLIPTextModelWithProjection if number else CLIPTextModel)(
                CLIPTextConfig(
                    vocab_size=len(words),
                    hidden_size=width,
                    intermediate_size=width,
                    num_hidden_layers=1,
                    num_attention_heads=4,
                    max_position_embeddings=shape.tokens,
                    projection_dim=width,
                    bos_token_id=words.bos_token_id,
                    eos_token_id=words.eos_token_id,
                    pad_token_id=words.pad_token_id,
                )
            )
            for number, width in enumerate(shape.text)
        ]
    parts = {
        "unet": materialised(unet.to(dtype), torch.device(device)),
        "vae": materialised(vae.to(dtype), torch.device(device)),
        "tokenizers": [words] * len(encoders),
        "encoders": [encoder.to(dtype) for encoder in encoders],
        "scheduler_config": SCHEDULER,
    }
    return Model.assemble(name, parts, device=torch.device(device))


@torch.no_grad()
def materialised(module: Any, device: torch.device) -> Any:
    """A module of the meta device with random weights, repeated from few, since drawing them all takes minutes."""
    if device.type == "meta":
        return module
    module.to_empty(device=device)
    drawn = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).to(device, module.dtype)
    for name, weight in module.named_parameters():
        if weight.ndim == 1:
            weight.fill_(float(name.endswith("weight")))
            continue
        scaled = drawn / weight[0].numel() ** 0.5
        for part in weight.view(-1).split(len(drawn)):
            part.copy_(scaled[: len(part)])
    return module


@torch.no_grad()
def prepare(
    model: Model, method: Guidance, steps: int, metered: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser
) -> Callable[[], torch.Tensor]:
    """One image, ready to be sampled at the model's own size with two regions; the paper's settings else."""
    size = model.latent_size(model.native_size)
    masks = torch.zeros(2, *model.native_size)
    masks[0, :, : masks.shape[2] // 3] = 1
    masks[1, masks.shape[1] // 2 :, masks.shape[2] // 2 :] = 1
    regions = [Region(mask, words) for mask, words in zip(masks, WORDS, strict=True)]
    sources, schedule = generators((0,)), Schedule("ddim", model.scheduler_config, steps)
    positive = model.prompts.encode([PROMPT])
    denoiser = Denoiser(model, schedule, positive, model.prompts.encode([NEGATIVE], negative=True), 7.5, sources)
    places = bind(regions, model.prompts, PROMPT)
    session = deepcopy(method).begin(Run(model, schedule, (PROMPT,), (places,), size, sources))
    like = torch.empty(0, device=model.device, dtype=model.working_dtype)
    latents = schedule.begin(gaussian((model.latent_channels, *size), sources, like))
    return lambda: denoise(latents, schedule.steps, metered(denoiser), session)


def count(model: Model, method: Guidance, steps: int) -> Count:
    """What one image of `steps` steps costs in the loop; `model` is on the meta device."""
    return count_run(model, lambda metered: prepare(model, method, steps, metered))


@dataclass(frozen=True)
class Measure:
    """Seconds per image, and the most bytes in use, with and above the weights."""

    seconds: float
    used: int
    above: int


def measure(model: Model, method: Guidance, steps: int) -> Measure:
    """One image of `steps` steps, after two steps of warming up."""
    prepare(model, method, 2)()
    run = prepare(model, method, steps)
    cuda = model.device.type == "cuda"
    held = restart_peak(cuda)
    started = time.perf_counter()
    run()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    used = torch.cuda.max_memory_allocated() if cuda else status("VmHWM")
    return Measure(seconds, used, used - held)


def restart_peak(cuda: bool) -> int:
    """Begin a new peak; returns the bytes held now."""
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    """Bytes that Linux knows of this process."""
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def table(shape: str, counts: dict[str, Count], measures: dict[str, Measure], where: str) -> str:
    """One line per method, with ratios to plain sampling in brackets."""
    lines = [f"{shape}: per image; in brackets the ratio to plain sampling; time and memory: {where or 'not measured'}"]
    lines.append(
        f"{'method':40}{'forwards':>10}{'backwards':>11}{'TFLOP':>18}{'counted peak MiB':>18}{'seconds':>18}"
        f"{'used MiB (above weights)':>32}"
    )
    for name, cost in counts.items():
        line = f"{name:40}{cost.forwards:10}{cost.backwards:11}"
        line += f"{cost.flops / 1e12:10.2f} ({cost.flops / counts['plain'].flops:.3f}){cost.peak / 2**20:18.0f}"
        if name in measures:
            took, base = measures[name], measures["plain"]
            line += f"{took.seconds:10.2f} ({took.seconds / base.seconds:.3f})"
            line += f"{took.used / 2**20:12.0f} ({took.used / base.used:.3f}) {took.above / 2**20:8.0f}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--measure", nargs="+", choices=SHAPES, help="shapes to run, too [toybox; with CUDA all]")
    asked = parser.parse_args()
    measured = asked.measure or (list(SHAPES) if asked.device == "cuda" else ["toybox"])
    names = list(dict.fromkeys(["plain", *asked.methods]))
    written: dict[str, Any] = {"device": asked.device, "steps": asked.steps, "torch": torch.__version__, "shapes": {}}
    where = torch.cuda.get_device_name() + ", fp16" if asked.device == "cuda" else "one image on the CPU, fp32"
    for shape in asked.shapes:
        meta = build(shape, "meta", torch.bfloat16)
        counts = {name: count(meta, METHODS[name], asked.steps) for name in names}
        measures: dict[str, Measure] = {}
        if shape in measured:
            model = build(shape, asked.device, torch.float16 if asked.device == "cuda" else torch.float32)
            measures = {name: measure(model, METHODS[name], asked.steps) for name in names}
            del model
        print(table(shape, counts, measures, where if measures else ""), end="\n\n", flush=True)
        written["shapes"][shape] = {
            name: asdict(counts[name]) | (asdict(measures[name]) if name in measures else {}) for name in names
        }
    if asked.json:
        asked.json.write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
