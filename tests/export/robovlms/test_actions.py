"""Actions of the original: round trips, the traps of its words, and figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from export.robovlms.actions import Words, compand, denormalise, expand, normalise

ACTIONS = arrays(np.float64, (3, 7), elements=st.floats(-0.65, 0.65))
WORDS = Words(vocabulary=32_000, special=3)


@given(ACTIONS, st.booleans())
def test_a_normalised_action_comes_back(action, keep_last):
    there = normalise(action, -0.65, 0.65, keep_last)
    assert np.abs(there[..., :-1]).max() <= 1 + 1e-12
    np.testing.assert_allclose(denormalise(there, -0.65, 0.65, keep_last), action, atol=1e-12)


def test_the_gripper_is_left_out_or_not():
    action = np.array([0.65, -0.65, 2.0, 0, 0, 0, 1.0])
    kept, not_kept = normalise(action, -0.65, 0.65, True), normalise(action, -0.65, 0.65, False)
    np.testing.assert_allclose(kept, [1, -1, 1, 0, 0, 0, 1.0])
    np.testing.assert_allclose(not_kept, [1, -1, 1, 0, 0, 0, 1.0])
    closed = np.array([0, 0, 0, 0, 0, 0, -0.325])
    assert normalise(closed, -0.65, 0.65, True)[-1] == -0.325
    assert normalise(closed, -0.65, 0.65, False)[-1] == pytest.approx(-0.5)


@given(arrays(np.float64, (2, 7), elements=st.floats(-1, 1)), st.sampled_from([1.0, 255.0]), st.booleans())
def test_a_companded_action_comes_back(action, mu, keep_last):
    np.testing.assert_allclose(expand(compand(action, mu, keep_last), mu, keep_last), action, atol=1e-12)


def test_companding_by_hand():
    # log(1 + 255 / 255) / log(256) = 1 / 8
    found = compand(np.array([1 / 255, -1 / 255, 0.5]), 255.0)
    np.testing.assert_allclose(found, [0.125, -0.125, 0.5])


def test_words_by_hand():
    assert WORDS.top == 32_000 - 3 - 10
    np.testing.assert_array_equal(
        WORDS.encode(np.array([-1.0, 1.0, 5.0])), [WORDS.top - 1, WORDS.top - 256, WORDS.top - 256]
    )
    half = (1 / 255, -1 / 255)  # 256 edges make 255 intervals of 2 / 255
    np.testing.assert_allclose(WORDS.decode(np.array([WORDS.top - 1, WORDS.top - 255])), [-1 + half[0], 1 + half[1]])
    assert WORDS.decode(np.array([WORDS.top - 256]))[0] == WORDS.decode(np.array([WORDS.top - 255]))[0]
    assert WORDS.decode(np.array([WORDS.top + 50]))[0] == pytest.approx(-1 + half[0])


@given(arrays(np.float64, (4, 7), elements=st.floats(-1, 1)))
def test_a_word_is_within_half_an_interval(values):
    assert np.abs(WORDS.decode(WORDS.encode(values)) - values).max() <= 1 / 255 + 1e-12
