"""On a GPU: half precision guides as single precision does, and a guided run fits into the memory of small cards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from inlay.benchmarks import guidance as costs
from inlay.diffusion.denoiser import Denoiser, gaussian, generators
from inlay.diffusion.loop import denoise
from inlay.diffusion.model import Model
from inlay.diffusion.schedule import Schedule
from inlay.guidance.base import Guidance, Run
from inlay.guidance.masked_attention import MaskedAttention
from inlay.guidance.regions import Region, bind
from inlay.guidance.zest import Zest
from inlay.tests import tiny
from torch import Tensor

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

PROMPT, SIZE = "a red apple and a cup", (16, 16)


def sampled(model: Model, method: Guidance) -> Tensor:
    """Latents after five steps."""
    sources, schedule = generators((1,)), Schedule("ddim", model.scheduler_config, 5)
    mask = torch.zeros(64, 64)
    mask[:, :32] = 1
    places = bind([Region(mask, "red apple")], model.prompts, PROMPT)
    session = method.begin(Run(model, schedule, (PROMPT,), (places,), SIZE, sources))
    negative = model.prompts.encode([""], negative=True)
    denoiser = Denoiser(model, schedule, model.prompts.encode([PROMPT]), negative, 7.5, sources)
    like = torch.empty(0, device=model.device, dtype=model.working_dtype)
    latents = schedule.begin(gaussian((model.latent_channels, *SIZE), sources, like))
    return denoise(latents, schedule.steps, denoiser, session).cpu()


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("method", [Guidance(), MaskedAttention(alpha=0.02), Zest(fraction=0.4)])
def test_half_precision_equals_single_precision(kind: str, method: Guidance, tmp_path: Path) -> None:
    """On the GPU in fp16 and in fp32, and in fp32 on the CPU."""
    model = Model.assemble(kind, tiny.parts(kind, tmp_path))
    reference = sampled(model, method)
    model.to(device=torch.device("cuda"))
    torch.testing.assert_close(sampled(model, method), reference, rtol=0, atol=1e-2)
    model.to(dtype=torch.float16)
    half = sampled(model, method)
    assert bool(half.isfinite().all())
    assert float((half - reference).square().mean().sqrt()) < 0.05 * float(reference.std())


def test_masked_attention_at_512_needs_less_than_8_gb() -> None:
    """Weights, text encoder and autoencoder included; the autoencoder decodes what was made."""
    model = costs.build("sd15", "cuda", torch.float16)
    torch.cuda.reset_peak_memory_stats()
    latents = costs.prepare(model, MaskedAttention(), 4)()
    with torch.no_grad():
        model.decode(latents)
    assert torch.cuda.max_memory_allocated() < 8 * 2**30
