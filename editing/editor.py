"""The two things that `inlay` does: edit a photo, and generate a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ..diffusion.model import EMBEDDED, Model
from ..errors import UsageError
from ..guidance.attention_pictures import Attention, RecordAttention
from ..guidance.base import Guidance
from ..guidance.chain import Chain
from ..guidance.regions import Region
from ..photos.photo import MAX_PIXELS, Photo
from .composite import composite
from .crop import Crop, crops_for
from .guided import check_kinds, far_from_native, members, methods_at_work, surprises
from .job import Facts, Job, Method, checked
from .rank import Ranker, ToyboxRanker
from .reconstruct import decode_with_background
from .sampling import Canvas, Painted, Progress, paint, with_fallbacks
from .words import default_words, target_tokens

Mask = Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"]


@dataclass(frozen=True)
class Result:
    """Pictures of one call, in the order of their seeds.

    `scores` are the ranker's, one per picture, None without a ranker. `settings` makes picture k again.
    """

    images: tuple[Photo, ...]
    seeds: tuple[int, ...]
    scores: tuple[float | None, ...]
    settings: tuple[Job, ...]
    warnings: tuple[str, ...] = ()
    attention: Attention | None = None
    """Where the asked-for words looked; in an edit, in the window of `Facts.crops` that was painted last."""

    @property
    def ranking(self) -> tuple[int, ...]:
        """Indices of the pictures, best first; in the order of seeds where nothing ranked them."""
        return tuple(sorted(range(len(self.images)), key=lambda k: -(self.scores[k] or 0.0)))

    @property
    def best(self) -> Photo:
        return self.images[self.ranking[0]]


@dataclass(frozen=True)
class Editor:
    """A model at work on photos."""

    model: Model
    ranker: Ranker | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "toybox",
        device: str = "auto",
        dtype: str = "auto",
        *,
        config: Path | None = None,
        offline: bool = False,
        allow_pickle: bool = False,
        ranker: Ranker | None = None,
    ) -> Editor:
        """Load a model; see `Model.from_pretrained`. Toybox brings its own ranker."""
        model = Model.from_pretrained(
            name, device=device, dtype=dtype, config=config, offline=offline, allow_pickle=allow_pickle
        )
        return cls(model, ranker or (ToyboxRanker() if name in EMBEDDED else None))

    def generate(
        self,
        prompt: str,
        *,
        regions: Sequence[Region] = (),
        guidance: Guidance | None = None,
        negative_prompt: str = "",
        size: tuple[int, int] | None = None,
        steps: int = 50,
        seed: int = 0,
        num_images: int = 1,
        guidance_scale: float | None = None,
        scheduler: str = "ddim",
        attention: Sequence[str] = (),
        on_step: Progress | None = None,
    ) -> Result:
        """Pictures from a prompt.

        Args:
            regions: where things go, for a `guidance` that places them; masks in the picture's own aspect.
            size: (height, width) in pixels, default the model's native one; any size works.
            seed: image k is made from seed + k alone.
            guidance_scale: of classifier-free guidance; default the model's.
            attention: phrases of the prompt whose attention is recorded in `Result.attention`.
            on_step: called with (steps done, steps in all).

        Raises:
            UsageError: a setting outside its range, a phrase that the prompt lacks.
        """
        check_kinds(guidance, regions)
        job = checked(
            Job,
            action="generate",
            model=self.model.name,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            num_images=num_images,
            steps=steps,
            guidance_scale=self._scale(guidance_scale),
            scheduler=scheduler,
            methods=described(guidance),
            words=tuple(str(region.words) for region in regions),
            size=size or self.model.native_size,
        )
        assert job.size is not None
        height, width = job.size
        if height < 1 or width < 1:
            raise UsageError(f"The size {height}x{width} has no area.")
        if height * width > MAX_PIXELS:
            raise UsageError(f"The size {height}x{width} has more than {MAX_PIXELS} pixels; ask for less.")
        padded = tuple(-(-side // self.model.factor) * self.model.factor for side in job.size)
        method, recorder = recorded(guidance, attention)

        def work(seeds: Sequence[int]) -> Sequence[UInt8[np.ndarray, "H W 3"]]:
            painted = paint(self.model, job, method, regions, (padded[0], padded[1]), seeds, on_step=on_step)
            return eight_bit(self.model.decode(painted.latents))

        seeds = tuple(range(seed, seed + num_images))
        pictures, fallbacks = with_fallbacks(self.model, seeds, work)
        images = tuple(Photo.from_image(picture[:height, :width]) for picture in pictures)
        facts = [self._facts(job, image_seed, fallbacks=fallbacks) for image_seed in seeds]
        return Result(
            images,
            seeds,
            (None,) * len(seeds),
            tuple(job.model_copy(update={"facts": fact}) for fact in facts),
            (*self._prompt_warnings(job), *far_from_native(job.size, self.model.native_size), *surprises(job, regions)),
            recorder(),
        )

    def edit(
        self,
        photo: Any,
        mask: Any,
        prompt: str,
        *,
        guidance: Guidance | None = None,
        words: str | Sequence[int] | None = None,
        regions: Sequence[Region] = (),
        negative_prompt: str = "",
        strength: float = 1.0,
        steps: int = 50,
        seed: int = 0,
        num_images: int = 1,
        guidance_scale: float | None = None,
        scheduler: str = "ddim",
        invert: bool = False,
        source_prompt: str = "",
        shrink: bool = False,
        background: str = "composite",
        composite: str = "feather",
        feather: float | None = None,
        match_colour: bool = False,
        context: float = 0.5,
        split: bool = True,
        attention: Sequence[str] = (),
        on_step: Progress | None = None,
    ) -> Result:
        """The photo with the place under `mask` painted anew, and every pixel elsewhere as it was.

        Args:
            photo: `Photo`, Pillow image, array or tensor; see `Photo.from_image`.
            mask: (H, W) of the photo's size: bool; uint8, thresholded at 128; or float in [0, 1], used as opacity.
                None takes the union of the regions' masks.
            words: the words that belong in the mask, for `guidance`; default the prompt's noun phrase if there is just
                one, else all its words but stop words. A warning and `Facts.words` say which.
            regions: several places with words of their own, in the photo's coordinates, in place of `words`.
            strength: in (0, 1]; how much of the schedule runs. 1 keeps least of what was there.
            invert: start from the DDIM inversion of the photo (under `source_prompt`) in place of noise.
            shrink: progressive mask shrinking, for thin masks.
            background: "decoder" also fine-tunes the decoder on this photo, so that its surroundings are met closer.
            composite: "feather" or "poisson".
            feather: width in photo pixels of the band outside the mask in which the edit fades out; default half a
                latent cell.
            match_colour: bring the edit to the tone of its surroundings.
            context: how much of the photo around the mask the model sees, in parts of the mask's longer side.
            split: edit distant parts of the mask in windows of their own where that keeps detail.

        Raises:
            UsageError: an empty mask or one of another size, a setting outside its range, words that the prompt lacks.
        """
        check_kinds(guidance, regions)
        picture = photo if isinstance(photo, Photo) else Photo.from_image(photo)
        place = edited_place(mask, regions, picture.size)
        method, recorder = recorded(guidance, attention)
        job = checked(
            Job,
            action="edit",
            model=self.model.name,
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            num_images=num_images,
            steps=steps,
            guidance_scale=self._scale(guidance_scale),
            scheduler=scheduler,
            methods=described(guidance),
            words=tuple(str(region.words) for region in regions) or ((str(words),) if words is not None else ()),
            photo=str(picture.path) if picture.path else None,
            strength=strength,
            invert=invert,
            source_prompt=source_prompt,
            shrink=shrink,
            background=background,
            composite=composite,
            feather=feather,
            match_colour=match_colour,
            context=context,
            split=split,
        )
        warnings = list(self._prompt_warnings(job))
        if (place > 0).all():
            warnings.append("The mask covers the whole photo: nothing of it is kept.")
        if invert and num_images > 1:
            warnings.append("With inversion all candidates start alike; only stochastic schedulers tell them apart.")
        said = None
        if methods_at_work(job) and not regions:
            tokens, said = (words, str(words)) if words is not None else target_tokens(prompt, self.model.prompts)
            regions = [Region(place.astype(np.float32), tokens)]
            if words is None:
                choose = "" if default_words(prompt) else ", all of the prompt; name the thing with --words (words=)"
                warnings.append(f"The words are {said!r}{choose}.")
        warnings += surprises(job, regions)
        native = round((self.model.native_size[0] * self.model.native_size[1]) ** 0.5)
        crops = crops_for(place, native, self.model.grid, context=context, margin=feather or 0, split=split)
        images = [picture] * num_images
        scores: list[list[float]] = [[] for _ in images]
        psnr, fallbacks = None, tuple[str, ...]()
        progress = spread(on_step, len(crops))
        seeds = tuple(range(seed, seed + num_images))
        for crop in crops:
            edits, notes = self._edit_crop(job, method, regions, picture, place, crop, seeds, next(progress))
            fallbacks += notes
            for k, edit in enumerate(edits):
                images[k] = pasted(images[k], edit.patch, place, crop, job, self.model.factor)
                psnr = edit.painted.inversion_psnr
                if edit.score is not None:
                    scores[k].append(edit.score)
        final = tuple(sum(values) / len(values) if values else None for values in scores)
        settings = []
        for k, image in enumerate(images):
            facts = self._facts(
                job,
                seeds[k],
                crops=tuple(crop.box for crop in crops),
                mask_sha256=hashlib.sha256(place.tobytes()).hexdigest(),
                changed_pixels=int((image.pixels != picture.pixels).any(-1).sum()),
                inversion_psnr=psnr,
                words=said,
                score=final[k],
                ranker=self.ranker.name if self.ranker and final[k] is not None else None,
                fallbacks=fallbacks,
            )
            settings.append(job.model_copy(update={"facts": facts}))
        warnings += [note for note in images[0].warnings if note not in warnings]
        return Result(tuple(images), seeds, final, tuple(settings), tuple(warnings), recorder())

    def _edit_crop(
        self,
        job: Job,
        guidance: Guidance,
        regions: Sequence[Region],
        photo: Photo,
        place: Mask,
        crop: Crop,
        seeds: Sequence[int],
        on_step: Progress | None,
    ) -> tuple[list[Edited], tuple[str, ...]]:
        """The window's candidates at the model's size."""
        pixels = torch.from_numpy(crop.cut(photo.pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1
        mask = torch.from_numpy(crop.cut_mask(place))
        canvas = Canvas(pixels, mask)
        seen = [
            replace(region, mask=window)
            for region in regions
            if (window := crop.cut_mask(region.tensor().numpy())).any()
        ]
        width, height = crop.size

        def work(some: Sequence[int]) -> Sequence[Edited]:
            painted = paint(self.model, job, guidance, seen, (height, width), some, canvas, on_step)
            decoded = self._decoded(job, painted.latents, canvas)
            scores = self.ranker(decoded / 2 + 0.5, mask, job.prompt) if self.ranker and job.num_images > 1 else None
            return [Edited(patch, painted, scores[k] if scores else None) for k, patch in enumerate(eight_bit(decoded))]

        return with_fallbacks(self.model, seeds, work)

    def _decoded(self, job: Job, latents: Tensor, canvas: Canvas) -> Float[Tensor, "b 3 H W"]:
        if job.background != "decoder":
            return self.model.decode(latents)
        return torch.cat([decode_with_background(self.model, one[None], canvas.pixels, canvas.mask) for one in latents])

    def _scale(self, asked: float | None) -> float:
        return float(self.model.defaults.get("guidance_scale", 7.5)) if asked is None else asked

    def _prompt_warnings(self, job: Job) -> tuple[str, ...]:
        from ..toybox.vocabulary import shipped, unknown_words

        lost = self.model.prompts.lost(job.prompt)
        limit = self.model.prompts.limit
        said = [f"The model reads {limit} tokens of a prompt; it does not see: {lost}"] if lost else []
        if self.model.name in EMBEDDED and (unknown := unknown_words(job.prompt)):
            nouns = ", ".join(shipped()["nouns"])
            said.append(f"toybox has never seen {', '.join(unknown)}; the things that it knows are {nouns}.")
        return tuple(said)

    def _facts(self, job: Job, image_seed: int, **found: Any) -> Facts:
        import diffusers

        from .. import __version__

        return Facts(
            inlay=__version__,
            torch=torch.__version__,
            diffusers=diffusers.__version__,
            weights=self.model.fingerprint,
            device=str(self.model.device),
            dtype=str(self.model.dtype).removeprefix("torch."),
            image_seed=image_seed,
            advice={
                method.name: self.model.defaults[method.name]
                for method in job.methods or ()
                if method.name in self.model.defaults
            },
            **found,
        )


@dataclass(frozen=True)
class Edited:
    """One candidate for a window, at the model's size."""

    patch: UInt8[np.ndarray, "h w 3"]
    painted: Painted
    score: float | None


def edited_place(mask: Any, regions: Sequence[Region], size: tuple[int, int]) -> Mask:
    """The mask as bool, or as opacity where it is a float.

    Raises:
        UsageError: no mask, an empty one, values outside [0, 1], or another size than the photo's (width, height).
    """
    if mask is None:
        if not regions:
            raise UsageError("There is no mask; point at a place, or give a mask.")
        mask = np.max([region.tensor().numpy() for region in regions], axis=0)
    array = np.asarray(mask.detach().cpu() if isinstance(mask, Tensor) else mask)
    if array.ndim != 2:
        raise UsageError(f"The mask has shape {array.shape}; a mask is (height, width).")
    if array.shape != (size[1], size[0]):
        raise UsageError(
            f"The mask is {array.shape[1]}x{array.shape[0]} and the photo {size[0]}x{size[1]}; make them one size or "
            "let the mask be resized (--mask-fit resize)."
        )
    if array.dtype == np.uint8:
        array = array >= 128
    if array.dtype != bool:
        array = array.astype(np.float32)
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise UsageError("The mask has values outside 0 to 1.")
    if not array.any():
        raise UsageError("The mask is empty; white means edit.")
    return array


def pasted(photo: Photo, patch: UInt8[np.ndarray, "h w 3"], place: Mask, crop: Crop, job: Job, factor: int) -> Photo:
    """`photo` with a window's edit composited in."""
    feather = max(1.0, round(factor / 2 / crop.scale)) if job.feather is None else job.feather
    made = composite(
        crop.take(photo.pixels),
        crop.restore(patch),
        crop.take(place),
        feather=feather,
        method=job.composite,
        match_colour=job.match_colour,
    )
    return photo.with_patch(made.pixels, made.region, at=(crop.inside.left, crop.inside.top))


def eight_bit(pixels: Float[Tensor, "b 3 H W"]) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Pixels in [-1, 1] as bytes."""
    scaled = (pixels.float() / 2 + 0.5).clamp(0, 1).mul(255).round().byte()
    return [picture.permute(1, 2, 0).cpu().numpy() for picture in scaled]


def described(guidance: Guidance | None) -> tuple[Method, ...]:
    """A guidance value as the record keeps it: each method's name and what differs from its defaults."""
    if guidance is None:
        return ()
    from ..guidance.methods import METHODS

    names = {cls: name for name, cls in METHODS.items()}
    return tuple(
        Method(
            name=names.get(type(member), type(member).__name__),
            parameters={
                field.name: plain(value)
                for field in fields(member)
                if (value := getattr(member, field.name)) is not field.default and value != field.default
            },
        )
        for member in members(guidance)
    )


def plain(value: Any) -> Any:
    """A parameter as JSON holds it."""
    return value if isinstance(value, int | float | str | bool | dict | list | tuple | None) else repr(value)


def spread(on_step: Progress | None, parts: int) -> Any:
    """One progress callback per part, counting through all of them."""
    for part in range(parts):
        yield None if on_step is None else (lambda done, total, part=part: on_step(part * total + done, parts * total))


def recorded(guidance: Guidance | None, words: Sequence[str]) -> tuple[Guidance, Callable[[], Attention | None]]:
    """The guidance with a recorder of attention behind it, and what to call for the record when all has run."""
    if not words:
        return guidance or Guidance(), lambda: None
    records: list[Attention] = []
    recorder = RecordAttention(tuple(words), records.append)
    return Chain((guidance or Guidance(), recorder)), lambda: Attention.gathered(records)
