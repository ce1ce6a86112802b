"""What may be commanded, and the counters that wrap."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import ChannelLimits
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import Command, Limits, State, Verdict, encode, is_newer, ticks_until
from firmware_bridge.errors import BadSetpoint

TWO = (ChannelLimits("x", "m", -0.5, 0.5), ChannelLimits("gripper", "1", -1.0, 1.0))
LIMITS = Limits(TWO)


@pytest.mark.parametrize(
    ("setpoint", "sentence"),
    [
        ((0.0,), "number of channels"),
        ((0.0, 0.0, 0.0), "number of channels"),
        ((math.nan, 0.0), "NaN or infinite"),
        ((0.0, -math.inf), "NaN or infinite"),
        ((0.5001, 0.0), "outside its channel's range"),
        ((0.0, -1.01), "outside its channel's range"),
        ((1e300, 0.0), "outside its channel's range"),
    ],
)
def test_what_must_not_reach_a_wire_is_not_encoded(setpoint, sentence):
    with pytest.raises(BadSetpoint, match=sentence):
        encode(Command(1, 1, setpoint), LIMITS)


def test_a_command_without_limits_is_not_encoded():
    with pytest.raises(ValueError, match="limits"):
        encode(Command(1, 1, (0.0, 0.0)))


def test_limits_are_those_of_float32_so_that_the_exact_limit_may_be_commanded():
    tenth = struct.unpack("<f", struct.pack("<f", 0.1))[0]  # 0.10000000149: above 0.1
    assert tenth > 0.1
    assert Limits([ChannelLimits("x", "m", -0.1, 0.1)]).judge((tenth,)) is Verdict.ACCEPTED


def test_a_range_that_is_open_at_an_end_has_no_infinity_in_it():
    open_ended = Limits([ChannelLimits("x", "m", -math.inf, math.inf)])
    assert open_ended.judge((-math.inf,)) is open_ended.judge((math.inf,)) is Verdict.NOT_FINITE
    largest = struct.unpack("<f", bytes.fromhex("ffff7f7f"))[0]  # IEEE 754: exponent 254, all bits of the fraction
    assert open_ended.judge((-largest,)) is open_ended.judge((largest,)) is Verdict.ACCEPTED


def test_more_channels_than_a_frame_has_room_for_are_not_encoded():
    many = (0.0,) * 33
    with pytest.raises(ValueError, match="a STATE has at most 32 values, got 33"):
        encode(State(1, 0, 0, 0, 0, 0, many, many))


@given(st.lists(st.floats(width=32), min_size=2, max_size=2))
def test_the_verdict_on_any_two_numbers_is_the_one_that_their_sentence_tells(values):
    finite = all(map(math.isfinite, values))
    inside = finite and abs(values[0]) <= 0.5 and abs(values[1]) <= 1.0
    expected = Verdict.ACCEPTED if inside else Verdict.OUT_OF_LIMIT if finite else Verdict.NOT_FINITE
    assert LIMITS.judge(values) is expected


@pytest.mark.parametrize("channels", [(), TWO * 17])
def test_a_link_carries_1_to_32_channels(channels):
    with pytest.raises(ValueError, match=r"1\.\.32"):
        Limits(channels)


def test_every_verdict_has_its_sentence():
    assert set(codec.SENTENCES) == set(Verdict)


@pytest.mark.parametrize(
    ("later", "earlier", "between"),
    [(5, 3, 2), (3, 5, -2), (10, 0xFFFF_FFF0, 26), (0xFFFF_FFF0, 10, -26), (0x8000_0000, 0, -0x8000_0000)],
)
def test_device_time_differences_survive_the_wrap(later, earlier, between):
    assert ticks_until(later, earlier) == between


@pytest.mark.parametrize(
    ("seq", "than", "newer"),
    [(1, 0, True), (0, 0, False), (0, 1, False), (0, 0xFFFF, True), (0x7FFF, 0, True), (0x8000, 0, False)],
)
def test_sequence_order_survives_the_wrap(seq, than, newer):
    assert is_newer(seq, than) is newer
