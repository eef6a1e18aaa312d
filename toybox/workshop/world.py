"""What toybox's world holds: nouns, their sprites and synonyms, grounds, and how scenes are drawn of them.

Nothing heavy is imported here; the vocabulary, the renderer and the trainer all read these tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..vocabulary import words_of


def plural_of(word: str) -> str:
    """The regular plural."""
    return word[:-1] + "ies" if word.endswith("y") else word + "s"


@dataclass(frozen=True)
class Noun:
    """A thing of the world: sprite's code point, plural and synonyms (singular)."""

    name: str
    code: str
    plural: str
    synonyms: tuple[str, ...] = ()

    @property
    def forms(self) -> tuple[str, ...]:
        """How captions say it: the name and the synonyms, in singular and plural."""
        return self.name, self.plural, *self.synonyms, *(plural_of(word) for word in self.synonyms)


@dataclass(frozen=True)
class Ground:
    """A kind of background: how people say where a thing stands on it, and whether it catches a shadow."""

    name: str
    phrases: tuple[str, ...]
    shadow: bool = True


def _noun(name: str, code: str, *synonyms: str, plural: str = "") -> Noun:
    return Noun(name, code, plural or plural_of(name), synonyms)


NOUNS: tuple[Noun, ...] = (
    _noun("apple", "1f34e"),
    _noun("banana", "1f34c"),
    _noun("mushroom", "1f344", "toadstool"),
    _noun("strawberry", "1f353"),
    _noun("pumpkin", "1f383", "jack-o-lantern"),
    _noun("donut", "1f369", "doughnut"),
    _noun("cat", "1f431", "kitty", "kitten"),
    _noun("dog", "1f436", "puppy"),
    _noun("duck", "1f986", "mallard"),
    _noun("fish", "1f41f", plural="fish"),
    _noun("frog", "1f438", "toad"),
    _noun("car", "1f697", "automobile"),
    _noun("house", "1f3e0", "cottage", "home"),
    _noun("tree", "1f333", "oak"),
    _noun("cactus", "1f335", plural="cactuses"),
    _noun("ball", "26bd", "football"),
)

GROUNDS: tuple[Ground, ...] = (
    Ground("grass", ("on grass", "in the grass", "on a lawn", "in a meadow")),
    Ground("sand", ("on sand", "in the sand", "on a beach", "in the desert")),
    Ground("snow", ("in snow", "in the snow", "on the snow")),
    Ground("water", ("on water", "in the water", "in the sea", "on a lake"), shadow=False),
    Ground("sky", ("in the sky", "in front of the sky"), shadow=False),
    Ground("night", ("at night", "in the night", "in the dark"), shadow=False),
    Ground("brick", ("in front of a brick wall", "by a brick wall"), shadow=False),
    Ground("wood", ("on wood", "on a wooden floor", "on a wooden table")),
)
PHOTO = Ground("photo", ("in a photo", "on a photo"))

_UNSEEN = """
    shiny little old new pretty soft big small tall funny lonely happy sad lovely plain strange bright dusty wet quiet
    fresh ripe tiny huge cute fine nice simple modern ancient beautiful striped realistic detailed famous broken clean
    dirty heavy light warm cold round flat smooth rough silver golden magic wild tame sleepy brave
"""
UNSEEN: tuple[str, ...] = tuple(_UNSEEN.split())
"""Words that name nothing of the world; captions carry one now and then, so that they do no harm in a prompt."""


_FILLERS = "a an the and with next to of in on at by front there is one two three picture photo"
FILLERS: tuple[str, ...] = tuple(_FILLERS.split())
"""What captions say between names, and what people say besides."""


SMALLEST = 0.10
"""The smallest side of an object, as a share of the picture's."""
EDITED = (0.30, 0.44)
"""(smallest, largest) side of a thing alone in an edit: it stands whole in a mask of half the window's side."""
OFF_CENTRE = 0.02
"""How far such a thing stands from the middle at most, as a share of the side, in x and in y."""


@dataclass(frozen=True)
class World:
    """What is drawn, and how. Sizes are shares of the side; counts, of scenes with 0, 1, 2… objects."""

    size: int
    nouns: tuple[Noun, ...]
    grounds: tuple[Ground, ...]
    counts: tuple[float, ...]
    sizes: tuple[tuple[float, float], ...]
    """(smallest, largest) side of an object in scenes of 1, 2, 3 objects."""
    stretch: float
    rotation: float
    """Degrees to either side."""
    photos: float
    """Share of scenes on a crop of a real photo."""
    edits: bool
    """Whether a scene on a photo is what an edit's window shows: a thing alone stands in the middle, and the caption
    names no place. The benchmark's things stand anywhere."""
    small: float
    """Share of scenes with one object in which that is down to `SMALLEST` of the side."""
    twins: float
    """Share of the scenes with several objects in which all are of one noun."""
    doubles: float
    """Share of them in which the first two are, and the third as it comes."""
    occlusion: float
    """How much two objects may overlap, as a share of the sum of their half sides."""


WORLD = World(
    size=256,
    nouns=NOUNS,
    grounds=GROUNDS,
    counts=(0.06, 0.43, 0.38, 0.13),
    sizes=((0.25, 0.75), (0.23, 0.50), (0.17, 0.38)),
    stretch=0.15,
    rotation=12.0,
    photos=0.45,
    edits=True,
    small=0.05,
    twins=0.04,
    doubles=0.35,
    occlusion=0.05,
)
"""What toybox is trained on. An edit's window is cut around its mask, so one thing fills a good part of a scene."""


def describe(world: World) -> dict[str, Any]:
    """What `world.json` holds: every class's forms, the grounds, and all known words."""
    nouns = {noun.name: list(noun.forms) for noun in world.nouns}
    grounds = {ground.name: list(ground.phrases) for ground in world.grounds}
    phrases = [phrase for part in (*nouns.values(), *grounds.values()) for phrase in part]
    text = [*FILLERS, *grounds, *phrases]
    return {
        "size": world.size,
        "nouns": nouns,
        "grounds": grounds,
        "words": sorted(set(words_of(" ".join(text)))),
    }
