"""CANSimple's bytes. Literals: ODrive's manual ("CAN Protocol": id 0x2C = axis 1, command 0x0C; little-endian,
IEEE 754) and its example scripts (`struct.pack('<I', 8)` for Set_Axis_State, `'<ff'` for estimates, `'<BHB'`
for SDOs)."""

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Fault
from firmware_bridge.errors import BadSetpoint
from firmware_bridge.odrive import codec, models
from firmware_bridge.odrive.codec import Command
from firmware_bridge.transport.base import Frame
from firmware_bridge.wire import can_ns
from tests.firmware_bridge.odrive.arms import JOINTS

NODES = st.integers(0, codec.MAX_NODE)
LITERALS = [
    (codec.encode(1, Command.SET_INPUT_POS, 1.0, 0, 0), 0x02C, "00 00 80 3f 00 00 00 00"),
    (codec.encode(1, Command.SET_INPUT_POS, -2.5, 100, -250), 0x02C, "00 00 20 c0 64 00 06 ff"),
    (codec.encode(0, Command.SET_AXIS_STATE, 8), 0x007, "08 00 00 00 00 00 00 00"),
    (codec.encode(0, Command.SET_CONTROLLER_MODE, 3, 1), 0x00B, "03 00 00 00 01 00 00 00"),
    (codec.encode(2, Command.SET_LIMITS, 10.0, 20.0), 0x04F, "00 00 20 41 00 00 a0 41"),
    (codec.encode(3, Command.CLEAR_ERRORS, 0), 0x078, "00"),
    (codec.encode(3, Command.ESTOP), 0x062, ""),
    (codec.encode(3, Command.REBOOT, codec.SAVE), 0x076, "01"),
    (codec.read_parameter(0, 0x0190), 0x004, "00 90 01 00"),
    (codec.write_parameter(0, 0x0190, "float", 1.0), 0x004, "01 90 01 00 00 00 80 3f"),
    (codec.write_parameter(0, 0x0190, "bool", True), 0x004, "01 90 01 00 01"),
]


@pytest.mark.parametrize(("frame", "can_id", "data"), LITERALS)
def test_frame_has_the_bytes_of_the_manual(frame, can_id, data):
    assert (frame.id, frame.data) == (can_id, bytes.fromhex(data))


def test_question_is_a_remote_frame_without_data():
    assert codec.request(5, Command.GET_ENCODER_ESTIMATES) == Frame(0x0A9, b"", remote=True)


def test_half_a_turn_is_half_in_input_position():
    (frame,) = codec.position_frames([(0x02C, -1500)], [math.pi])
    assert frame == Frame(0x02C, bytes.fromhex("00 00 00 3f 00 00 24 fa"))


def test_estimates_are_radians():
    assert codec.estimates(struct.pack("<ff", 0.25, -1.0)) == pytest.approx((math.pi / 2, -2 * math.pi))


@given(NODES, st.floats(-1e4, 1e4), st.integers(-32768, 32767), st.integers(-32768, 32767))
def test_input_position_returns_from_a_round_trip(node, turns, velocity, torque):
    message = codec.decode(codec.encode(node, Command.SET_INPUT_POS, turns, velocity, torque))
    assert message == (node, Command.SET_INPUT_POS, (struct.unpack("f", struct.pack("f", turns))[0], velocity, torque))


@given(NODES, st.sampled_from(sorted(codec.LAYOUTS)), st.binary(min_size=8, max_size=8))
def test_decoded_frame_encodes_to_itself(node, command, data):
    layout = codec.LAYOUTS[command].format
    message = codec.decode(Frame(node << 5 | command, data[: layout.size]))
    if message is None or any(isinstance(value, float) and not math.isfinite(value) for value in message.values):
        return
    assert codec.decode(codec.encode(node, command, *message.values)) == message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_value_that_float32_lacks_never_becomes_a_frame(value):
    with pytest.raises(BadSetpoint, match="finite"):
        codec.position_frames([(0x2C, 0)], [value * 7])
    with pytest.raises(BadSetpoint):
        codec.encode(1, Command.SET_INPUT_VEL, value, 0.0)
    with pytest.raises(BadSetpoint):
        codec.write_parameter(1, 5, "float", value)


@pytest.mark.parametrize("value", [math.nan, 32.7681, -40.0, math.inf])
def test_feed_forward_beyond_int16_is_refused(value):
    with pytest.raises(BadSetpoint):
        codec.milli(value)


def test_feed_forward_at_its_ends():
    assert [codec.milli(value) for value in (32.767, -32.767, 0.0004)] == [32767, -32767, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: codec.encode(64, Command.ESTOP),
        lambda: codec.can_id(0, 32),
        lambda: codec.encode(1, Command.SET_AXIS_STATE, -1),
        lambda: codec.encode(1, Command.SET_AXIS_STATE),
        lambda: codec.encode(1, Command.SET_INPUT_POS, 0.0, 40_000, 0),
        lambda: codec.read_parameter(1, 0x10000),
        lambda: codec.write_parameter(1, 1, "uint8", 256),
        lambda: codec.write_parameter(1, 1, "string", 1),
    ],
)
def test_what_a_field_cannot_carry_is_refused(make):
    with pytest.raises(BadSetpoint):
        make()


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0x029, bytes(7)),
        Frame(0x029, bytes(8), extended=True),
        Frame(0x029, bytes(8), fd=True),
        Frame(0x029, b"", remote=True),
        Frame(0x028, bytes(8)),  # command 8 does not exist
        Frame(0x024, bytes(3)),
        Frame(0x900, bytes(8)),
    ],
)
def test_what_is_not_cansimple_decodes_to_nothing(frame):
    assert codec.decode(frame) is None


def test_address_answers_come_with_and_without_connection_id():
    assert codec.decode(Frame(0x026, bytes.fromhex("01 0102030405 06"))) == (1, 6, (1, bytes.fromhex("010203040506")))
    assert codec.decode(Frame(0x026, bytes.fromhex("01 0102030405 06 00"))).values[0] == 1


def test_parameter_of_too_few_bytes_has_no_value():
    assert codec.parameter(b"\x00\x00\x80\x3f", "float") == 1.0
    assert codec.parameter(b"\x00\x00", "float") is None
    assert codec.parameter(b"\x00", "string") is None


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (Frame(0x021, bytes.fromhex("00 00 00 01 01 00 00 00")), "node 1: heartbeat idle, watchdog: no command"),
        (Frame(0x021, bytes.fromhex("00 00 00 00 08 63 00 00")), "closed-loop control, no error, last procedure: resu"),
        (Frame(0x021, bytes.fromhex("00 00 00 00 63 00 00 00")), "state 99"),
        (Frame(0x023, bytes.fromhex("00 02 00 00 08 00 00 00")), "active: bus voltage too low; disarmed by: no positi"),
        (Frame(0x027, bytes.fromhex("08 00 00 00 00 00 00 00")), "set_axis_state closed-loop control"),
        (Frame(0x027, bytes.fromhex("50 00 00 00 00 00 00 00")), "state 80"),
        (Frame(0x02C, bytes.fromhex("00 00 80 3f 00 00 00 00")), "set_input_pos position 1 rev"),
        (Frame(0x029, b"", remote=True), "node 1: get_encoder_estimates asked for"),
        (Frame(0x7E6, b"", remote=True), "all nodes: address asked for"),
        (Frame(0x026, bytes.fromhex("01 0102030405 06")), "serial 060504030201"),
        (Frame(0x024, bytes.fromhex("00 90 01 00")), "rx_sdo endpoint 400, value"),
        (Frame(0x029, bytes(3)), "wrong length"),
        (Frame(0x022, b""), "node 1: estop"),
        (Frame(0x028, b""), "not CANSimple"),
        (b"\x01\x02", "no CAN frame: 01 02"),
    ],
)
def test_any_frame_is_explained_in_words(unit, words):
    assert words in codec.describe(unit)


@given(st.integers(0, 0x1FFF_FFFF), st.binary(max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_garbage_never_raises(can_id, data, extended, fd, remote):
    frame = Frame(can_id, data, extended, fd, False, remote)
    codec.decode(frame)
    assert codec.describe(frame)


def test_cycle_is_three_frames_a_joint():
    """111 bits command, 47 question, 111 answer: 1614 us for six at 1 Mbit (47 + 8n bits, CAN 2.0)."""
    assert codec.cycle_ns(JOINTS, 1_000_000) == 6 * (111 + 47 + 111) * 1000
    assert codec.cycle_ns(JOINTS, 1_000_000, effort=True) == 6 * (111 + 2 * 158) * 1000
    assert can_ns(Frame(0x029, b"", remote=True), 1_000_000) == 47_000


def test_every_error_bit_has_a_sentence_and_a_fault():
    for bit, (text, fault) in {**models.ERRORS, **models.OWN}.items():
        assert models.sentence(bit) == text
        assert models.faults_of(bit) == fault


def test_unknown_error_bits_are_still_faults():
    assert models.faults_of(0x8000_0200) == Fault.VOLTAGE | Fault.OTHER
    assert models.sentence(0x8000_0200) == "bus voltage too low; unknown error bits 0x80000000"
    assert models.sentence(0) == "no error"


def test_committed_corpus_of_the_fuzzer_is_explained_without_an_exception():
    files = sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "odrive").iterdir())
    assert 10 <= len(files) <= 50
    for file in files:
        word, payload = int.from_bytes(file.read_bytes()[:2], "big"), file.read_bytes()[2:]
        assert len(payload) <= 198
        frame = Frame(word & 0xFFF, payload, bool(word & 0x1000), bool(word & 0x2000), False, bool(word & 0x4000))
        assert codec.describe(frame)
