"""Captions as a person writes them, with the place of every noun in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .world import UNSEEN, Ground, Noun, plural_of


@dataclass(frozen=True)
class Caption:
    """`words` in order; `names[k]` says at which word, and of which objects, the k-th mentioned thing is."""

    words: tuple[str, ...]
    names: tuple[tuple[int, tuple[int, ...]], ...]

    @property
    def text(self) -> str:
        return " ".join(self.words).replace(" ,", ",")


NUMBERS = {2: "two", 3: "three"}


def write(random: Random, nouns: Sequence[Noun], ground: Ground, placed: bool = True) -> Caption:
    """A caption of a scene with `nouns` (one per object, repeats allowed) on `ground`, mostly named if `placed`."""
    groups: dict[str, list[int]] = {}
    for index, noun in enumerate(nouns):
        groups.setdefault(noun.name, []).append(index)
    mentions = list(groups.values())
    random.shuffle(mentions)  # the order of mention says nothing of place or size

    words: list[str] = []
    names: list[tuple[int, tuple[int, ...]]] = []
    if not mentions:
        words += ["a", random.choice(("photo", "picture"))] if ground.name == "photo" else []
    elif random.random() < 0.2:
        words += ["a", "photo" if ground.name == "photo" else "picture", "of"]
    for position, objects in enumerate(mentions):
        if position:
            last = position == len(mentions) - 1
            words += [random.choice(("and", "and", "and", "next to", "with"))] if last else [","]
        words += _phrase(random, nouns[objects[0]], len(objects))
        names.append((len(words) - 1, tuple(objects)))
    if ground.name == "photo" and not mentions:
        pass
    elif not words or (placed and random.random() < 0.7):
        words += random.choice(ground.phrases).split()[0 if words else 1 :]
    return _split(words, names)


def _phrase(random: Random, noun: Noun, count: int) -> list[str]:
    name = random.choice(noun.synonyms) if noun.synonyms and random.random() < 0.15 else noun.name
    adjectives = [random.choice(UNSEEN)] if random.random() < 0.05 else []
    if count > 1:
        plural = noun.plural if name == noun.name else plural_of(name)
        return [NUMBERS[count], *adjectives, plural]
    first = (adjectives or [name])[0]
    article = random.choices(("an" if first[0] in "aeiou" else "a", "the", ""), (0.75, 0.15, 0.1))[0]
    return [*([article] if article else []), *adjectives, name]


def _split(words: list[str], names: list[tuple[int, tuple[int, ...]]]) -> Caption:
    """Parts like "next to" become words of their own, and the names' places follow."""
    starts: list[int] = []
    flat: list[str] = []
    for word in words:
        starts.append(len(flat))
        flat += word.split()
    return Caption(tuple(flat), tuple((starts[place], objects) for place, objects in names))
