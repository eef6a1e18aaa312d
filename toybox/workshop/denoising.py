"""How the UNet and its text encoder learn: the denoising loss with grounding, and the check that words own places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from ...editing.crop import bounds
from . import team
from .grounding import Maps, area_under_curve, grounding_loss, to_grid
from .networks import Painter, export, noise_levels
from .pool import Pool, encode
from .shop import HELD_OUT, Workshop
from .stage import Stage

OBJECTS = 4.0
"""How much an object's cell counts where one of the ground counts 1, for the eye goes there: see `looked_at`."""
SETTLED = 0.5
"""The share of signal variance from which on it is plain where the objects stand."""

LEVELS = (0.59, 0.16, 0.023)
"""Shares of signal variance at which attention is looked at: Stable Diffusion's at t = 300, 600 and 850."""

SURROUNDED = 0.5
"""Share of the scenes of which a place alone is noised, as an edit shows a photo: see `place_of`."""
AROUND_THINGS = 0.65
"""Share of those places that hold what the caption names; the others lie anywhere, as removals and extensions do."""
OUTLINED = 0.25
"""Share of all those places that have the things' outline, as masks by segmentation do; the rest are boxes."""
MARGIN = 2
"""Cells by which a place reaches beyond its things, on each side less than this: in an edit a thing fills its place."""

UNSAID = 0.8
"""Share of the wholly noised scenes of a noun more than once of which the caption is left out: see `silence`."""
CONTINUED = 0.5
"""The same share of the places that hide no thing."""


@dataclass(frozen=True)
class Denoising:
    """The UNet's loss: velocity prediction, captions left out at times, and grounding.

    The logarithm of the signal-to-noise ratio is drawn from a normal distribution, as Esser et al. do (arXiv
    2403.03206, Eq. 19; theirs has the mean 0), here a little on the noisy side, where it is decided what stands where.
    """

    pool: Pool
    batch: int
    """Scenes a step."""
    levels: Float[Tensor, "1000"]
    empty: Int[Tensor, "tokens"]
    half: bool
    """Whether the network computes in bfloat16."""
    grounding: float = 0.05

    def __call__(self, model: nn.Module, random: Generator) -> Tensor:
        count = self.batch
        batch = self.pool.batch(random, count)
        clean = batch["latents"].float()
        device, mine = clean.device, team.share(count)
        drawn = torch.randn(count, generator=random)[mine].to(device) * 2 - 1
        timesteps = (self.levels.logit() - drawn[:, None]).abs().argmin(1)
        noise = torch.randn(count, *clean.shape[1:], generator=random)[mine].to(device)
        masks = batch["masks"].float() / 255
        covered, decided = masks.amax(1).cpu() > 0, torch.rand(count, 6, generator=random)[mine].tolist()
        noisy = [place_of(cells, row) for cells, row in zip(covered, decided, strict=True)]
        places = torch.stack(noisy)[:, None].to(device)
        unsaid = torch.rand(count, generator=random)[mine].to(device) < silence(masks, places, batch["doubled"])
        ids = torch.where(unsaid[:, None], self.empty.to(device), batch["ids"].long())
        words = batch["words"].float() * ~unsaid[:, None, None]
        maps: Maps = []
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            noised, velocity = diffused(clean, noise, self.levels[timesteps])
            noised = torch.where(places, noised, clean)
            predicted = model(noised.contiguous(memory_format=torch.channels_last), timesteps, ids, maps).float()
        error = looked_at((predicted - velocity).square(), masks, places, self.levels[timesteps])
        grounded = grounding_loss([layer.float() for layer in maps], words, masks)
        return error + self.grounding * grounded


def place_of(covered: Bool[Tensor, "h w"], chances: Sequence[float]) -> Bool[Tensor, "h w"]:
    """The cells of a scene that are noised: all, or a place beside which the network sees the scene as it is.

    Such a place is a box, or has the things' outline.

    A network that has seen such scenes paints a place in a photo with its surroundings before its eyes. No channel
    says which cells are noised, for noise is plain to see. `covered`: by things that are named; `chances`: six
    numbers in [0, 1) that decide.
    """
    height, width = covered.shape
    place = torch.ones(height, width, dtype=torch.bool)
    if chances[0] >= SURROUNDED:
        return place
    if covered.any() and chances[1] < OUTLINED:
        cells = 2 * int(MARGIN * chances[2]) + 1
        return F.max_pool2d(covered.float()[None], cells, 1, cells // 2)[0] > 0
    if covered.any() and chances[1] < AROUND_THINGS:
        above, below, before, after = (int(MARGIN * chance) for chance in chances[2:])
        left, top, right, bottom = bounds(covered.numpy())
        left, top, right, bottom = left - before, top - above, right + after, bottom + below
    else:
        tall, wide = (side * (0.25 + 0.75 * chance) for side, chance in zip((height, width), chances[2:4], strict=True))
        middle, centre = height * chances[4], width * chances[5]
        top, bottom = round(middle - tall / 2), round(middle + tall / 2)
        left, right = round(centre - wide / 2), round(centre + wide / 2)
    place[:] = False
    place[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return place


def silence(
    masks: Float[Tensor, "b mentions h w"], places: Bool[Tensor, "b 1 h w"], doubled: Bool[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """How likely each scene's caption is left out, for guidance leads away from what is without one.

    A wholly noised scene loses its caption only if it is `doubled`, so if a noun stands there more than once. So
    guidance leads away from second apples: an apple is one.

    With its surroundings in view, a place loses its caption only if it hides at most half of every thing, by `masks`
    in [0, 1]. So an empty caption comes to mean that what lies around goes on, as removals and extensions want it, and
    guidance, which leads away from the empty caption, leads away from bare ground.
    """
    hides = ((masks * places).sum((2, 3)) > 0.5 * masks.sum((2, 3))).any(1)
    return torch.where(places.all((1, 2, 3)), UNSAID * doubled, torch.where(hides, 0.0, CONTINUED))


def looked_at(
    squares: Float[Tensor, "b c h w"],
    masks: Float[Tensor, "b mentions h w"],
    places: Bool[Tensor, "b 1 h w"],
    level: Float[Tensor, "b"],
) -> Float[Tensor, ""]:
    """The mean over scenes of each one's mean of `squares` in its place.

    An object's cells, by `masks` in [0, 1], count `OBJECTS` times where the `level` of signal says where they are. In
    more noise all cells count alike: where the network cannot know whether a cell holds an object, weights that do know
    move its best guess from the mean of both to objects, and it paints too many, too large. Small places count as
    much as whole scenes, for what a person looks at in an edit is the place.
    """
    more = torch.where(level < SETTLED, 0.0, OBJECTS - 1).view(-1, 1, 1, 1)
    weights = (1 + more * masks.amax(1, keepdim=True)) * places
    return ((squares * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))).mean()


def diffused(
    clean: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], level: Float[Tensor, "b"]
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Latents at the share `level` of signal variance, and their velocity."""
    signal, noisy = level.view(-1, 1, 1, 1).sqrt(), (1 - level).view(-1, 1, 1, 1).sqrt()
    return signal * clean + noisy * noise, signal * noise - noisy * clean


@torch.no_grad()
def attention_auc(painter: Painter, batch: dict[str, Tensor], level: float, levels: Float[Tensor, "1000"]) -> float:
    """Mean AUC of the mentions' attention (finest grid, mean over layers and heads) against their true masks.

    `level` is the share of signal variance at which the painter, trained with `levels`, looks.
    """
    painter.eval()
    clean = batch["latents"].float()
    timestep = int((levels - level).abs().argmin())
    noise = torch.randn(clean.shape, generator=Generator().manual_seed(timestep)).to(clean.device)
    maps: Maps = []
    times = torch.full((len(clean),), timestep, device=clean.device)
    noised, _ = diffused(clean, noise, levels.to(clean.device)[times])
    painter(noised, times, batch["ids"].long(), maps)
    pixels = max(layer.shape[1] for layer in maps)
    finest = torch.stack([layer for layer in maps if layer.shape[1] == pixels]).mean(0)
    attention = torch.einsum("bpt,bmt->bmp", finest, batch["words"].float())
    masks = to_grid(batch["masks"].float() / 255, pixels)
    seen = batch["words"].any(-1) & (masks >= 0.5).any(-1)
    scores = [
        area_under_curve(attention[row, mention], masks[row, mention]) for row, mention in seen.nonzero().tolist()
    ]
    return sum(scores) / len(scores)


def train_painter(shop: Workshop, pool: Pool) -> Painter:
    """The UNet and its text encoder, averaged over the last steps."""
    torch.manual_seed(2)
    recipe, device = shop.recipe, shop.renderer.device
    painter = Painter.new(recipe, pool.tokenizer).to(device).to(memory_format=torch.channels_last)
    if shop.init_from is not None:
        painter.load(shop.init_from)
    stage = shop.stage("unet", painter, recipe.shares[1], learning_rate=recipe.rate, warmup=200, decay=0.5)
    empty = torch.tensor(pool.tokenizer("", padding="max_length").input_ids)
    loss = Denoising(pool, recipe.batch, noise_levels().to(device), empty, shop.half)
    held_out = encode(pool.renderer(HELD_OUT, 16), pool.vae, pool.tokenizer)
    held_out = {name: part.to(device) for name, part in held_out.items()}

    def watch(stage: Stage[Painter]) -> str:
        export(stage.averaged, pool.vae, pool.tokenizer, shop.folder / "weights")
        scores = [f"{attention_auc(stage.averaged, held_out, level, loss.levels):.3f}" for level in LEVELS]
        return "attention AUC " + " / ".join(scores)

    begun = max(1, pool.stored() - stage.step // recipe.grow_every)
    team.wait()  # nobody adds to the pool before all have counted

    def before(stage: Stage[Painter]) -> None:
        pool.grow(min(pool.count, begun + stage.step // recipe.grow_every))

    stage.run(loss, watch, before)
    export(stage.averaged, pool.vae, pool.tokenizer, shop.folder / "weights")
    return stage.averaged
