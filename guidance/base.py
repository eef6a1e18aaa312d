"""What a guidance method is: a frozen value that begins a session, whose hooks act around each step.

`Guidance()` itself is plain classifier-free guidance. A method is one file:

    @dataclass(frozen=True)
    class Mine(Guidance, name="mine"):          # registers itself under this name
        strength: float = number(1.0, 0)        # its fields are its parameters

        def hooks(self, run):                   # None where there is nothing to do, so that off means off
            return Doing(self, run, "all") if self.strength and run.guides() else None

    class Doing(Hooks[Mine]):                   # overrides what it needs; holds what it keeps between steps
        def scores(self, scores, places, step): ...

A package offers its method as a plugin by an entry point of the group `inlay.guidance` that names the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.attention import Edit, Layer
from ..diffusion.denoiser import Denoiser, Loss, Prediction, Request
from ..diffusion.model import Model
from ..diffusion.schedule import Schedule, Step
from ..errors import UsageError
from .layers import Layers, choose
from .regions import Place, as_set, check_aspect, membership, on_grid


@dataclass(frozen=True)
class Run:
    """What a method may know of a run: one prompt, one tuple of places and one generator per sample.

    Raises:
        UsageError: a place whose mask has another aspect than the picture.
    """

    model: Model
    schedule: Schedule
    prompts: tuple[str, ...]
    places: tuple[tuple[Place, ...], ...]
    size: tuple[int, int]
    """(h, w) of the latents."""
    generators: tuple[torch.Generator, ...]
    editing: bool = False
    """Whether a photo is blended in: methods may choose milder defaults."""

    def __post_init__(self) -> None:
        for place in {place for places in self.places for place in places}:
            check_aspect(place, self.size)

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.schedule.steps

    def within(self, step: Step, fraction: float) -> bool:
        """Whether `step` is among the first round(fraction * N) of the run's N steps, at least 1 unless it is 0."""
        guided = round(fraction * (self.schedule.count - self.schedule.first))
        return step.index - self.schedule.first < max(guided, fraction > 0)

    def active(self, step: Step, fraction: float) -> tuple[tuple[Place, ...], ...]:
        """Per sample, the places that are guided at `step`: a region's own fraction goes before the method's."""
        return tuple(
            tuple(
                place
                for place in places
                if self.within(step, fraction if place.region.fraction is None else place.region.fraction)
            )
            for places in self.places
        )

    def guides(self, fraction: float = 1.0) -> bool:
        """Whether any place is ever guided: it would be at the first step."""
        return any(self.active(self.steps[0], fraction))


Advice = Mapping[str, Mapping[str, Any]]
"""What a model advises: values by parameter, by method."""


@dataclass(frozen=True)
class Guidance:
    """Plain classifier-free guidance (Ho and Salimans 2022): the base of every method, and what `off` means.

    Raises:
        UsageError: a parameter that cannot have its value.
    """

    name: ClassVar[str] = "plain"
    registered: ClassVar[dict[str, type[Guidance]]] = {}
    """Methods by name; `METHODS`, once all files and plugins are loaded."""
    paper: ClassVar[Mapping[str, Any]] = {}
    """What parameters left None are where the model advises nothing."""

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__()
        cls.name = name or cls.__name__
        if name is not None and cls.registered.setdefault(name, cls) is not cls:
            raise UsageError(f"There are two guidance methods of the name {name!r}; give yours another.")

    def __post_init__(self) -> None:
        for parameter in fields(self):
            value = getattr(self, parameter.name)
            if "check" in parameter.metadata and not (value is None and parameter.default is None):
                parameter.metadata["check"](f"{type(self).__name__}'s {parameter.name}", value)

    def advised(self, advice: Advice, editing: bool = False) -> Self:
        """This method with what the model advises, else the paper's values, in place of parameters left None."""
        values = {**self.paper, **advice.get(self.name, {})}
        names = [parameter.name for parameter in fields(self) if getattr(self, parameter.name) is None]
        return replace(self, **{name: values[name] for name in names if name in values})

    def hooks(self, run: Run) -> Hooks[Any] | None:
        """This method, with all its parameters filled in, at work in `run`; None where it has nothing to do."""
        return None

    def begin(self, run: Run) -> Session:
        """A fresh session for one run, with the model's advice."""
        hooks = self.advised(run.model.defaults, run.editing).hooks(run)
        return Session([] if hooks is None else [hooks])


Guidance.registered["plain"] = Guidance


@dataclass(frozen=True)
class Chain(Guidance):
    """Methods that act together, in order; ZestGuide's own default is `Chain((Zest(), PaintWithWords()))`.

    A chain within a chain is its methods.

    Raises:
        UsageError: no methods, or one of them twice.
    """

    methods: tuple[Guidance, ...]

    def __post_init__(self) -> None:
        if not self.methods:
            raise UsageError("The chain has no methods; give it at least one, or use Guidance() for none.")
        flat = tuple(one for method in self.methods for one in members(method))
        object.__setattr__(self, "methods", flat)
        kinds = [type(method).__name__ for method in flat]
        if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
            raise UsageError(f"{twice[0]} stands in the chain twice; name it once, with all its parameters.")

    def advised(self, advice: Advice, editing: bool = False) -> Chain:
        return Chain(tuple(method.advised(advice, editing) for method in self.methods))

    def begin(self, run: Run) -> Session:
        return Session([hooks for method in self.methods for hooks in method.begin(run).hooks])


def members(guidance: Guidance) -> tuple[Guidance, ...]:
    """The methods of a chain, or the one that it is."""
    return guidance.methods if isinstance(guidance, Chain) else (guidance,)


M = TypeVar("M", bound=Guidance)


class Hooks(Generic[M]):
    """One method at work in one run. Every hook defaults to doing nothing; state lives here.

    `scores`, `probabilities` and `loss` are asked sample by sample, at the steps at which places of it are guided, and
    only where a method overrides them. Tensors are those of the conditional forward.

    Args:
        layers: the cross-attention layers that they read or edit; None for none.

    Raises:
        UsageError: a place without words, for a method that needs them.
    """

    predicts = False
    """Whether this method owns prediction; one of a session at most."""
    needs_words = True
    """Whether a place means nothing to this method without words."""

    def __init__(self, method: M, run: Run, layers: Layers | None = None) -> None:
        if self.needs_words and not all(place.tokens for places in run.places for place in places):
            raise UsageError(f"A region has no words for {method.name} to guide there; name a phrase of the prompt.")
        self.method, self.run = method, run
        self.layers: tuple[Layer, ...] = () if layers is None else choose(run.model, layers)
        self.columns = tuple(sorted({token for places in run.places for place in places for token in place.tokens}))
        """The tokens of all places, whose attention a loss sees."""
        self.like = torch.empty(0, device=run.model.device, dtype=run.model.working_dtype)
        self._masks: dict[tuple[Place, tuple[int, int], bool], Tensor] = {}

    def refine(self, latents: Tensor, step: Step, denoiser: Denoiser, request: Request) -> Float[Tensor, "b c h w"]:
        """Latents to predict from; `request` holds the edits of the whole session, to be applied in any forward."""
        return latents

    def scores(self, scores: Tensor, places: Sequence[Place], step: Step) -> Float[Tensor, "heads h w tokens"]:
        """Scores QK^T of one layer and sample, before scaling, changed."""
        return scores

    def probabilities(
        self, probabilities: Tensor, places: Sequence[Place], step: Step
    ) -> Float[Tensor, "heads h w tokens"]:
        """Attention probabilities of one layer and sample, changed."""
        return probabilities

    def loss(
        self, maps: Sequence[Tensor], words: Sequence[Sequence[int]], places: Sequence[Place]
    ) -> Float[Tensor, ""]:
        """What one sample's maps are to make small.

        `maps`: one (heads, h, w, columns) per layer, after score edits and before probability edits; `words`: each
        place's tokens, as indices of `columns`.
        """
        raise NotImplementedError

    def predict(self, latents: Tensor, step: Step, denoiser: Denoiser, request: Request) -> Prediction:
        """The prediction, for a method that owns it."""
        return denoiser.predict(latents, step, request)

    def adjust(self, output: Tensor, gradient: Tensor, latents: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """The prediction, changed by the gradient of this method's loss."""
        return output

    def settle(self, latents: Tensor, gradient: Tensor, step: Step) -> Float[Tensor, "b c h w"]:
        """The next latents, moved by the gradient of this method's loss at the latents that were predicted from."""
        return latents

    def request(self, step: Step) -> Request:
        """What this step asks of the forward that predicts: asked once, before anything else happens in the step."""
        if not any(self.active(step)):
            return Request()
        own = type(self)
        return Request(
            scores=(self._edit(self.scores, step),) if own.scores is not Hooks.scores else (),
            probabilities=(self._edit(self.probabilities, step),)
            if own.probabilities is not Hooks.probabilities
            else (),
            losses=(self.losses(step),) if own.loss is not Hooks.loss else (),
        )

    def active(self, step: Step) -> tuple[tuple[Place, ...], ...]:
        """Per sample, the places that are guided at `step`."""
        return self.run.active(step, getattr(self.method, "fraction", 1.0))

    def losses(self, step: Step) -> Loss:
        """`loss` of every sample, 0 for one without places."""
        active = self.active(step)

        def function(maps: Any, latents: Tensor, output: Tensor | None) -> Float[Tensor, " b"]:
            layers = [maps.layers[layer.name] for layer in self.layers]
            return torch.stack(
                [
                    self.loss([layer[sample] for layer in layers], [maps.positions(p.tokens) for p in places], places)
                    if places
                    else layers[0].new_zeros(())
                    for sample, places in enumerate(active)
                ]
            )

        return Loss(function, self.layers, self.columns)

    def _edit(self, formula: Callable[[Tensor, Sequence[Place], Step], Tensor], step: Step) -> Edit:
        """`formula` on every sample of the chosen layers."""
        active = self.active(step)

        def edit(values: Float[Tensor, "b heads h w tokens"], layer: Layer) -> Float[Tensor, "b heads h w tokens"]:
            if layer not in self.layers:
                return values
            pairs = zip(values, active, strict=True)
            return torch.stack([formula(own, places, step) if places else own for own, places in pairs])

        return edit

    def masks(self, places: Sequence[Place], grid: Sequence[int], binary: bool = False) -> Float[Tensor, "r h w"]:
        """How much each cell of a grid belongs to each place, or with `binary` whether it does."""
        size = (grid[0], grid[1])
        for place in places:
            if (place, size, binary) not in self._masks:
                mask = place.mask[None]
                made = as_set(on_grid(mask, size)) if binary else membership(mask, size)
                self._masks[place, size, binary] = made[0].to(self.like)
        return torch.stack([self._masks[place, size, binary] for place in places])

    def weights(self, places: Sequence[Place]) -> Float[Tensor, " r"]:
        """The regions' weights."""
        return self._of([place.region.weight for place in places])

    def boosts(self, places: Sequence[Place], area: float) -> Float[Tensor, " r"]:
        """Help for small regions; see `Place.boost`."""
        return self._of([place.boost(area) for place in places])

    def _of(self, values: Sequence[float]) -> Float[Tensor, " r"]:
        return torch.tensor(values, dtype=self.like.dtype).to(self.like.device, non_blocking=True)


class Session:
    """The hooks of a run's methods, in order, as the loop's guide.

    Raises:
        UsageError: two of them own prediction.
    """

    def __init__(self, hooks: Sequence[Hooks[Any]]) -> None:
        self.hooks = tuple(hooks)
        owners = [one for one in self.hooks if one.predicts]
        if len(owners) > 1:
            names = " and ".join(type(owner.method).__name__ for owner in owners)
            raise UsageError(f"{names} each make the prediction themselves; only one of them can be in a chain.")
        self._owner = owners[0] if owners else None
        self._asked: list[Request] = []
        """Of the step at hand, by hooks."""

    def refine(self, latents: Tensor, step: Step, denoiser: Denoiser) -> Float[Tensor, "b c h w"]:
        """Begin a step: every method is asked what it wants of it, then may move the latents."""
        self._asked = [one.request(step) for one in self.hooks]
        for one in self.hooks:
            latents = one.refine(latents, step, denoiser, self._request)
        return latents

    def predict(self, latents: Tensor, step: Step, denoiser: Denoiser) -> Prediction:
        if self._owner is None:
            prediction = denoiser.predict(latents, step, self._request)
        else:
            prediction = self._owner.predict(latents, step, denoiser, self._request)
        output = prediction.output
        for one, gradient in self._with_gradients(prediction):
            output = one.adjust(output, gradient, latents, step)
        return Prediction(output, prediction.gradients)

    def settle(
        self, latents: Tensor, prediction: Prediction, step: Step, denoiser: Denoiser
    ) -> Float[Tensor, "b c h w"]:
        for one, gradient in self._with_gradients(prediction):
            latents = one.settle(latents, gradient, step)
        return latents

    @property
    def _request(self) -> Request:
        return sum(self._asked, Request())

    def _with_gradients(self, prediction: Prediction) -> list[tuple[Hooks[Any], Tensor]]:
        """Methods with a loss at this step, and its gradient."""
        asking = [one for one, request in zip(self.hooks, self._asked, strict=True) if request.losses]
        return list(zip(asking, prediction.gradients, strict=True))
