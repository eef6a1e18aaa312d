"""What a caller asks for: refuse guidance that is none, and say what may surprise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch.nn.functional as F

from ..errors import UsageError
from ..guidance.base import Guidance, members
from ..guidance.methods import chained
from ..guidance.regions import Region
from .job import Method, SamplingJob


def check_kinds(guidance: Any, regions: Any) -> None:
    """Refuse names, dictionaries and the like where values belong.

    Raises:
        UsageError: `guidance` is neither None nor a `Guidance`, `regions` no sequence of `Region`.
    """
    for one in () if guidance is None else members(guidance):
        if not isinstance(one, Guidance):
            raise UsageError(
                f"guidance cannot be a {type(one).__name__}; give a Guidance such as Zest(), or several as "
                "Chain((Zest(), PaintWithWords()))."
            )
    for one in regions if isinstance(regions, Sequence) else [regions]:
        if one is regions or not isinstance(one, Region):
            raise UsageError(f"regions takes a list of Region(mask, words), not a {type(one).__name__}.")


def guidance_of(methods: Sequence[Method]) -> Guidance:
    """A record's methods as one value.

    Raises:
        UsageError: an unknown method or parameter, or a value that it cannot have.
    """
    return chained(tuple((one.name, one.parameters) for one in methods))


def methods_at_work(job: SamplingJob) -> tuple[str, ...]:
    """Names of the job's methods but plain classifier-free guidance."""
    return tuple(method.name for method in job.method or () if method.name != "plain")


def surprises(job: SamplingJob, regions: Sequence[Region], words: Sequence[str]) -> list[str]:
    """A sentence for guidance without a place, words without guidance, or each pair of regions that overlap."""
    names = methods_at_work(job)
    if not names:
        named = " and ".join(map(repr, words))
        said = f"Nothing guides {named} to a place without a method; choose one, such as masked-attention."
        return [said] if named else []
    if not regions:
        guide = "guides" if len(names) == 1 else "guide"
        return [f"{' and '.join(names)} {guide} nothing without regions; give a layout."]
    return overlaps(regions)


def far_from_native(size: tuple[int, int], native: tuple[int, int]) -> list[str]:
    """A sentence for a picture of twice or more, or less than a quarter, of the pixels that the model is made for."""
    times = size[0] * size[1] / (native[0] * native[1])
    if 0.25 <= times < 2:
        return []
    fate = "come several times" if times >= 2 else "be missing"
    return [f"The model is made for {native[1]}x{native[0]} pixels; at {size[1]}x{size[0]} things may {fate}."]


def overlaps(regions: Sequence[Region]) -> list[str]:
    """One sentence for each pair of regions that share pixels."""
    said = []
    for (one, mask), (other, second) in combinations([(region, region.tensor()) for region in regions], 2):
        fitted = F.interpolate(second[None, None], mask.shape)[0, 0]
        shared = float(((mask >= 0.5) & (fitted >= 0.5)).float().mean())
        if shared > 0:
            said.append(
                f"The regions {one.words!r} and {other.words!r} overlap on {100 * shared:.1f} % of the picture: "
                "both are guided there."
            )
    return said
