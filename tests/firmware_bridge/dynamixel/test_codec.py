"""Bytes of the e-manual, docs/en/dxl/protocol2/ ("Example" of each instruction); the wire's time of facts section 6."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Joint
from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.codec import Block, GoalWriter, Status
from firmware_bridge.dynamixel.models import RAD_PER_COUNT, Register
from firmware_bridge.errors import BadSetpoint
from firmware_bridge.transport.base import Frame
from tests.firmware_bridge.dynamixel.arms import ALIKE, JOINTS
from tests.firmware_bridge.dynamixel.manual import FAST_ANSWER, PING_1, PONG_1


def joint(servo, low=-10.0, high=10.0):
    return Joint(f"j{servo}", "rad", low, high, servo, "xm430-w210")


def test_ping_is_the_manuals():
    assert codec.ping(1) == PING_1
    assert codec.ping(codec.BROADCAST) == bytes.fromhex("ff ff fd 00 fe 03 00 01 31 42")


def test_read_of_present_position_is_the_manuals():
    assert codec.read(1, 132, 4) == bytes.fromhex("ff ff fd 00 01 07 00 02 84 00 04 00 1d 15")


def test_write_of_goal_position_is_the_manuals():
    written = codec.write(1, models.GOAL_POSITION, 512)
    assert written == bytes.fromhex("ff ff fd 00 01 09 00 03 74 00 00 02 00 00 ca 89")


def test_reboot_is_the_manuals():
    assert codec.reboot(1) == bytes.fromhex("ff ff fd 00 01 03 00 08 2f 4e")


def test_sync_read_is_the_manuals():
    asked = codec.read_all([Block(1, 132, 4), Block(2, 132, 4)])
    assert asked == bytes.fromhex("ff ff fd 00 fe 09 00 82 84 00 04 00 01 02 ce fa")


def test_fast_sync_read_is_the_manuals():
    asked = codec.read_all([Block(3, 132, 4), Block(7, 132, 4), Block(4, 132, 4)], fast=True)
    assert asked == bytes.fromhex("ff ff fd 00 fe 0a 00 8a 84 00 04 00 03 07 04 20 f2")


def test_servos_whose_block_lies_elsewhere_are_read_by_a_bulk_read():
    asked = codec.read_all([Block(1, 144, 2), Block(2, 146, 1)])
    assert asked == bytes.fromhex("ff ff fd 00 fe 0d 00 92 01 90 00 02 00 02 92 00 01 00 1a 05")


def test_fast_bulk_read_differs_in_its_instruction_only():
    """The manual's example prints the CRC of another packet; dynamixel-sdk agrees with ours (test_oracle)."""
    asked = codec.read_all([Block(3, 132, 4), Block(7, 124, 2), Block(4, 146, 1)], fast=True)
    assert asked[:-2] == bytes.fromhex("ff ff fd 00 fe 12 00 9a 03 84 00 04 00 07 7c 00 02 00 04 92 00 01 00")


def test_sync_write_of_goals_is_the_manuals():
    expected = bytes.fromhex("ff ff fd 00 fe 11 00 83 74 00 04 00 01 96 00 00 00 02 aa 00 00 00 82 87")
    assert codec.sync_write(models.GOAL_POSITION, [(1, 150), (2, 170)]) == expected
    assert GoalWriter([joint(1), joint(2)]).encode([150 * RAD_PER_COUNT, 170 * RAD_PER_COUNT]) == expected


def test_status_packets_are_the_manuals():
    assert codec.status(1, 0, b"\x06\x04\x26") == PONG_1
    assert codec.statuses(PONG_1, 3) == [Status(1, 0, b"\x06\x04\x26")]
    two = bytes.fromhex("ff ff fd 00 02 08 00 55 00 1f 08 00 00 ba be")
    assert codec.statuses(two, 4) == [Status(2, 0, (2079).to_bytes(4, "little"))]


def test_a_fast_answer_is_the_manuals_in_pieces_and_whole():
    values = ((3, 166), (7, 2079), (4, 1023))
    answers = [Status(servo, 0, value.to_bytes(4, "little")) for servo, value in values]
    pieces = codec.fast_status(answers)
    assert [len(piece) for piece in pieces] == [16, 8, 8]
    assert b"".join(pieces) == FAST_ANSWER
    assert codec.statuses(FAST_ANSWER, 4) == answers
    assert codec.statuses(FAST_ANSWER, 5) == []


def test_of_a_fast_answer_cut_short_the_blocks_before_the_cut_count():
    assert [a.servo for a in codec.fast_blocks(FAST_ANSWER[:24], 4)] == [3, 7]
    assert [a.servo for a in codec.fast_blocks(FAST_ANSWER[:30], 4)] == [3, 7]
    broken = FAST_ANSWER[:10] + b"\xa7" + FAST_ANSWER[11:]
    assert codec.fast_blocks(broken, 4) == []
    assert codec.fast_blocks(b"", 4) == []


def test_a_header_within_data_is_stuffed_before_the_crc():
    """FF FF FD in parameters gets another FD, which length and CRC count (e-manual, Processing Order)."""
    sent = codec.packet(1, codec.WRITE, bytes.fromhex("74 00 ff ff fd 00"))
    assert sent[:-2] == bytes.fromhex("ff ff fd 00 01 0a 00 03 74 00 ff ff fd fd 00")
    assert codec.crc16(sent[:-2]) == sent[-2] + (sent[-1] << 8)
    assert codec.statuses(codec.status(5, 0, b"\xff\xff\xfd\x01"), 4) == [Status(5, 0, b"\xff\xff\xfd\x01")]


def test_goals_with_a_header_in_them_are_stuffed_too():
    count = int.from_bytes(bytes.fromhex("ff ff fd ff"), "little", signed=True)
    frame = GoalWriter([joint(1, -1000.0, 1000.0)]).encode([count * RAD_PER_COUNT])
    assert frame == codec.sync_write(models.GOAL_POSITION, [(1, count)])
    assert b"\xff\xff\xfd\xfd\xff" in frame


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.21, -1.21, 1e300])
def test_the_codec_refuses_what_would_leave_the_range(bad):
    with pytest.raises(BadSetpoint, match="refused before the wire"):
        GoalWriter([joint(1, -1.2, 1.2), joint(2, -1.2, 1.2)]).encode([0.0, bad])


def test_goals_of_another_number_of_joints_are_refused():
    with pytest.raises(ValueError):
        GoalWriter([joint(1), joint(2)]).encode([0.0])


def test_a_joint_of_more_than_256_turns_is_refused():
    with pytest.raises(BadSetpoint, match="256 turns"):
        GoalWriter([joint(1, -2000.0, 0.0)])


def test_a_value_that_a_register_cannot_carry_is_refused():
    with pytest.raises(BadSetpoint, match="1 bytes, unsigned"):
        codec.write(1, models.TORQUE, 256)
    with pytest.raises(BadSetpoint, match="4 bytes, signed"):
        codec.write(1, models.GOAL_POSITION, 1 << 31)


def test_six_joints_reading_and_writing_four_bytes_take_154_bytes():
    """facts, section 6: at 1 Mbaud 649 Hz, at the factory's 57,600 baud 37 Hz."""
    assert codec.cycle_bytes(6, 4) == 154
    assert pytest.approx(649, abs=1) == 1e6 / (154 * 10)
    assert pytest.approx(37, abs=1) == 57600 / (154 * 10)


def test_the_wire_limit_of_each_read():
    # (14 + 5 x 6) goals, (14 + 6) question, and 6 x (11 + n) or 8 + 6 x (4 + n) answers
    assert codec.cycle_bytes(6, 13) == 44 + 20 + 144
    assert codec.cycle_bytes(6, 13, fast=True) == 44 + 20 + 110
    assert codec.cycle_bytes(6, 13, bulk=True) == 44 + 40 + 144
    assert codec.cycle_ns(ALIKE, 1_000_000) == 2_080_000
    assert codec.cycle_ns(JOINTS, 1_000_000) == 2_280_000  # two families: a bulk read


def test_counted_bytes_are_those_of_real_packets():
    for fast in (False, True):
        question = codec.read_all([Block(i, 126, 10) for i in range(1, 7)], fast)
        answers = [Status(i, 0, bytes(10)) for i in range(1, 7)]
        each = codec.fast_status(answers) if fast else [codec.status(*answer) for answer in answers]
        goals = GoalWriter([joint(i) for i in range(1, 7)]).encode([0.0] * 6)
        assert len(goals + question + b"".join(each)) == codec.cycle_bytes(6, 10, fast)
    bulk = codec.read_all([Block(i, 120 + i, 4) for i in range(1, 7)])
    assert len(bulk) == 10 + 5 * 6


@given(st.lists(st.floats(-1.2, 1.2), min_size=2, max_size=2))
def test_goals_round_to_the_nearest_count(angles):
    frame = GoalWriter([joint(1, -1.2, 1.2), joint(2, -1.2, 1.2)]).encode(angles)
    counts = [round(angle / RAD_PER_COUNT) for angle in angles]
    assert frame == codec.sync_write(models.GOAL_POSITION, [(1, counts[0]), (2, counts[1])])


def test_a_packet_longer_than_any_servo_sends_is_explained_too():
    assert "write to id 1" in codec.describe(codec.packet(1, codec.WRITE, bytes(5000)))


# --- in words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (PING_1, "ping to id 1"),
        (codec.ping(codec.BROADCAST), "ping to all"),
        (PONG_1, "status of id 1: no error, data 06 04 26"),
        (codec.status(4, 0x84), "status of id 4: value outside the register's range"),
        (codec.status(4, 0x80), "ALERT: hardware error"),
        (codec.status(4, 0x33), "unknown error 0x33"),
        (codec.packet(4, codec.STATUS), "without its error byte"),
        (FAST_ANSWER, "answer of several servos to a fast read"),
        (codec.read(1, 132, 4), "read to id 1: 4 bytes at 132"),
        (codec.write(1, models.GOAL_POSITION, -2), "write to id 1: -2 (fe ff ff ff) at 116"),
        (
            codec.read_all([Block(1, 132, 4), Block(2, 132, 4)], True),
            "fast sync read to all: 4 bytes at 132 of ids 1, 2",
        ),
        (
            codec.read_all([Block(1, 144, 2), Block(2, 146, 1)]),
            "bulk read to all: 2 bytes at 144 of id 1, 1 bytes at 146",
        ),
        (codec.sync_write(models.GOAL_POSITION, [(1, 150), (2, -3)]), "4 bytes at 116; id 1 = 150; id 2 = -3"),
        (codec.packet(1, 0x77), "unknown instruction 0x77"),
        (codec.packet(1, codec.CLEAR, b"\x01\x44"), "clear to id 1: 01 44"),
        (codec.packet(1, codec.READ, b"\x01"), "read to id 1: 01"),
        (PING_1[:-1], "no Dynamixel packet: 9 bytes"),
        (PONG_1[:-1] + b"\x00", "wrong CRC"),
        (b"hello", "no Dynamixel packet: 5 bytes"),
        (Frame(1, b"\x00"), "a CAN frame"),
    ],
)
def test_any_bytes_are_explained(unit, words):
    assert words in codec.describe(unit)


def test_a_packet_without_its_end_is_called_cut():
    assert "cut: 14 bytes announced, 12 here" in codec.describe(PONG_1[:12])


def test_every_code_of_the_protocol_has_its_sentence():
    assert set(range(8)) == set(codec.SENTENCES)
    assert set(models.HARDWARE_ERRORS) == {1, 4, 8, 16, 32}
    assert models.hardware_sentence(0x24) == f"{models.HARDWARE_ERRORS[4]}; {models.HARDWARE_ERRORS[32]}"
    assert "unknown bits 0x40" in models.hardware_sentence(0x40)
    assert models.hardware_sentence(0) == "no hardware error"


def test_registers_lie_where_the_manual_has_them():
    at = {name: register.address for name, register in vars(models).items() if isinstance(register, Register)}
    assert at["GOAL_POSITION"] == 116
    assert at["PRESENT_POSITION"] == 132
    assert at["BUS_WATCHDOG"] == 98
    assert at["SECONDARY_ID"] == 12
    assert pytest.approx(0.023981, rel=1e-4) == models.VELOCITY_RAD_S
    assert models.MODELS["xm540-w270"].nm_per_unit == pytest.approx(2.69e-3 * 2.409, rel=1e-3)  # the page: 2.409 Nm/A
