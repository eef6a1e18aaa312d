"""Toybox's own CLIP tokenizer: byte-level BPE learnt from the world's words, so that each of them is one piece.

Any other word falls into subwords. `LENGTH` is short on purpose: padding draws attention away from words.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import CLIPTokenizer

from .captions import NUMBERS
from .vocabulary import FILLERS
from .world import COLOURS, GROUNDS, NOUNS, PHOTO, UNSEEN

LENGTH = 20
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def corpus() -> list[str]:
    """Every word that a caption can hold, then letters and common syllables for words that none holds."""
    names = [form for noun in NOUNS for form in noun.forms]
    phrases = [phrase for ground in (*GROUNDS, PHOTO) for phrase in (ground.name, *ground.phrases)]
    text = " ".join([*names, *phrases, *COLOURS, *NUMBERS.values(), *UNSEEN, *FILLERS])
    return sorted(set(text.replace("-", " ").split()))


def build(folder: Path) -> CLIPTokenizer:
    """Learns the merges and writes the tokenizer to `folder`."""
    words = corpus()
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=4000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(words, trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), *dict.fromkeys("".join(merge) for merge in merges)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, BOS, EOS])}
    tokenizer = CLIPTokenizer(vocabulary, merges, model_max_length=LENGTH)  # type: ignore[arg-type]
    write_files(tokenizer, folder)
    return tokenizer


def write_files(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes the tokenizer in the new and in the old file format."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(merge)}\n" for merge in model["merges"]))
