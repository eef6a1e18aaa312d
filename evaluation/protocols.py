"""The papers' protocols: which pictures of a dataset count, and what is asked of them.

- `all`: every picture with instances that one of its captions names; a region per instance.
- `mag`: MAG section 4.1: of those, pictures with 2 to 4 instances and no person.
- `zest-all`, `zest-filtered`, `zest-few`: ZestGuide section 4.1: a region per class (instances of one class merged);
  every segment, those of at least 5 % of the picture, or one to three of these; the prompt is a caption followed by the
  names of the classes.
- `same`, `other`: edits as in MAG Table 4: the mask of one instance, and the prompt names its class, or another one.
  The instance is the only one of its class (others, which an edit leaves there, would count as its spill) and covers
  at least 1 % of the picture; the paper says neither.
- `remove`: one instance of each picture of which the dataset knows what is behind it; the prompt is its ground.

Captions, segments and classes are chosen with a generator per picture, so that the choice for a picture does not depend
on which others are there.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ..errors import UsageError
from .datasets import Dataset, Picture, Segment, union

LEAST_SHARE = 0.05
MOST_SEGMENTS = 3
LEAST_EDITED_SHARE = 0.01


@dataclass(frozen=True)
class Placement:
    """A segment and the phrase of the prompt that belongs there."""

    words: str
    segment: Segment


@dataclass(frozen=True)
class Scene:
    """One thing to make: a prompt, its places, and the picture that both come from."""

    picture: Picture
    prompt: str
    placements: tuple[Placement, ...]

    @property
    def name(self) -> str:
        return self.picture.name

    @property
    def categories(self) -> set[str]:
        """The classes asked for, in lower case."""
        return {placement.segment.category.lower() for placement in self.placements}

    @property
    def masks(self) -> list[Bool[np.ndarray, "h w"]]:
        return [placement.segment.mask for placement in self.placements]

    def instances(self) -> dict[str, list[Bool[np.ndarray, "h w"]]]:
        """The masks of a class's places, one by one."""
        masks: dict[str, list[Bool[np.ndarray, "h w"]]] = {}
        for placement in self.placements:
            masks.setdefault(placement.segment.category, []).append(placement.segment.mask)
        return masks

    def class_masks(self) -> dict[str, Bool[np.ndarray, "h w"]]:
        """The masks of a class's places, merged: what a perfect segmentation of a perfect image says."""
        return {category: np.logical_or.reduce(masks) for category, masks in self.instances().items()}


class _UnsuitedError(Exception):
    """Why a picture has no part in a protocol."""


def select_scenes(dataset: Dataset, protocol: str, seed: int = 0) -> tuple[list[Scene], dict[str, int]]:
    """The scenes that a protocol takes from a dataset, and how many pictures it leaves out, by reason.

    Raises UsageError for an unknown protocol, or if no picture is left.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol '{protocol}'; choose from {', '.join(PROTOCOLS)}.")
    scenes, left_out = [], Counter(dataset.skipped)
    for picture in dataset.pictures:
        try:
            scenes.append(PROTOCOLS[protocol](picture, dataset, np.random.default_rng([seed, picture.id])))
        except _UnsuitedError as reason:
            left_out[str(reason)] += 1
    if not scenes:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise UsageError(f"No picture of {dataset.name} suits the protocol '{protocol}' ({reasons}); choose another.")
    return scenes, dict(left_out)


def named_classes(caption: str, spellings: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The categories that a caption names as whole words, singular or plural, each as it is first spelled there.

    The longest spelling wins: "a hot dog" names no dog.
    """
    pairs = [(spelling.replace("_", " "), category) for category, names in spellings.items() for spelling in names]
    pairs.sort(key=lambda pair: -len(pair[0]))
    pattern = "|".join(f"(?P<name{index}>{_forms(spelling)})" for index, (spelling, _) in enumerate(pairs))
    found: dict[str, str] = {}
    for match in re.finditer(rf"\b(?:{pattern})\b", caption, re.IGNORECASE):
        _, category = pairs[int(str(match.lastgroup).removeprefix("name"))]
        found.setdefault(category, match.group())
    return found


def _forms(name: str) -> str:
    for ending, forms in (("fe", "(?:fe|ves)"), ("y", "(?:y|ies|ys)")):
        if name.endswith(ending):
            return re.escape(name.removesuffix(ending)) + forms
    return re.escape(name) + "(?:s|es)?"


def _every_instance(picture: Picture, dataset: Dataset, rng: np.random.Generator) -> Scene:
    if not picture.instances:
        raise _UnsuitedError("no instance")
    if any(instance.crowd for instance in picture.instances):
        raise _UnsuitedError("a crowd")
    if not picture.captions:
        raise _UnsuitedError("no caption")
    classes = {instance.category for instance in picture.instances}
    naming = [(caption, named_classes(caption, dataset.spellings)) for caption in picture.captions]
    naming = [(caption, named) for caption, named in naming if classes <= named.keys()]
    if not naming:
        raise _UnsuitedError("no caption that names every class")
    caption, named = naming[rng.integers(len(naming))]
    placements = tuple(Placement(named[instance.category], instance) for instance in picture.instances)
    return Scene(picture, caption.strip(), placements)


def _mag(picture: Picture, dataset: Dataset, rng: np.random.Generator) -> Scene:
    if any(instance.category == "person" for instance in picture.instances):
        raise _UnsuitedError("a person")
    if not 2 <= len(picture.instances) <= 4:
        raise _UnsuitedError("not 2 to 4 instances")
    return _every_instance(picture, dataset, rng)


def _segments(picture: Picture) -> list[Segment]:
    """One segment per class, things before stuff, without COCO-Stuff's class for all that is a thing."""
    by_class: dict[str, list[Segment]] = {}
    for segment in (*picture.instances, *(segment for segment in picture.stuff if segment.category != "other")):
        by_class.setdefault(segment.category, []).append(segment)
    return [union(segments) for segments in by_class.values()]


def _plain(category: str) -> str:
    """COCO-Stuff's `wall-brick` and `sky-other` as words."""
    return category.removesuffix("-other").replace("-", " ")


def _zest(picture: Picture, segments: list[Segment], rng: np.random.Generator) -> Scene:
    if not segments:
        raise _UnsuitedError("no segment that is large enough")
    if not picture.captions:
        raise _UnsuitedError("no caption")
    caption = picture.captions[rng.integers(len(picture.captions))].strip().rstrip(".")
    placements = tuple(Placement(_plain(segment.category), segment) for segment in segments)
    return Scene(picture, ", ".join([caption, *(placement.words for placement in placements)]), placements)


def _zest_all(picture: Picture, dataset: Dataset, rng: np.random.Generator) -> Scene:
    return _zest(picture, _segments(picture), rng)


def _large(picture: Picture) -> list[Segment]:
    return [segment for segment in _segments(picture) if segment.share >= LEAST_SHARE]


def _zest_filtered(picture: Picture, dataset: Dataset, rng: np.random.Generator) -> Scene:
    return _zest(picture, _large(picture), rng)


def _zest_few(picture: Picture, dataset: Dataset, rng: np.random.Generator) -> Scene:
    large = _large(picture)
    kept = rng.permutation(len(large))[: rng.integers(1, MOST_SEGMENTS + 1)]
    return _zest(picture, [large[index] for index in sorted(kept)], rng)


def _one_instance(picture: Picture, rng: np.random.Generator) -> Segment:
    counts = Counter(instance.category for instance in picture.instances)
    alone = [instance for instance in picture.instances if counts[instance.category] == 1 and not instance.crowd]
    alone = [instance for instance in alone if instance.share >= LEAST_EDITED_SHARE]
    if not alone:
        raise _UnsuitedError("no instance that is large enough and alone of its class")
    if not picture.file.is_file():
        raise _UnsuitedError("no image file")
    return alone[rng.integers(len(alone))]


def _edit(picture: Picture, category: str, instance: Segment) -> Scene:
    article = "an" if category[0] in "aeiou" else "a"
    return Scene(picture, f"{article} {category}", (Placement(category, Segment(category, instance.rle)),))


def _same(picture: Picture, dataset: Dataset, rng: np.random.Generator) -> Scene:
    instance = _one_instance(picture, rng)
    return _edit(picture, instance.category, instance)


def _other(picture: Picture, dataset: Dataset, rng: np.random.Generator) -> Scene:
    instance = _one_instance(picture, rng)
    present = {segment.category for segment in (*picture.instances, *picture.stuff)}
    things = sorted({found.category for other in dataset.pictures for found in other.instances} - present)
    if not things:
        raise _UnsuitedError("no class that is absent from it")
    return _edit(picture, things[rng.integers(len(things))], instance)


def _remove(picture: Picture, dataset: Dataset, rng: np.random.Generator) -> Scene:
    known = [instance for instance in picture.instances if instance.behind]
    if not known:
        raise _UnsuitedError("no instance that is known to hide something")
    instance = known[rng.integers(len(known))]
    ground = "a photo" if picture.ground == "photo" else picture.ground
    return Scene(picture, ground, (Placement(instance.category, instance),))


PROTOCOLS: Mapping[str, Callable[[Picture, Dataset, np.random.Generator], Scene]] = {
    "all": _every_instance,
    "mag": _mag,
    "zest-all": _zest_all,
    "zest-filtered": _zest_filtered,
    "zest-few": _zest_few,
    "same": _same,
    "other": _other,
    "remove": _remove,
}
