"""Several processes that train one model: each takes every n-th sample of a batch, and gradients are averaged.

On a CPU two processes of one thread each are faster than one process of two threads, whose threads wait for each other
in every operation.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn


def gather(folder: Path, workers: int, rank: int) -> list[subprocess.Popen[bytes]]:
    """Meets the other workers; the first of them starts the others with this program's own arguments."""
    if workers == 1:
        return []
    meeting = folder.resolve() / "meeting"
    started = []
    if rank == 0:
        meeting.unlink(missing_ok=True)
        for other in range(1, workers):
            command = [sys.executable, "-m", "inlay.toybox.workshop.train", *sys.argv[1:], "--rank", str(other)]
            started.append(subprocess.Popen(command))
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    return started


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Until every worker is here."""
    if dist.is_initialized():
        dist.barrier()


def share(batch: int) -> slice:
    """Which samples of a batch are this worker's."""
    return slice(rank(), batch, size())


@torch.no_grad()
def average(model: nn.Module, numbers: Tensor) -> Tensor:
    """Averages the gradients, and `numbers` with them, over all workers."""
    if not dist.is_initialized():
        return numbers
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), numbers])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    *parts, numbers = flat.split([*(gradient.numel() for gradient in gradients), len(numbers)])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return numbers
