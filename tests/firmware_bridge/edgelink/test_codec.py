"""edgelink frames: literal bytes, any values there and back, any bytes in.

The literal frames were made by a bitwise CRC-16/CCITT (check value 0x29B1 for "123456789") and a
byte-at-a-time COBS encoder that share no code with the codec.
"""

import struct
from binascii import crc_hqx
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firmware_bridge.arm import ChannelLimits, Mode
from firmware_bridge.cobs import cobs_encode
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import (
    ArmRequest,
    Command,
    Decoder,
    Disarm,
    Hello,
    HelloAck,
    Limits,
    Ping,
    State,
    Stop,
    encode,
    schema_hash,
)

TWO = (ChannelLimits("x", "m", -0.5, 0.5), ChannelLimits("gripper", "1", -1.0, 1.0))
LIMITS = Limits(TWO)
LITERAL = [
    (Hello(1, 0xDEADBEEF), "00 02 01 02 01 07 ef be ad de 26 c7 00"),
    (
        HelloAck(1, 0xDEADBEEF, 1_000_000, 100, (0.5, -1.0)),
        "00 02 81 02 01 08 ef be ad de 40 42 0f 02 64 02 02 01 01 02 3f 01 05 80 bf a7 68 00",
    ),
    (ArmRequest(2, 1_050_000), "00 02 02 02 02 04 90 05 10 03 c4 1b 00"),
    (Disarm(0x1234), "00 02 03 05 34 12 3e e4 00"),
    (
        Command(3, 1_012_500, (0.25, -1.0)),
        "00 02 04 02 03 04 14 73 0f 01 01 03 80 3e 01 05 80 bf ec 92 00",
    ),
    (Stop(4), "00 02 05 02 04 03 41 f4 00"),
    (Ping(5), "00 02 06 02 05 03 ac 5c 00"),
    (
        State(3, 1_000_123, Mode.ARMED, 0, 0, 7, (0.25, -0.5), (1.5, -20.0)),
        "00 02 84 02 03 04 bb 42 0f 02 01 01 01 02 07 01 01 03 80 3e 01 01 02 bf 02 3e 04 cd 64 9c 00",
    ),
]
COMMAND = encode(Command(3, 1_012_500, (0.25, -1.0)), LIMITS)
STATE = encode(LITERAL[-1][0])


def frame(body):
    """A frame with a right CRC around any body, for messages that the codec would not write."""
    return b"\0" + cobs_encode(body + struct.pack("<H", crc_hqx(body, 0xFFFF))) + b"\0"


@pytest.mark.parametrize(("message", "wire"), LITERAL, ids=lambda value: type(value).__name__)
def test_every_message_has_its_literal_bytes(message, wire):
    assert encode(message, LIMITS) == bytes.fromhex(wire)
    assert Decoder().feed(bytes.fromhex(wire)) == [message]


def test_the_schema_hash_of_a_release_is_a_literal():
    # Changes with any change of layout, codes, names or units: then every device needs new firmware.
    assert schema_hash(TWO) == 0x06E25C48


def test_another_unit_is_another_schema():
    other = (TWO[0], ChannelLimits("gripper", "mm", -1.0, 1.0))
    assert schema_hash(other) != schema_hash(TWO)


def test_wire_sizes_are_those_of_real_frames():
    assert len(COMMAND) == codec.command_wire_bytes(2) == 21
    assert len(encode(LITERAL[-1][0])) == codec.state_wire_bytes(2) == 31


@given(
    seq=st.integers(0, 0xFFFF),
    expiry=st.integers(0, 0xFFFF_FFFF),
    x=st.floats(-0.5, 0.5, width=32),
    gripper=st.floats(-1, 1, width=32),
)
def test_any_allowed_command_survives_the_wire(seq, expiry, x, gripper):
    command = Command(seq, expiry, (x, gripper))
    assert Decoder().feed(encode(command, LIMITS)) == [command]


@given(
    st.builds(
        State,
        seq=st.integers(0, 0xFFFF),
        device_us=st.integers(0, 0xFFFF_FFFF),
        mode=st.sampled_from(list(Mode)),
        verdict=st.integers(0, 255),
        faults=st.integers(0, 0xFFFF),
        rejected=st.integers(0, 0xFFFF),
        position=st.just(()),
        effort=st.just(()),
    ),
    st.lists(
        st.tuples(st.floats(width=32, allow_nan=False), st.floats(width=16, allow_nan=False, allow_infinity=False)),
        max_size=codec.MAX_CHANNELS,
    ),
)
def test_any_state_survives_the_wire(state, channels):
    position, effort = (tuple(column) for column in zip(*channels, strict=True)) if channels else ((), ())
    state = replace(state, position=position, effort=effort)
    assert Decoder().feed(encode(state)) == [state]


def test_an_effort_that_is_not_measured_arrives_as_nan_and_one_too_large_as_the_largest():
    state = State(1, 0, 0, 0, 0, 0, (0.0, 0.0, 0.0), (float("nan"), 1e9, -float("inf")))
    (arrived,) = Decoder().feed(encode(state))
    assert str(arrived.effort) == "(nan, 65504.0, -65504.0)"


def test_a_state_has_one_effort_per_channel_on_both_sides():
    with pytest.raises(ValueError, match="one effort per channel, got 1 for 2"):
        encode(State(1, 0, 0, 0, 0, 0, (0.0, 0.0), (0.0,)))
    body = struct.pack("<BBHIBBHHf", 0x84, 0, 1, 0, 0, 0, 0, 0, 0.5)  # a state of edgelink v1: no effort
    assert Decoder().feed(frame(body)) == []


def test_the_longest_state_fits_a_frame():
    most = (0.5,) * codec.MAX_CHANNELS
    wire = encode(State(1, 0, 0, 0, 0, 0, most, most))
    assert len(wire) == codec.MAX_ENCODED + 2 == codec.state_wire_bytes(codec.MAX_CHANNELS) <= 254
    assert Decoder().feed(wire)[0].effort == most


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=codec.MAX_CHANNELS).map(tuple))
def test_any_greeting_survives_the_wire(held):
    ack = HelloAck(7, 1, 2, 3, held)
    assert Decoder().feed(encode(ack)) == [ack]


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
@example(b"\0" * 20, [3])
@example(b"\x01" * 400, [100, 200, 300])
def test_any_bytes_in_any_pieces_never_raise_and_the_next_frame_is_read(noise, cuts):
    decoder = Decoder()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True):
        decoder.feed(noise[start:end])
    assert decoder.feed(COMMAND)[-1] == Command(3, 1_012_500, (0.25, -1.0))


@given(st.lists(st.integers(0, len(COMMAND) * 3), max_size=6))
def test_frames_come_out_whole_however_the_bytes_are_cut(cuts):
    decoder, stream, got = Decoder(), COMMAND * 3, []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == [Command(3, 1_012_500, (0.25, -1.0))] * 3


@given(st.binary(max_size=60).map(lambda body: frame(b"\x04" + body)))
def test_bodies_with_a_right_crc_never_raise(wire):
    assert len(Decoder().feed(wire)) <= 1


@pytest.mark.parametrize("frame", [COMMAND, STATE], ids=["COMMAND", "STATE"])
def test_no_flipped_bit_inside_a_frame_goes_unnoticed(frame):
    for bit in range(8, (len(frame) - 1) * 8):
        wire = bytearray(frame)
        wire[bit // 8] ^= 1 << bit % 8
        assert Decoder().feed(bytes(wire)) == []


@pytest.mark.parametrize("length", range(1, len(COMMAND) - 1))
def test_a_truncated_frame_is_dropped_and_spoils_no_other(length):
    assert Decoder().feed(COMMAND[:length] + COMMAND) == [Command(3, 1_012_500, (0.25, -1.0))]


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"\0\x05\x11\0", "bad_stuffing"),
        (b"\0\x03\x11\x22\0", "too_short"),
        (COMMAND.replace(b"\xec", b"\xed"), "bad_crc"),
        (frame(struct.pack("<BBH", 0x7F, 0, 1)), "bad_message"),  # no such type
        (frame(struct.pack("<BBH", 0x05, 1, 1)), "bad_message"),  # a flag that v1 does not have
        (frame(struct.pack("<BBH", 0x05, 0, 1) + b"x"), "bad_message"),  # STOP with a payload
        (frame(struct.pack("<BBH", 0x04, 0, 1) + b"xy"), "bad_message"),  # COMMAND without an expiry
        (frame(struct.pack("<BBHI", 0x04, 0, 1, 9) + b"xyz"), "bad_message"),  # COMMAND with 3/4 of a float
        (frame(struct.pack("<BBHIBBHHf", 0x84, 0, 1, 9, 9, 0, 0, 0, 0.0)), "bad_message"),  # no mode 9
        (frame(struct.pack("<BBHIIHBf", 0x81, 0, 1, 1, 1, 1, 2, 0.0)), "bad_message"),  # 2 channels, 1 float
        (b"\x01" * (codec.MAX_ENCODED + 1) + b"\0", "too_long"),
    ],
)
def test_each_kind_of_spoiled_frame_is_counted_as_what_it_is(wire, reason):
    decoder = Decoder()
    assert decoder.feed(wire) == []
    assert getattr(decoder.counts, reason) == 1
    assert decoder.counts.spoiled == 1


def test_an_endless_frame_takes_no_memory_and_counts_once():
    decoder = Decoder()
    for _ in range(50):
        decoder.feed(b"\x01" * 100)
    assert len(decoder._partial) <= codec.MAX_ENCODED
    assert decoder.feed(b"\x01\0" + COMMAND) == [Command(3, 1_012_500, (0.25, -1.0))]
    assert decoder.counts.too_long == 1
