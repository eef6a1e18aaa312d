"""Prompts: their embeddings, and the tokens that belong to a phrase."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import UsageError

COMMON = frozenset(["a", "an", "the", "and", "or", "of", "in", "on", "at", "by", "to", "with", "from"])
"""Words that nobody means who asks for a thing."""

WORD = re.compile(r"[^\s,.;:!?]+")


@dataclass(frozen=True)
class Embedding:
    """Encoded prompts of a batch."""

    states: Float[Tensor, "b tokens d"]
    pooled: Float[Tensor, "b p"] | None = None
    """SDXL's pooled embedding."""
    picture: Float[Tensor, "b 1 ..."] | None = None
    """What an IP-Adapter is shown beside the text."""

    def __len__(self) -> int:
        return len(self.states)

    @staticmethod
    def cat(parts: Sequence[Embedding]) -> Embedding:
        pooled = [part.pooled for part in parts if part.pooled is not None]
        pictures = [part.picture for part in parts if part.picture is not None]
        return Embedding(
            torch.cat([part.states for part in parts]),
            torch.cat(pooled) if pooled else None,
            torch.cat(pictures) if pictures else None,
        )

    def to(self, device: torch.device) -> Embedding:
        moved = [None if part is None else part.to(device) for part in (self.pooled, self.picture)]
        return Embedding(self.states.to(device), *moved)

    def repeat(self, count: int) -> Embedding:
        """One prompt for `count` samples."""
        return Embedding.cat([self] * count)


class Prompts:
    """One or two CLIP text encoders with their tokenizers, as Stable Diffusion (one) and SDXL (two) use them."""

    def __init__(self, tokenizers: Sequence[Any], encoders: Sequence[Any], zero_empty: bool = False) -> None:
        self.tokenizers, self.encoders, self.zero_empty = tuple(tokenizers), tuple(encoders), zero_empty

    @property
    def limit(self) -> int:
        """Tokens of a prompt that the model reads, without the begin and end marks."""
        return int(self.tokenizers[0].model_max_length) - 2

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], negative: bool = False) -> Embedding:
        """Embed prompts; an empty `negative` one is all zeros where the model was trained so (SDXL)."""
        states, pooled = [], None
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            device = next(encoder.parameters()).device
            ids = torch.tensor([self._padded(tokenizer, prompt) for prompt in prompts], device=device)
            out = encoder(ids, output_hidden_states=True)  # no mask: Stable Diffusion attends to its padding
            if len(self.encoders) == 1:
                return Embedding(out.last_hidden_state)
            states.append(out.hidden_states[-2])
            if hasattr(encoder, "text_projection"):  # its own pooling may take a learned word for the end mark
                ends = (ids == tokenizer.eos_token_id).int().argmax(dim=1)
                pooled = encoder.text_projection(out.last_hidden_state[torch.arange(len(ids), device=device), ends])
        joined = torch.cat(states, dim=-1)
        assert pooled is not None, "SDXL's second text encoder projects"
        if negative and self.zero_empty:
            kept = torch.tensor([bool(prompt) for prompt in prompts], device=joined.device)
            joined, pooled = joined * kept[:, None, None], pooled * kept[:, None]
        return Embedding(joined, pooled)

    @staticmethod
    def _padded(tokenizer: Any, prompt: str) -> list[int]:
        """Token ids between begin and end marks, cut and padded to the model's length."""
        length = tokenizer.model_max_length
        prompt = spelt(prompt, tokenizer)
        pieces = tokenizer.encode(prompt, add_special_tokens=False, verbose=False)[: length - 2]
        ids = [tokenizer.bos_token_id, *pieces, tokenizer.eos_token_id]
        return ids + [tokenizer.pad_token_id] * (length - len(ids))

    def pieces(self, text: str) -> list[int]:
        """Token ids of a text, without begin, end and padding, uncut."""
        tokenizer = self.tokenizers[0]
        return list(tokenizer.encode(spelt(text, tokenizer), add_special_tokens=False, verbose=False))

    def lost(self, prompt: str) -> str:
        """The words at the prompt's end that the model does not read ('' if it reads all)."""
        return str(self.tokenizers[0].decode(self.pieces(prompt)[self.limit :])).strip()

    def read(self, prompt: str) -> str:
        """The words of the prompt that the model reads whole."""
        words = prompt.split()
        ends = accumulate(len(self.pieces(word)) for word in words)
        return " ".join(word for word, end in zip(words, ends, strict=True) if end <= self.limit)

    def find(self, prompt: str, phrase: str, occurrence: int | None = None) -> tuple[int, ...]:
        """Token indices (begin mark is 0) of a phrase in a prompt, matched as a whole run of words.

        `occurrence` picks the k-th match, counted from 0; None takes all that the model reads.

        Raises:
            UsageError: the phrase is not in the prompt, or lies behind the token limit.
        """
        text, target = self.pieces(prompt), self.pieces(phrase)
        if not target:
            raise UsageError(f"The words {phrase!r} are empty; name a phrase of the prompt {prompt!r}.")
        names, learned = self.tokenizers[0].convert_ids_to_tokens(text), self.tokenizers[0].added_tokens_encoder
        starts = [
            start
            for start in range(len(text) - len(target) + 1)
            if text[start : start + len(target)] == target
            and (start == 0 or names[start - 1].endswith("</w>") or names[start - 1] in learned)
        ]
        if not starts:
            raise UsageError(self._missing(prompt, phrase))
        if occurrence is not None:
            if not 0 <= occurrence < len(starts):
                known = "once, as occurrence 0" if len(starts) == 1 else f"as occurrences 0 to {len(starts) - 1}"
                raise UsageError(f"The words {phrase!r} stand in the prompt {known}; there is no {occurrence}.")
            starts = [starts[occurrence]]
        starts = [start for start in starts if start + len(target) <= self.limit]
        if not starts:
            raise UsageError(
                f"The words {phrase!r} lie behind the {self.limit} tokens that the model reads; shorten the prompt."
            )
        return tuple(sorted({start + 1 + offset for start in starts for offset in range(len(target))}))

    def words(self, prompt: str, tokens: Sequence[int]) -> str:
        """The text of token indices (begin mark is 0) of a prompt, in lower case."""
        pieces = self.pieces(prompt)
        return str(self.tokenizers[0].decode([pieces[token - 1] for token in tokens])).strip()

    @staticmethod
    def _missing(prompt: str, phrase: str) -> str:
        words, length = WORD.findall(prompt), len(phrase.split())
        if not words:
            return f"The words {phrase!r} are not in the prompt, which has none; write them into it."
        runs = [words[start : start + length] for start in range(len(words) - length + 1)]
        named = [" ".join(run) for run in runs if not COMMON.issuperset(run)]
        near = difflib.get_close_matches(phrase, named, n=1, cutoff=0.65)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return f"The words {phrase!r} are not in the prompt, whose words are: {', '.join(words)}.{hint}"


def spelt(prompt: str, tokenizer: Any) -> str:
    """A prompt in which each word of a textual inversion with several vectors stands with all of them, as diffusers'
    pipelines write it: <thing> becomes <thing> <thing>_1."""
    if not any(not token.special for token in tokenizer.added_tokens_decoder.values()):
        return prompt
    from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin

    return TextualInversionLoaderMixin().maybe_convert_prompt(prompt, tokenizer)
