"""What callers ask of guidance: what is none is refused, and what may surprise is said, once."""

import numpy as np
import pytest
from inlay.editing.guided import overlaps
from inlay.errors import UsageError
from inlay.guidance import Chain, MaskedAttention, PaintWithWords, Zest
from inlay.guidance.base import Guidance
from inlay.guidance.regions import Region

PROMPT = "an apple and a cup"
OFF = Zest(fraction=0)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def box(left: int, right: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[:, left:right] = True
    return mask


APPLE, CUP = Region(box(0, 32), "apple"), Region(box(32, 64), "cup")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, []),
        ({"guidance": Guidance()}, []),
        ({"guidance": OFF, "regions": [APPLE, CUP]}, []),
        ({"guidance": OFF}, ["zest guides nothing without regions; give a layout."]),
        (
            {"guidance": Chain((Guidance(), OFF, PaintWithWords(fraction=0)))},
            ["zest and paint-with-words guide nothing without regions; give a layout."],
        ),
        (
            {"guidance": Guidance(), "regions": [APPLE, CUP]},
            ["Nothing guides 'apple' and 'cup' to a place without a method; choose one, such as masked-attention."],
        ),
        (
            {"guidance": OFF, "regions": [APPLE, Region(box(24, 64), "cup")]},
            ["The regions 'apple' and 'cup' overlap on 12.5 % of the picture: both are guided there."],
        ),
    ],
)
def test_guidance_that_may_surprise_is_said(editor, options, said):
    assert list(editor.generate(PROMPT, size=(48, 64), steps=1, **options).warnings) == said


@pytest.mark.parametrize(("size", "fate"), [((8, 16), "be missing"), ((104, 96), "come several times")])
def test_a_size_that_the_model_is_not_made_for_is_said(editor, size, fate):
    (said,) = editor.generate(PROMPT, size=size, steps=1).warnings
    assert said == f"The model is made for 64x64 pixels; at {size[1]}x{size[0]} things may {fate}."


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        (PROMPT, {}, []),
        (PROMPT, {"guidance": Guidance()}, []),
        (PROMPT, {"guidance": OFF, "words": "cup"}, []),
        ("a red apple", {"guidance": OFF}, ["The words are 'red apple'."]),
        (
            PROMPT,
            {"guidance": OFF},
            ["The words are 'apple cup', all of the prompt; name the thing with --words (words=)."],
        ),
        (
            PROMPT,
            {"guidance": Guidance(), "words": "cup"},
            ["Nothing guides 'cup' to a place without a method; choose one, such as masked-attention."],
        ),
        (
            PROMPT,
            {"guidance": OFF, "regions": [APPLE, Region(box(24, 64), "cup")]},
            ["The regions 'apple' and 'cup' overlap on 12.5 % of the picture: both are guided there."],
        ),
    ],
)
def test_an_edit_says_its_words_and_what_may_surprise(editor, photo, prompt, options, said):
    assert list(editor.edit(photo, box(0, 40), prompt, steps=1, **options).warnings) == said


def test_overlaps_are_shares_of_the_picture_whatever_the_sizes_of_the_masks():
    assert overlaps([APPLE, CUP]) == []
    assert "overlap on 25.0 %" in overlaps([APPLE, Region(box(8, 32, (24, 32)), "cup")])[0]
    assert len(overlaps([APPLE, APPLE, APPLE])) == 3
    soft = np.full((48, 64), 0.4, np.float32)
    assert overlaps([APPLE, Region(soft, "cup")]) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance": "zest"}, "guidance cannot be a str; give a Guidance .* Chain"),
        ({"guidance": [Zest(), PaintWithWords()]}, "guidance cannot be a list; .* Chain"),
        ({"guidance": Chain(("zest",))}, "guidance cannot be a str; .* Chain"),
        ({"guidance": MaskedAttention}, "guidance cannot be a type; .* Chain"),
        ({"regions": APPLE}, r"regions takes a list of Region\(mask, words\), not a Region"),
        ({"regions": [{"mask": APPLE.mask, "words": "apple"}]}, "not a dict"),
        ({"regions": {"apple": APPLE.mask}}, "not a dict"),
        ({"regions": "apple"}, "not a str"),
    ],
)
def test_what_is_no_guidance_or_region_is_refused_in_a_sentence(editor, photo, options, said):
    with pytest.raises(UsageError, match=said):
        editor.generate(PROMPT, **options)
    with pytest.raises(UsageError, match=said):
        editor.edit(photo, box(0, 40), PROMPT, **options)


@pytest.mark.parametrize("words", ["", " "])
def test_empty_words_are_refused(editor, photo, words):
    with pytest.raises(UsageError, match="words"):
        editor.edit(photo, box(0, 40), PROMPT, words=words)
