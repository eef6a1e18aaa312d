"""One training stage: a time-boxed loop with EMA, checkpoints, exact resume, a progress line and a loss curve."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Generator, Tensor, nn

from . import team

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Plan:
    """How a stage trains. It ends after `steps` if given, else after `minutes`."""

    name: str
    learning_rate: float
    minutes: float = 0.0
    steps: int = 0
    warmup: int = 100
    decay: float = 0.3
    """Share of the stage over which the learning rate falls to zero."""
    ema: float = 0.999
    clip: float = 1.0
    checkpoint_minutes: float = 5.0


class Stage(Generic[M]):
    """Trains `model` by `loss(model, generator)`; what `resume` needs is in one file, `<folder>/<name>.pt`."""

    def __init__(self, plan: Plan, model: M, folder: Path) -> None:
        self.plan, self.model, self.folder = plan, model, folder
        device = next(model.parameters()).device
        self.averaged: M = deepcopy(model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.random = Generator().manual_seed(1)
        self.device = device
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.plan.name}.pt"

    @property
    def progress(self) -> float:
        """From 0 to 1, the end."""
        plan = self.plan
        return min(1.0, self.step / plan.steps if plan.steps else self.seconds / (60 * plan.minutes))

    def rate(self) -> float:
        """Warm-up, a plateau, and a straight line to zero."""
        plan = self.plan
        warmup = min(plan.warmup, plan.steps // 5) if plan.steps else plan.warmup
        warm, cool = (self.step + 1) / max(1, warmup), (1 - self.progress) / plan.decay
        return plan.learning_rate * min(1.0, warm, cool)

    def run(
        self,
        loss: Callable[[M, Generator], Tensor],
        watch: Callable[[Stage[M]], str] = lambda stage: "",
        before: Callable[[Stage[M]], None] = lambda stage: None,
    ) -> None:
        """Trains to the end of the plan. `watch` is called at each checkpoint and adds to the progress line."""
        saved, lasted = time.monotonic(), 0.0
        self.model.train()
        while self.progress < 1:
            begun = time.monotonic()
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate()
            before(self)
            value = loss(self.model, self.random)
            value.backward()
            numbers = torch.stack([value.detach(), value.new_tensor(self.seconds + lasted)])
            value, seconds = team.average(self.model, numbers).tolist()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            self._average()
            self.losses.append(value)
            self.seconds, lasted = seconds, time.monotonic() - begun
            if self.step % 20 == 0:
                self._report()
            if time.monotonic() - saved > 60 * self.plan.checkpoint_minutes:
                saved = self._pause(watch)
        self._pause(watch)

    def _pause(self, watch: Callable[[Stage[M]], str]) -> float:
        if team.rank():
            return time.monotonic()
        self.save()
        plot(self.losses, self.folder / f"{self.plan.name}.png")
        said = watch(self)
        if said:
            print(f"\n{self.plan.name} {self.step}: {said}", file=sys.stderr, flush=True)
        self.model.train()
        return time.monotonic()

    @torch.no_grad()
    def _average(self) -> None:
        """EMA with a short warm-up: young averages forget fast."""
        keep = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - keep)

    def _report(self) -> None:
        if team.rank():
            return
        recent = sum(self.losses[-100:]) / len(self.losses[-100:])
        end = "\r" if sys.stderr.isatty() else "\n"
        line = f"{self.plan.name} {self.step} loss {recent:.4f} {100 * self.progress:.1f} % {self.seconds / 60:.1f} min"
        print(line, end=end, file=sys.stderr, flush=True)

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": self.random.get_state(),
            "torch": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
        }
        partial = self.checkpoint.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def resume(self) -> bool:
        """Goes on from the checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"].cpu())
        torch.set_rng_state(state["torch"].cpu())
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        return True


def plot(losses: list[float], file: Path) -> None:
    """The loss curve, drawn with Pillow: one dot per mean of a 600th of the steps, on a logarithmic scale."""
    from math import log

    from PIL import Image, ImageDraw

    width, height, border = 600, 300, 24
    group = max(1, len(losses) // width)
    means = [sum(losses[k : k + group]) / group for k in range(0, len(losses) - group + 1, group)]
    low, high = min(means), max(means)
    spread = log(high / low) or 1.0
    picture = Image.new("RGB", (width + 2 * border, height + 2 * border), "white")
    draw = ImageDraw.Draw(picture)
    points = [
        (border + width * k / max(1, len(means) - 1), border + height * log(high / mean) / spread)
        for k, mean in enumerate(means)
    ]
    draw.line(points, fill=(30, 80, 180), width=1)
    draw.text((border, 4), f"{high:.4f}", fill="black")
    draw.text((border, height + border + 4), f"{low:.4f}   {len(losses)} steps", fill="black")
    picture.save(file)
