"""Which words an edit is about."""

import pytest
from inlay.editing.words import default_words, target_tokens
from inlay.errors import UsageError


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a big red apple", "big red apple"),
        ("apple", "apple"),
        ("The cat.", "cat"),
        ("a photo of a cat", None),
        ("an apple and a cup", None),
        ("an apple on the table", None),
        ("a cat, a dog", None),
        ("a cat.  ", "cat"),
        ("an apple. studio light", None),
        ("a cat; fluffy", None),
        ("a  red\ncat", "red cat"),
        ("", None),
        ("the", None),
    ],
)
def test_noun_phrase_where_there_is_just_one(prompt, words):
    assert default_words(prompt) == words


def test_tokens_of_the_phrase_or_of_all_content_words(models):
    prompts = models("sd1").prompts
    tokens, said = target_tokens("a red apple", prompts)
    assert said == "red apple"
    assert tokens == prompts.find("a red apple", "red apple")
    tokens, said = target_tokens("an apple and a cup", prompts)
    assert said == "apple cup"
    assert set(tokens) == {*prompts.find("an apple and a cup", "apple"), *prompts.find("an apple and a cup", "cup")}


def test_a_prompt_without_things_is_refused(models):
    with pytest.raises(UsageError, match="names nothing"):
        target_tokens("on the", models("sd1").prompts)


def test_words_that_the_model_does_not_read_are_left_out(models):
    prompts = models("sd1").prompts
    prompt = "a " + "red " * 12 + "cat dog"
    assert target_tokens(prompt, prompts) == (tuple(range(2, 15)), "red " * 12 + "cat")
