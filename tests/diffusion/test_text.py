"""Phrases find their tokens; words that the model does not read are named."""

import pytest
import torch
from inlay.diffusion.text import Embedding
from inlay.errors import UsageError

LONG = "a red cat " * 4 + "a red dog"


@pytest.fixture
def prompts(models):
    return models("sd1").prompts


def test_a_phrase_is_a_whole_run_of_words(prompts):
    assert prompts.find("a red cat on the table", "red cat") == (2, 3)
    assert prompts.find("a red cat on the table", "Red  CAT") == (2, 3)
    assert prompts.find("the caterpillar and the cat", "cat") == (5,)
    assert prompts.find("the cat, the dog", "cat") == (2,)


def test_words_of_several_pieces(prompts):
    tokens = prompts.find("a zebra on grass", "zebra")
    assert len(tokens) > 1
    assert tokens == tuple(range(2, 2 + len(tokens)))
    with pytest.raises(UsageError, match="not in the prompt"):
        prompts.find("a zebra on grass", "bra")
    with pytest.raises(UsageError, match="not in the prompt"):
        prompts.find("a zebra on grass", "ze")


def test_repeated_phrases_and_occurrences(prompts):
    prompt = "a cat and a cat and a dog"
    assert prompts.find(prompt, "a cat") == (1, 2, 4, 5)
    assert prompts.find(prompt, "cat", occurrence=1) == (5,)
    with pytest.raises(UsageError, match=r"stand in the prompt as occurrences 0 to 1; there is no 2"):
        prompts.find(prompt, "cat", occurrence=2)
    with pytest.raises(UsageError, match="there is no -1"):
        prompts.find(prompt, "cat", occurrence=-1)
    with pytest.raises(UsageError, match=r"stand in the prompt once, as occurrence 0; there is no 3"):
        prompts.find(prompt, "dog", occurrence=3)


def test_tokens_become_words_again(prompts):
    prompt = "A red zebra, on grass"
    assert prompts.words(prompt, prompts.find(prompt, "Zebra")) == "zebra"
    assert prompts.words(prompt, (2, *prompts.find(prompt, "grass"))) == "red grass"


def test_a_missing_phrase_is_met_with_the_words_and_the_nearest(prompts):
    with pytest.raises(UsageError, match=r"'tabel' are not in the prompt.*a, red, table\. Did you mean 'table'\?"):
        prompts.find("a red table", "tabel")
    with pytest.raises(UsageError, match="Did you mean 'red apple'"):
        prompts.find("a red apple on grass", "red aple")
    with pytest.raises(UsageError, match=r"not in the prompt, which has none; write them into it\.$"):
        prompts.find("", "cat")
    with pytest.raises(UsageError, match="are empty"):
        prompts.find("a cat", " ")


@pytest.mark.parametrize("phrase", ["cat", "ton", "thee"])
def test_only_a_really_near_word_that_names_something_is_offered(prompts, phrase):
    with pytest.raises(UsageError, match=r"not in the prompt, whose words are: a, dog, on, the, snow\.$"):
        prompts.find("a dog, on the snow.", phrase)


def test_words_behind_the_limit(prompts):
    assert prompts.limit == 14
    assert prompts.lost("a red cat") == ""
    assert prompts.lost(LONG) == "dog"
    with pytest.raises(UsageError, match="behind the 14 tokens"):
        prompts.find(LONG, "dog")
    assert prompts.find(LONG, "red", occurrence=4) == (14,)
    assert prompts.find(LONG + " cat", "cat") == (3, 6, 9, 12), "of several, those that are read"
    assert prompts.read("a red cat") == "a red cat"
    assert prompts.read(LONG) == LONG.removesuffix(" dog")


def test_found_tokens_are_those_that_the_encoder_reads(prompts):
    """Changing one word changes the embedding from its token on, and not before."""
    at = prompts.find("a red cat on the table", "cat")[0]
    first, second = prompts.encode(["a red cat on the table", "a red dog on the table"]).states
    changed = (first - second).abs().amax(-1) > 1e-6
    assert not changed[:at].any()
    assert changed[at]


def test_the_empty_negative_prompt_is_zeros_only_where_the_model_was_trained_so(models):
    large, small = models("sdxl").prompts, models("sd1").prompts
    mixed = large.encode(["", "a cat"], negative=True)
    assert mixed.states[0].abs().max() == 0
    assert mixed.pooled[0].abs().max() == 0
    assert mixed.states[1].abs().max() > 0
    assert large.encode([""]).states.abs().max() > 0
    assert small.encode([""], negative=True).states.abs().max() > 0


def test_embeddings_repeat_and_join(models):
    one = models("sdxl").prompts.encode(["a cat"])
    assert len(one.repeat(3)) == 3
    joined = Embedding.cat([one, one.repeat(2)])
    assert torch.equal(joined.states[2], one.states[0])
    assert torch.equal(joined.pooled[2], one.pooled[0])
