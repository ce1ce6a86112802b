"""Action errors in the units of the channels: invented chunks, numbers by hand."""

from dataclasses import replace

import numpy as np
import pytest

from edgevla.bundle.manifest import ActionChannel
from edgevla.errors import Usage
from export.search.error import ActionError, Budget, ChannelError, action_error, default_budget, parse_budget

CHANNELS = (
    ActionChannel("x", "delta", "cartesian", "world", "m", 0.01, 0.0, -0.5, 0.5),
    ActionChannel("elbow", "absolute", "joint", "joint", "rad", 0.4, 0.2, -1.5, 1.5),
    ActionChannel("hand", "absolute", "gripper", "gripper", "1", 1.0, 0.0, -1.0, 1.0),
)


def chunks(frames=1, rows=4):
    return np.zeros((frames, rows, 3), np.float32)


def nothing_committed(of):
    return np.zeros((*of.shape[:2], 1), np.float32)


def test_deltas_add_up_over_the_chunk_and_positions_do_not():
    expected, got = chunks(), chunks()
    got[0, :, :2] = 0.1
    error = action_error(expected, got, nothing_committed(got), CHANNELS)
    assert error.channels[0].p99 == pytest.approx(4 * 0.1 * 0.01)  # four ticks of 1 mm
    assert error.channels[1].p99 == pytest.approx(0.1 * 0.4)


def test_errors_of_both_signs_cancel_in_a_delta_as_they_do_on_the_robot():
    expected, got = chunks(), chunks()
    got[0, :, 0] = [0.1, -0.1, 0.1, -0.1]
    assert action_error(expected, got, nothing_committed(got), CHANNELS).channels[0].maximum == pytest.approx(0.001)


def test_committed_rows_do_not_count():
    expected, got = chunks(), chunks()
    got[0, 0] = 5.0
    committed = nothing_committed(got)
    committed[0, 0] = 1.0
    error = action_error(expected, got, committed, CHANNELS)
    assert [row.maximum for row in error.channels] == [0, 0, 0]
    assert error.flips == 0


def test_percentiles_are_over_frames_each_with_its_worst_row():
    expected, got = chunks(frames=100), chunks(frames=100)
    got[:, 2, 1] = np.arange(100) / 100
    row = action_error(expected, got, nothing_committed(got), CHANNELS).channels[1]
    assert (row.p50, row.p99, row.maximum) == pytest.approx((0.49 * 0.4, 0.98 * 0.4, 0.99 * 0.4))


def test_a_gripper_that_changes_its_sign_flips_its_frame():
    expected, got = chunks(frames=4), chunks(frames=4)
    expected[..., 2], got[..., 2] = 0.9, 0.9
    got[1, 3, 2] = -0.7  # 1.6 of a range of 2
    error = action_error(expected, got, nothing_committed(got), CHANNELS)
    assert error.flips == 0.25
    assert error.flips_weighted == pytest.approx(0.25 * 0.8)


def test_a_flip_around_zero_weighs_next_to_nothing():
    expected, got = chunks(), chunks()
    expected[0, 0, 2], got[0, 0, 2] = 0.01, -0.01
    error = action_error(expected, got, nothing_committed(got), CHANNELS)
    assert error.flips == 1.0
    assert error.flips_weighted == pytest.approx(0.01)


def test_a_gripper_that_moves_on_its_side_does_not_flip():
    expected, got = chunks(), chunks()
    expected[..., 2], got[..., 2] = 0.9, 0.1
    assert action_error(expected, got, nothing_committed(got), CHANNELS).flips == 0


def test_the_middle_of_a_gripper_that_opens_in_metres_is_half_open():
    channels = (ActionChannel("hand", "absolute", "gripper", "gripper", "m", 0.04, 0.0, 0.0, 0.08),)
    expected, got = np.full((1, 1, 1), 1.1), np.full((1, 1, 1), 0.9)  # 44 and 36 mm
    assert action_error(expected, got, np.zeros((1, 1, 1)), channels).flips == 1.0


def test_the_middle_of_a_gripper_is_found_in_its_unit_where_zero_means_half_open():
    channels = (ActionChannel("hand", "absolute", "gripper", "gripper", "m", 0.04, 0.04, 0.0, 0.08),)
    expected, got = np.full((1, 1, 1), 0.1), np.full((1, 1, 1), -0.1)  # 44 and 36 mm
    error = action_error(expected, got, np.zeros((1, 1, 1)), channels)
    assert (error.flips, error.flips_weighted) == (1.0, pytest.approx(0.1))
    assert error.channels[0].p99 == pytest.approx(0.008)  # of the difference only the scale


def test_an_offset_changes_no_error_of_a_channel():
    shifted = [replace(channel, offset=7.0) for channel in CHANNELS]
    got = np.random.default_rng(0).normal(size=(5, 4, 3))
    both = [action_error(chunks(5), got, nothing_committed(got), each) for each in (CHANNELS, shifted)]
    assert both[0].channels == both[1].channels


def an_error(x=0.0, elbow=0.0, flips=0.0):
    rows = (
        ChannelError("x", "m", 0, x, x),
        ChannelError("elbow", "rad", 0, elbow, elbow),
        ChannelError("hand", "1", 0, 9, 9),
    )
    return ActionError(300, rows, flips, flips)


def test_the_default_budget_comes_from_the_scales_and_leaves_the_gripper_to_its_sign():
    budget = default_budget(CHANNELS)
    assert budget.limits == pytest.approx({"x": 0.005, "elbow": 0.02})
    assert budget.flips == 0.01


@pytest.mark.parametrize(
    ("error", "share"),
    [
        (an_error(), 0.0),
        (an_error(x=0.0025), 0.5),
        (an_error(x=0.0025, elbow=0.03), 1.5),
        (an_error(x=0.0025, flips=0.02), 2.0),
        (an_error(x=float("nan")), float("inf")),
    ],
)
def test_the_worst_channel_says_how_much_of_the_budget_is_taken(error, share):
    assert default_budget(CHANNELS).share(error) == pytest.approx(share)


def test_a_budget_is_typed_by_channel_and_the_rest_keeps_its_default():
    assert parse_budget("x=0.001, flips=0.5", CHANNELS) == Budget({"x": 0.001, "elbow": pytest.approx(0.02)}, 0.5)
    assert parse_budget("", CHANNELS) == default_budget(CHANNELS)


@pytest.mark.parametrize("text", ["y=1", "x", "x=0", "x=-1", "x=nan", "x=inf", "x=wide", "hand=1"])
def test_a_budget_that_makes_no_sense_is_refused(text):
    with pytest.raises(Usage, match="error-budget"):
        parse_budget(text, CHANNELS)


def test_an_error_survives_json():
    error = action_error(chunks(3), chunks(3) + 0.1, nothing_committed(chunks(3)), CHANNELS)
    assert ActionError.from_dict(error.as_dict()) == error
