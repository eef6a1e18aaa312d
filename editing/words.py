"""Which words of a prompt an edit is about, when the user does not say."""

from __future__ import annotations

from ..diffusion.text import WORD, Prompts
from ..errors import UsageError

JOINTS = frozenset(
    [
        *("and", "or", "of", "in", "on", "at", "by", "from", "with", "without"),
        *("over", "under", "above", "below", "behind", "between", "beside", "near", "into", "onto"),
    ]
)
"""Words after which another noun phrase begins."""

OPENERS = frozenset(
    [
        *("a", "an", "the", "this", "that", "these", "those", "some", "any"),
        *("my", "your", "his", "her", "its", "our", "their"),
        *("but", "to", "is", "are", "be", "being", "very", "photo", "picture", "image"),
    ]
)
"""Words that may stand before a noun phrase and name no thing."""

STOP = JOINTS | OPENERS
"""Words that name no thing."""


def default_words(prompt: str) -> str | None:
    """The prompt's noun phrase, without its article, if it has just one; else None.

    "a big red apple" gives "big red apple"; "an apple and a cup" gives None.
    """
    words = WORD.findall(prompt)
    while words and words[0].lower() in OPENERS:
        words = words[1:]
    phrase = " ".join(words)
    if not words or any(word.lower() in STOP for word in words) or phrase not in " ".join(prompt.split()):
        return None  # the last where punctuation stands between the words
    return phrase


def content_words(prompt: str) -> tuple[str, ...]:
    """The prompt's words that are no stop words, in order, each once."""
    words = WORD.findall(prompt)
    return tuple(dict.fromkeys(word for word in words if word.lower() not in STOP))


def target_tokens(prompt: str, prompts: Prompts) -> tuple[tuple[int, ...], str]:
    """Token indices that a whole edit is about, and those words for the record.

    The noun phrase where it is unambiguous, else every word but stop words, of what the model reads of the prompt.

    Raises:
        UsageError: the prompt has no such word.
    """
    prompt = prompts.read(prompt)
    phrase = default_words(prompt)
    if phrase is not None:
        return prompts.find(prompt, phrase), phrase
    content = content_words(prompt)
    if not content:
        raise UsageError(f"The prompt {prompt!r} names nothing that guidance could place; write what should be there.")
    tokens = {token for word in content for token in prompts.find(prompt, word)}
    return tuple(sorted(tokens)), " ".join(content)
