"""Instructions become word ids, or one error that says which words are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevla.errors import BadInput
from edgevla.policy.tokens import Vocabulary

WORDS = Vocabulary(("open", "close", "the", "drawer", "window"), max_tokens=6)


def test_a_word_is_its_place_counted_from_one_and_the_rest_is_padding():
    ids = WORDS.encode("close the window")
    assert ids.tolist() == [2, 3, 5, 0, 0, 0]
    assert ids.dtype == np.int64


@pytest.mark.parametrize("spoken", ["Open the drawer!", "  OPEN,  the\tdrawer. ", "open the drawer"])
def test_case_blanks_and_punctuation_do_not_matter(spoken):
    assert WORDS.encode(spoken).tolist() == [1, 3, 4, 0, 0, 0]


def test_a_near_miss_is_answered_with_the_word_that_was_meant():
    with pytest.raises(BadInput, match=r"did you mean drawer\?") as caught:
        WORDS.encode("open the drawr")
    assert "'drawr' in 'open the drawr'" in str(caught.value)


@pytest.mark.parametrize(
    "spoken",
    ["не open the drawer", "open the drawer 不", "open \u2013 the drawer", "re-open the drawer", "open_the drawer",
     "open\u200bthe drawer", "open the - drawer"],
)  # fmt: skip
def test_nothing_that_was_said_is_passed_over(spoken):
    with pytest.raises(BadInput, match="outside the vocabulary"):
        WORDS.encode(spoken)


def test_a_word_that_only_looks_alike_a_little_is_not_offered():
    with pytest.raises(BadInput) as caught:
        Vocabulary(("open", "the", "slide", "drawer"), max_tokens=6).encode("open the fridge")
    assert "did you mean" not in str(caught.value)


def test_known_words_are_listed_beside_a_near_miss():
    with pytest.raises(BadInput, match=r"did you mean drawer\? known words: open close the drawer window$"):
        WORDS.encode("open the drawr")


@pytest.mark.parametrize("spoken", ["open " * 6000, "x" * 6000])
def test_a_long_instruction_or_word_list_is_cut_in_the_error(spoken):
    words = Vocabulary(("open", *(f"word{i}" for i in range(5000))), max_tokens=6)
    with pytest.raises(BadInput) as caught:
        words.encode(spoken)
    assert spoken[:80] + "..." in str(caught.value)
    assert len(str(caught.value)) < 1200


def test_a_word_like_none_is_answered_with_all_known_words():
    with pytest.raises(BadInput, match="known words: open close the drawer window"):
        WORDS.encode("juggle the drawer")


@pytest.mark.parametrize("spoken", ["", "...", "open the the the the the drawer"])
def test_an_instruction_without_words_or_too_long_is_refused_with_its_length(spoken):
    with pytest.raises(BadInput, match="1 to 6 words"):
        WORDS.encode(spoken)


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS.words), min_size=1, max_size=6))
def test_every_sentence_of_known_words_can_be_read_back_from_its_ids(sentence):
    ids = WORDS.encode(" ".join(sentence))
    assert [WORDS.words[i - 1] for i in ids if i] == sentence


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_at_all_is_ids_or_bad_input(text):
    try:
        ids = WORDS.encode(text)
    except BadInput:
        return
    assert ids.shape == (6,)
    assert 0 < ids.max() <= len(WORDS.words)
