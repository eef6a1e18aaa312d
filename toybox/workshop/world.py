"""What toybox's world holds: nouns, their sprites and synonyms, colours, grounds, and the configurations' worlds.

Nothing heavy is imported here; the vocabulary, the renderer and the trainer all read these tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..vocabulary import words_of


def plural_of(word: str) -> str:
    """The regular plural."""
    return word[:-1] + "ies" if word.endswith("y") else word + "s"


@dataclass(frozen=True)
class Noun:
    """A thing of the world: sprite's code point, plural, synonyms (singular), and whether a hue shift reads well."""

    name: str
    code: str
    plural: str
    synonyms: tuple[str, ...] = ()
    colourable: bool = False

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


def _noun(name: str, code: str, *synonyms: str, plural: str = "", colourable: bool = False) -> Noun:
    return Noun(name, code, plural or plural_of(name), synonyms, colourable)


NOUNS: tuple[Noun, ...] = (
    _noun("apple", "1f34e", colourable=True),
    _noun("banana", "1f34c"),
    _noun("mushroom", "1f344", "toadstool", colourable=True),
    _noun("strawberry", "1f353"),
    _noun("pumpkin", "1f383", "jack-o-lantern"),
    _noun("donut", "1f369", "doughnut"),
    _noun("cat", "1f431", "kitty", "kitten"),
    _noun("dog", "1f436", "puppy"),
    _noun("duck", "1f986", "mallard"),
    _noun("fish", "1f41f", plural="fish", colourable=True),
    _noun("frog", "1f438", "toad"),
    _noun("car", "1f697", "automobile", colourable=True),
    _noun("house", "1f3e0", "cottage", "home"),
    _noun("tree", "1f333", "oak"),
    _noun("cactus", "1f335", plural="cactuses"),
    _noun("ball", "26bd", "football"),
    _noun("turtle", "1f422", "tortoise"),
    _noun("snowman", "26c4", plural="snowmen"),
    _noun("cup", "2615", "mug"),
    _noun("bear", "1f9f8", "teddy"),
    _noun("rocket", "1f680", "spaceship", colourable=True),
    _noun("boat", "26f5", "sailboat"),
    _noun("balloon", "1f388", colourable=True),
    _noun("umbrella", "2602-fe0f", "parasol", colourable=True),
    _noun("cake", "1f382"),
    _noun("carrot", "1f955"),
    _noun("tomato", "1f345", plural="tomatoes"),
    _noun("lemon", "1f34b"),
    _noun("orange", "1f34a"),
    _noun("pear", "1f350", colourable=True),
    _noun("egg", "1f95a", colourable=True),
    _noun("cheese", "1f9c0", plural="cheeses"),
    _noun("burger", "1f354", "hamburger"),
    _noun("pizza", "1f355"),
    _noun("sunflower", "1f33b"),
    _noun("rose", "1f339", "flower", colourable=True),
    _noun("pig", "1f437", "piglet"),
    _noun("cow", "1f42e"),
    _noun("rabbit", "1f430", "bunny"),
    _noun("panda", "1f43c"),
    _noun("fox", "1f98a", plural="foxes"),
    _noun("lion", "1f981"),
    _noun("elephant", "1f418"),
    _noun("owl", "1f989"),
    _noun("penguin", "1f427"),
    _noun("octopus", "1f419", plural="octopuses", colourable=True),
    _noun("snail", "1f40c"),
    _noun("bee", "1f41d", "bumblebee"),
    _noun("butterfly", "1f98b", colourable=True),
    _noun("ladybug", "1f41e", "ladybird"),
    _noun("truck", "1f69a", "lorry", colourable=True),
    _noun("bus", "1f68c", plural="buses", colourable=True),
    _noun("bicycle", "1f6b2", "bike", colourable=True),
    _noun("gift", "1f381", "present", colourable=True),
    _noun("bell", "1f514", colourable=True),
    _noun("star", "2b50", colourable=True),
    _noun("hat", "1f3a9"),
    _noun("crown", "1f451", colourable=True),
    _noun("backpack", "1f392", "rucksack", colourable=True),
    _noun("chair", "1fa91"),
    _noun("drum", "1f941", colourable=True),
    _noun("guitar", "1f3b8", colourable=True),
    _noun("teapot", "1fad6", "kettle", colourable=True),
    _noun("robot", "1f916", colourable=True),
    _noun("ghost", "1f47b", plural="ghosts"),
    _noun("dinosaur", "1f996", colourable=True),
    _noun("crab", "1f980", colourable=True),
    _noun("whale", "1f433", colourable=True),
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
    Ground("stone", ("on stone", "on a stone floor", "on the pavement")),
    Ground("tiles", ("on tiles", "on a tiled floor")),
    Ground("carpet", ("on a carpet", "on the rug")),
    Ground("paper", ("on paper", "on a white page")),
)
PHOTO = Ground("photo", ("in a photo", "on a photo"))

COLOURS: dict[str, float] = {
    "red": 0.0, "orange": 28.0, "yellow": 52.0, "green": 120.0,
    "teal": 178.0, "blue": 215.0, "purple": 270.0, "pink": 325.0,
}  # fmt: skip
"""Colour names and their hues in degrees."""

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


@dataclass(frozen=True)
class World:
    """One configuration's world. Sizes are shares of the side; counts, of scenes with 0, 1, 2… objects."""

    name: str
    size: int
    nouns: tuple[Noun, ...]
    grounds: tuple[Ground, ...]
    colours: tuple[str, ...]
    counts: tuple[float, ...]
    sizes: tuple[tuple[float, float], ...]
    """(smallest, largest) side of an object in scenes of 1, 2, 3 objects."""
    stretch: float
    rotation: float
    """Degrees to either side."""
    photos: float
    """Share of scenes on a crop of a real photo."""
    small: float
    """Share of scenes with one object in which that is down to `SMALLEST` of the side."""
    occlusion: float
    """How much two objects may overlap, as a share of the sum of their half sides."""


WORLDS: dict[str, World] = {
    "mini": World(
        name="mini",
        size=128,
        nouns=NOUNS[:16],
        grounds=GROUNDS[:8],
        colours=(),
        counts=(0.04, 0.56, 0.40),
        sizes=((0.32, 0.70), (0.27, 0.52)),
        stretch=0.15,
        rotation=12.0,
        photos=0.35,
        small=0.0,
        occlusion=0.25,
    ),
    "base": World(
        name="base",
        size=256,
        nouns=NOUNS,
        grounds=GROUNDS,
        colours=tuple(COLOURS),
        counts=(0.03, 0.42, 0.35, 0.20),
        sizes=((0.15, 0.80), (0.12, 0.60), (0.10, 0.45)),
        stretch=0.3,
        rotation=25.0,
        photos=0.3,
        small=0.0,
        occlusion=0.4,
    ),
}

WORLDS["toybox"] = replace(
    WORLDS["mini"],
    name="toybox",
    size=256,
    counts=(0.04, 0.66, 0.22, 0.08),
    sizes=((0.25, 0.75), (0.20, 0.50), (0.16, 0.38)),
    small=0.12,
    photos=0.45,
    occlusion=0.15,
)
"""The things of `mini` as edits show them: a window is cut around the mask, so one thing fills a good part of it."""


def describe(world: World) -> dict[str, Any]:
    """What `world.json` holds: every class's forms, the colours, the grounds, and all known words."""
    nouns = {noun.name: list(noun.forms) for noun in world.nouns}
    grounds = {ground.name: list(ground.phrases) for ground in world.grounds}
    phrases = [phrase for part in (*nouns.values(), *grounds.values()) for phrase in part]
    text = [*FILLERS, *world.colours, *grounds, *phrases]
    return {
        "configuration": world.name,
        "size": world.size,
        "nouns": nouns,
        "colours": list(world.colours),
        "grounds": grounds,
        "words": sorted(set(words_of(" ".join(text)))),
    }
