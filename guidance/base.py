"""What a guidance method is: a frozen value that begins a session, whose members act around each step.

`Guidance()` itself is plain classifier-free guidance. A method is a frozen dataclass in a file of its own that derives
from it and returns one `Member` from `member(run)`; the member holds what the method keeps between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.denoiser import Denoiser, Loss, Prediction, Request
from ..diffusion.model import Model
from ..diffusion.schedule import Schedule, Step
from ..errors import UsageError
from .regions import Place


@dataclass(frozen=True)
class Run:
    """What a method may know of a run: one prompt, one tuple of places and one generator per sample."""

    model: Model
    schedule: Schedule
    prompts: tuple[str, ...]
    places: tuple[tuple[Place, ...], ...]
    size: tuple[int, int]
    """(h, w) of the latents."""
    generators: tuple[torch.Generator, ...]
    editing: bool = False
    """Whether a photo is blended in: methods may choose milder defaults."""

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.schedule.steps

    def resolve(self, given: Any, method: str, parameter: str, fallback: Any) -> Any:
        """A method's parameter: what is given, else the model's advice, else `fallback`."""
        return self.model.defaults.get(method, {}).get(parameter, fallback) if given is None else given

    def within(self, step: Step, fraction: float) -> bool:
        """Whether `step` is among the first round(fraction * N) of the run's N steps."""
        return step.index - self.schedule.first < round(fraction * (self.schedule.count - self.schedule.first))


class Member:
    """One method at work in one run. Every hook defaults to doing nothing."""

    predicts = False
    """Whether this member owns prediction; one member of a session at most."""

    def refine(self, latents: Tensor, step: Step, denoiser: Denoiser, request: Request) -> Float[Tensor, "b c h w"]:
        """Latents to predict from; `request` holds the edits of the whole session, to be applied in any forward."""
        return latents

    def request(self, step: Step) -> Request:
        """Edits, at most one loss, and watches for the forward that predicts."""
        return Request()

    def predict(self, latents: Tensor, step: Step, denoiser: Denoiser, request: Request) -> Prediction:
        """The prediction, for a member that owns it."""
        return denoiser.predict(latents, step, request)

    def adjust(
        self, output: Tensor, gradient: Tensor, latents: Tensor, step: Step, denoiser: Denoiser
    ) -> Float[Tensor, "b c h w"]:
        """The prediction, changed by the gradient of this member's loss."""
        return output

    def settle(self, latents: Tensor, gradient: Tensor, step: Step, denoiser: Denoiser) -> Float[Tensor, "b c h w"]:
        """The next latents, moved by the gradient of this member's loss."""
        return latents


class Session:
    """The members of a run, in order, as the loop's guide.

    Raises:
        UsageError: two members own prediction.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        owners = [member for member in self.members if member.predicts]
        if len(owners) > 1:
            names = " and ".join(type(owner).__name__ for owner in owners)
            raise UsageError(f"{names} each make the prediction themselves; only one of them can be in a chain.")
        self.owner = owners[0] if owners else Member()

    def refine(self, latents: Tensor, step: Step, denoiser: Denoiser) -> Float[Tensor, "b c h w"]:
        request = self._merged([member.request(step) for member in self.members])
        for member in self.members:
            latents = member.refine(latents, step, denoiser, request)
        return latents

    def predict(self, latents: Tensor, step: Step, denoiser: Denoiser) -> Prediction:
        requests = [member.request(step) for member in self.members]
        prediction = self.owner.predict(latents, step, denoiser, self._merged(requests))
        output = prediction.output
        for member, gradient in self._with_gradients(requests, prediction):
            output = member.adjust(output, gradient, latents, step, denoiser)
        return Prediction(output, prediction.gradients)

    def settle(
        self, latents: Tensor, prediction: Prediction, step: Step, denoiser: Denoiser
    ) -> Float[Tensor, "b c h w"]:
        requests = [member.request(step) for member in self.members]
        for member, gradient in self._with_gradients(requests, prediction):
            latents = member.settle(latents, gradient, step, denoiser)
        return latents

    @staticmethod
    def _merged(requests: Sequence[Request]) -> Request:
        return sum(requests, Request())

    def _with_gradients(self, requests: Sequence[Request], prediction: Prediction) -> list[tuple[Member, Tensor]]:
        members = [member for member, request in zip(self.members, requests, strict=True) if request.losses]
        return list(zip(members, prediction.gradients, strict=True))


@dataclass(frozen=True)
class Guidance:
    """Plain classifier-free guidance (Ho and Salimans 2022): the base of every method, and what `off` means."""

    def member(self, run: Run) -> Member | None:
        """This method at work in `run`; None where it has nothing to do, so that off means off."""
        return None

    def begin(self, run: Run) -> Session:
        """A fresh session for one run."""
        member = self.member(run)
        return Session([] if member is None else [member])


__all__ = ["Guidance", "Loss", "Member", "Run", "Session"]
