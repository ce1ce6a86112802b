"""Displacements become absolute set-points; the numbers are worked out by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevla.policy.setpoints import integrate

LOW, HIGH = np.array([0.0, -1.0], np.float32), np.array([1.0, 1.0], np.float32)
DELTA = np.array([True, False])  # one displacement, one absolute channel
ANCHOR = np.array([0.5, 0.25], np.float32)


def whole(steps, d=1, anchor=ANCHOR):
    return integrate(np.array(steps, np.float32), anchor, d, DELTA, LOW, HIGH)


def test_displacements_add_up_from_the_anchor_and_absolute_channels_pass_through():
    told = whole([[9.0, 9.0], [0.125, 0.5], [-0.25, -0.5]])
    assert told.tolist() == [[0.5, 0.25], [0.625, 0.5], [0.375, -0.5]]


def test_rows_already_committed_repeat_the_anchor_and_do_not_add_up():
    told = whole([[0.25, 1.0], [0.25, 1.0], [0.25, 0.75]], d=2)
    assert told.tolist() == [[0.5, 0.25], [0.5, 0.25], [0.75, 0.75]]


def test_without_a_prefix_the_first_row_moves_already():
    assert whole([[0.125, 0.0], [0.125, 0.0]], d=0).tolist() == [[0.625, 0.0], [0.75, 0.0]]


def test_the_sum_stops_at_a_limit_and_turns_back_at_once():
    """0.5 + 0.375 + 0.375 would be 1.25; it is 1.0, and one step of -0.125 back is 0.875, not 1.125."""
    told = whole([[0.0, 0.0], [0.375, 0.0], [0.375, 0.0], [0.375, 0.0], [-0.125, 0.0]])
    assert told[:, 0].tolist() == [0.5, 0.875, 1.0, 1.0, 0.875]


def test_absolute_channels_are_clipped_to_their_limits():
    assert whole([[0.0, 0.0], [0.0, 4.0], [0.0, -4.0]])[:, 1].tolist() == [0.25, 1.0, -1.0]


def test_the_chunk_given_is_not_changed():
    steps = np.array([[0.0, 4.0], [0.5, 4.0]], np.float32)
    kept = steps.copy()
    whole(steps)
    assert (steps == kept).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=12))
def test_no_set_point_ever_leaves_the_limits(steps):
    told = whole(steps)
    assert ((told >= LOW) & (told <= HIGH)).all()
    assert told.dtype == np.float32
