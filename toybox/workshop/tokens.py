"""Toybox's own CLIP tokenizer: byte-level BPE learnt from the world's words, so that each of them is one piece.

Any other word falls into subwords. `LENGTH` is short on purpose: padding draws attention away from words.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from .captions import NUMBERS
from .world import FILLERS, GROUNDS, NOUNS, PHOTO, UNSEEN

LENGTH = 20
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def corpus() -> list[str]:
    """Every word that a caption of any configuration can hold."""
    names = [form for noun in NOUNS for form in noun.forms]
    phrases = [phrase for ground in (*GROUNDS, PHOTO) for phrase in (ground.name, *ground.phrases)]
    text = " ".join([*names, *phrases, *NUMBERS.values(), *UNSEEN, *FILLERS])
    return sorted(set(text.replace("-", " ").split()))


def learn(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges until every word is one piece; ties go by the pieces' text, so they are the same every time.

    (The trainer of `tokenizers` breaks ties at random, which swapped the ids of "cat" and "car" between two runs.)
    """
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while pairs := Counter(pair for pieces in split for pair in pairwise(pieces)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [_merged(pieces, best) for pieces in split]
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    whole: list[str] = []
    for piece in pieces:
        if whole and (whole[-1], piece) == pair:
            whole[-1] += piece
        else:
            whole.append(piece)
    return whole


def build(folder: Path) -> CLIPTokenizer:
    """Learns the merges and writes the tokenizer to `folder`."""
    merges = learn(corpus())
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), *dict.fromkeys("".join(merge) for merge in merges)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, BOS, EOS])}
    tokenizer = CLIPTokenizer(vocabulary, merges, model_max_length=LENGTH)
    write_files(tokenizer, folder)
    return tokenizer


def write_files(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes the tokenizer in the new and in the old file format."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(merge)}\n" for merge in model["merges"]))
