"""MultiDiffusion, region-based generation (Bar-Tal et al., "MultiDiffusion: Fusing Diffusion Paths for Controlled Image
Generation", ICML 2023, section 4.2), with its bootstrapping.

Every region is predicted with a prompt of its own, the rest with the whole prompt; predictions are averaged per pixel.
Fusing predictions is fusing latents for samplers that are linear per element.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.denoiser import Denoiser, Prediction, Request, gaussian
from ..diffusion.schedule import Step
from ..diffusion.text import Embedding
from ..errors import UsageError
from .base import Guidance, Hooks, Run
from .parameters import share
from .regions import Place

COLOURS = (
    (-0.6, -0.6, -0.6),
    (0.6, 0.6, 0.6),
    (0.6, -0.3, -0.3),
    (-0.3, 0.6, -0.3),
    (-0.3, -0.3, 0.6),
    (0.6, 0.6, -0.3),
)
"""Of the constant backgrounds of bootstrapping, RGB in [-1, 1]."""


@dataclass(frozen=True)
class MultiDiffusion(Guidance, name="multidiffusion"):
    """MultiDiffusion.

    Args:
        bootstrap: share of the steps, from the first, in which a region's input outside its mask is a constant colour
            at the step's noise level.
        fraction: share of the steps in which regions are predicted apart.
    """

    bootstrap: float = share(0.2)
    fraction: float = share(1.0)

    def hooks(self, run: Run) -> Hooks[MultiDiffusion] | None:
        return Fusing(self, run) if run.guides(self.fraction) else None


class Fusing(Hooks[MultiDiffusion]):
    predicts = True
    needs_words = False

    def __init__(self, method: MultiDiffusion, run: Run) -> None:
        super().__init__(method, run)
        self.slots = max(len(places) for places in run.places)
        texts = [
            [own_prompt(run, prompt, places[slot]) if slot < len(places) else prompt for slot in range(self.slots)]
            for prompt, places in zip(run.prompts, run.places, strict=True)
        ]
        self.embeddings = [run.model.prompts.encode([own[slot] for own in texts]) for slot in range(self.slots)]
        self.shapes = self.like.new_zeros(self.slots, len(run.places), 1, *run.size)
        self.counts = torch.ones_like(self.shapes[..., :1, :1])
        for sample, places in enumerate(run.places):
            if places:
                self.shapes[: len(places), sample, 0] = self.masks(places, run.size)
                self.counts[: len(places), sample, 0, 0, 0] = self.weights(places)
        if run.within(run.steps[0], method.bootstrap):
            self.backgrounds = constant_backgrounds(run)
            self.noise = gaussian(self.backgrounds.shape[1:], run.generators, self.backgrounds)

    def predict(self, latents: Tensor, step: Step, denoiser: Denoiser, request: Request) -> Prediction:
        active = self.active(step)
        if not any(active):
            return denoiser.predict(latents, step, request)
        weights = self._shares(active)
        sources = self._sources(latents, step)
        apart = request != Request()  # edits and losses are about the whole prompt: it then runs by itself
        whole = denoiser.predict(latents, step, request) if apart else None
        outputs = self._outputs(latents, sources, step, denoiser, whole)
        fused = (weights * torch.stack(outputs)).sum(dim=0) / weights.sum(dim=0)
        return Prediction(fused, whole.gradients if whole else ())

    def _outputs(
        self, latents: Tensor, sources: list[Tensor], step: Step, denoiser: Denoiser, whole: Prediction | None
    ) -> list[Float[Tensor, "b c h w"]]:
        """Predictions with CFG, the whole prompt's first, all in one batch; equal unconditional inputs run once."""
        picture = denoiser.positive.picture
        inputs, texts = list(sources), [replace(text, picture=picture) for text in self.embeddings]
        if whole is None:
            inputs, texts = [latents, *inputs], [denoiser.positive, *texts]
        scale = denoiser.scale_at(step)
        distinct = [latents] if all(source is latents for source in sources) else inputs
        empty = distinct if scale != 1 else []
        embeddings = Embedding.cat([*texts, *(denoiser.negative for _ in empty)])
        made = denoiser.forward(torch.cat([*inputs, *empty]), step, embeddings).chunk(len(inputs) + len(empty))
        outputs = list(made[: len(inputs)])
        if empty:
            unconditional = [made[len(inputs)]] * len(inputs) if len(empty) == 1 else made[len(inputs) :]
            pairs = zip(unconditional, outputs, strict=True)
            outputs = [without + scale * (conditional - without) for without, conditional in pairs]
        return outputs if whole is None else [whole.output, *outputs]

    def _sources(self, latents: Tensor, step: Step) -> list[Float[Tensor, "b c h w"]]:
        """Each slot's input: the latents, while bootstrapping on a constant background."""
        if not self.run.within(step, self.method.bootstrap):
            return [latents] * self.slots
        picks = [int(torch.randint(len(COLOURS), (), generator=source)) for source in self.run.generators]
        signal, noise = self.run.schedule.level(step.index)
        around = signal * self.backgrounds[picks] + noise * self.noise
        return [mask * latents + (1 - mask) * around for mask in self.shapes]

    def _shares(self, active: tuple[tuple[Place, ...], ...]) -> Float[Tensor, "slots b 1 h w"]:
        """How much the whole prompt (first) and each slot count per cell; a resting region leaves its place to it."""
        guided = {place for places in active for place in places}
        shown = self.shapes.clone()
        for sample, places in enumerate(self.run.places):
            for slot, place in enumerate(places):
                shown[slot, sample] *= place in guided
        rest = (1 - shown.sum(dim=0)).clamp(min=0)
        return torch.cat([rest[None], shown * self.counts])


def own_prompt(run: Run, prompt: str, place: Place) -> str:
    """What a region is predicted with: its prompt, else its words.

    Raises:
        UsageError: it has neither.
    """
    region = place.region
    if region.prompt is None and not place.tokens:
        raise UsageError("A region has neither words nor a prompt for multidiffusion to paint there; give one of them.")
    return region.phrase(run.model.prompts, prompt) if region.prompt is None else region.prompt


def constant_backgrounds(run: Run) -> Float[Tensor, "colours c h w"]:
    """Latents of pictures of one colour each."""
    height, width = (side * run.model.factor for side in run.size)
    pictures = [torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, height, width) for colour in COLOURS]
    return torch.cat([run.model.encode(picture) for picture in pictures])
