"""CLIP's tokenizer straight from the `tokenizers` library, under transformers' names: its import costs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Tokenizer:
    """The tokenizer of a folder in diffusers layout: tokenizer.json, or the older vocab.json with merges.txt."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Backend

        written = folder / "tokenizer.json"
        self.backend: Any = Backend.from_file(str(written)) if written.exists() else from_merges(folder)
        self.backend.no_truncation()
        self.backend.no_padding()
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        marks = {
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            **settings,
        }
        self.model_max_length = int(settings["model_max_length"])
        self.bos_token_id, self.eos_token_id, self.pad_token_id = (
            self.backend.token_to_id(mark["content"] if isinstance(mark, dict) else mark)
            for mark in (marks["bos_token"], marks["eos_token"], marks["pad_token"])
        )

    def encode(self, text: str, add_special_tokens: bool = False, verbose: bool = False) -> list[int]:
        """Token ids of a text, uncut."""
        return list(self.backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        return str(self.backend.decode(list(tokens))).replace("</w>", " ").strip()

    def convert_ids_to_tokens(self, tokens: Sequence[int]) -> list[str]:
        """The pieces themselves; those that end a word end in </w>."""
        return [self.backend.id_to_token(token) for token in tokens]


def from_merges(folder: Path) -> Any:
    """CLIP's byte-pair encoding (openai/CLIP, simple_tokenizer.py) over a vocabulary and its merges."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    backend = Tokenizer(
        BPE.from_file(
            str(folder / "vocab.json"),
            str(folder / "merges.txt"),
            end_of_word_suffix="</w>",
            unk_token="<|endoftext|>",
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(mark, normalized=False) for mark in ("<|startoftext|>", "<|endoftext|>")])
    return backend
