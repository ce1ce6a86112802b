"""One channel's step where it stands on a border: a step that just keeps the limits is made as it was asked for."""

import numpy as np
import pytest

from edgevla.control.braking import axis_of, travel_up
from edgevla.control.channel import slow_channel, track_channel
from edgevla.control.limiter import Limited, Limits
from tests.edgevla.control.borders import ENDS, EXPLAINED, LANDING, STEP_S, STOPS


def stepped_to(border):
    limits = Limits(*(np.array([value]) for value in border.limits), border.step_s)
    (axis,), (reach,) = limits.axes, limits.reaches
    if border.wanted is None:
        return slow_channel(axis, reach, *border.now, border.step_s)
    return track_channel(axis, reach, *border.now, border.wanted, border.step_s)


def bits_of(row):
    """0.0 and -0.0 differ too."""
    return [value.hex() for value in row]


def by_name(borders):
    return pytest.mark.parametrize("border", borders, ids=lambda border: border.name)


@by_name(LANDING)
def test_a_step_that_just_keeps_the_limits_lands_on_its_target_to_the_bit(border):
    row, hit = stepped_to(border)
    assert bits_of(row) == bits_of(border.row)
    assert row[0].hex() == border.wanted[0].hex()
    assert hit == Limited.NONE


@by_name(EXPLAINED)
def test_what_rounding_to_float32_explains_is_not_told_as_a_limit_and_a_bit_more_is(border):
    assert stepped_to(border)[1] == border.bits


@by_name(STOPS)
def test_a_stop_is_at_rest_below_a_billionth_of_a_unit_per_second(border):
    row, hit = stepped_to(border)
    assert bits_of(row) == bits_of(border.row)
    assert hit == Limited.NONE


@by_name(ENDS[:2])
def test_past_the_end_of_a_range_too_short_for_another_way_a_motion_that_may_stop_at_once_does(border):
    row, hit = stepped_to(border)
    assert (row, hit) == (border.row, border.bits)


@by_name(ENDS[2:4])
def test_an_end_is_looked_at_from_less_than_the_longest_stop_and_one_step(border):
    row, hit = stepped_to(border)
    assert (row, hit) == (border.row, border.bits)


def test_a_search_ends_when_a_thousandth_of_a_step_of_the_jerk_is_left_before_the_end():
    border = ENDS[4]
    row, hit = stepped_to(border)
    axis = axis_of([border.limits[0], border.limits[1], 5.0, *border.limits[3:]], STEP_S)
    left = axis.high - row[1] * STEP_S - travel_up(axis, row[1], row[2])
    assert left == 1e-3 * axis.jerk * STEP_S * STEP_S * STEP_S
    assert hit == border.bits
