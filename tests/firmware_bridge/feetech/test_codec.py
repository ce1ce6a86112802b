"""Bytes of Feetech's protocol. Literals: examples of the maker's protocol manual, sections 1.3.1 to 1.3.6."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Fault, Joint
from firmware_bridge.errors import BadSetpoint
from firmware_bridge.feetech import codec
from firmware_bridge.feetech.codec import Decoder, Goals, Packet, describe, split
from firmware_bridge.feetech.models import MODELS, SCS, STS
from firmware_bridge.transport.base import Frame
from tests.firmware_bridge.feetech.arms import JOINTS, SCS_JOINTS

PING = bytes.fromhex("FF FF 01 02 01 FB")
PING_ANSWER = bytes.fromhex("FF FF 01 02 00 FC")
READ = bytes.fromhex("FF FF 01 04 02 38 02 BE")
READ_ANSWER = bytes.fromhex("FF FF 01 04 00 18 05 DD")
WRITE_ID = bytes.fromhex("FF FF FE 04 03 05 01 F4")
WRITE_GOAL = bytes.fromhex("FF FF 01 09 03 2A 00 08 00 00 E8 03 D5")
SYNC_WRITE = bytes.fromhex(
    "FF FF FE 20 83 2A 06 01 00 08 00 00 E8 03 02 00 08 00 00 E8 03 03 00 08 00 00 E8 03 04 00 08 00 00 E8 03 58"
)
SYNC_READ = bytes.fromhex("FF FF FE 06 82 38 08 01 02 36")
ALL = (PING, PING_ANSWER, READ, READ_ANSWER, WRITE_ID, WRITE_GOAL, SYNC_WRITE, SYNC_READ)


def test_packets_are_those_of_the_manual():
    goal = bytes.fromhex("00 08 00 00 E8 03")  # position 2048, time 0, speed 1000
    assert codec.ping(1) == PING
    assert codec.read(1, 0x38, 2) == READ
    assert codec.write(0xFE, 5, b"\x01") == WRITE_ID
    assert codec.write(1, 0x2A, goal) == WRITE_GOAL
    assert codec.sync_write(0x2A, dict.fromkeys((1, 2, 3, 4), goal)) == SYNC_WRITE
    assert codec.sync_read(0x38, 8, [1, 2]) == SYNC_READ
    assert codec.action() == bytes.fromhex("FF FF FE 02 05 FA")
    assert codec.reg_write(1, 0x2A, goal) == bytes.fromhex("FF FF 01 09 04 2A 00 08 00 00 E8 03 D4")


def test_the_answer_of_the_manual_reads_1304_counts():
    (answer,) = Decoder().feed(READ_ANSWER)
    assert answer == Packet(1, 0, bytes.fromhex("18 05"))
    assert codec.words(answer.data, big_endian=False) == [0x0518]
    assert codec.words(answer.data, big_endian=True) == [0x1805]


def test_six_goals_at_the_middle_are_one_packet_of_26_bytes():
    packed = Goals(JOINTS).pack([math.pi] * 6)
    assert packed.hex(" ") == (
        "ff ff fe 16 83 2a 02 01 00 08 02 00 08 03 00 08 04 00 08 05 00 08 06 00 08 f7"  # 2048 = 00 08, low byte first
    )


def test_scs_goals_go_high_byte_first():
    assert Goals(SCS_JOINTS[:1]).pack([math.radians(150)]) == bytes.fromhex("FF FF FE 07 83 2A 02 01 02 00 48")  # 512


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, math.pi + 1.6, math.pi - 1.6, 1e30])
def test_a_goal_that_is_not_in_the_joints_range_is_refused_again(value):
    with pytest.raises(BadSetpoint, match="refused before the wire"):
        Goals(JOINTS).pack([*[math.pi] * 5, value])


def test_goals_for_another_number_of_joints_are_refused():
    with pytest.raises(BadSetpoint, match="other joints"):
        Goals(JOINTS).pack([math.pi] * 5)


@given(st.lists(st.floats(-1.5, 1.5, width=32), min_size=6, max_size=6))
def test_goals_come_back_within_half_a_count(values):
    device = [joint.to_device(value) for joint, value in zip(JOINTS, values, strict=True)]
    (packet,) = Decoder().feed(Goals(JOINTS).pack(device))
    assert (packet.id, packet.code, packet.data[:2]) == (0xFE, 0x83, b"\x2a\x02")
    rows = [packet.data[at : at + 3] for at in range(2, len(packet.data), 3)]
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, rad in zip(rows, device, strict=True):
        assert abs(int.from_bytes(row[1:], "little") / 4096 * 2 * math.pi - rad) <= math.pi / 4096 + 1e-6


def test_ranges_and_models_outside_the_tables_are_refused():
    joint = JOINTS[0]
    with pytest.raises(BadSetpoint, match="leaves the servo's turn"):
        Goals([Joint("pan", "rad", -4.0, 4.0, 1, "sts3215", zero_rad=math.pi)])
    with pytest.raises(BadSetpoint, match="the model of pan"):
        codec.model_of(Joint("pan", "rad", -1, 1, 1, "sts9999"))
    assert codec.count_range(joint, MODELS["sts3215"]) == (1070, 3026)  # 2048 -+ 1.5 * 4096 / 2 pi = 977.85


@pytest.mark.parametrize(
    ("value", "bit", "raw"), [(0, 15, 0), (5, 15, 5), (-5, 15, 0x8005), (-1, 10, 0x401), (-1023, 10, 0x7FF)]
)
def test_negative_numbers_are_a_magnitude_and_a_sign_bit(value, bit, raw):
    assert codec.from_signed(value, bit) == raw
    assert codec.to_signed(raw, bit) == value


def test_words_go_in_the_order_of_the_series():
    assert codec.word(0x0518, big_endian=False) == b"\x18\x05"
    assert codec.word(0x0518, big_endian=True) == b"\x05\x18"


def test_numbers_without_room_are_refused():
    for bad in (lambda: codec.from_signed(2048, 11), lambda: codec.word(65536, False), lambda: codec.word(-1, True)):
        with pytest.raises(BadSetpoint):
            bad()
    with pytest.raises(BadSetpoint):
        codec.packet(255, 1)
    with pytest.raises(BadSetpoint):
        codec.write(1, 0, bytes(245))
    with pytest.raises(BadSetpoint, match="different lengths"):
        codec.sync_write(40, {1: b"\x01", 2: b"\x01\x02"})


@given(st.integers(0, 0xFE), st.integers(0, 255), st.binary(max_size=244))
def test_any_packet_comes_back(servo, code, data):
    packet = codec.packet(servo, code, data)
    assert Decoder().feed(packet) == [Packet(servo, code, data)]
    assert split(packet) == [packet]


@given(st.lists(st.sampled_from(ALL), min_size=1, max_size=8), st.data())
def test_packets_arrive_whole_however_the_stream_is_cut(packets, data):
    stream = b"".join(packets)
    decoder, found, at = Decoder(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, len(stream) - at))
        found += decoder.feed(stream[at : at + size])
        at += size
    assert [codec.packet(*packet) for packet in found] == packets
    assert decoder.skipped == 0


@given(st.binary(max_size=64))
def test_garbage_never_raises_and_nothing_is_lost(junk):
    decoder = Decoder()
    decoder.feed(junk)
    assert b"".join(split(junk)) == junk
    for piece in split(junk):
        assert describe(piece)
    assert describe(junk)


@given(st.binary(max_size=20).filter(lambda junk: b"\xff" not in junk))
def test_a_packet_behind_noise_is_found(junk):
    decoder = Decoder()
    assert decoder.feed(junk + READ_ANSWER) == [Packet(1, 0, b"\x18\x05")]
    assert decoder.skipped == len(junk)
    assert split(junk + READ_ANSWER + junk) == [piece for piece in (junk, READ_ANSWER, junk) if piece]


@given(st.integers(0, 8 * len(READ_ANSWER) - 1))
def test_a_flipped_bit_is_never_taken_for_a_packet(bit):
    spoiled = bytearray(READ_ANSWER)
    spoiled[bit // 8] ^= 1 << bit % 8
    assert Decoder().feed(bytes(spoiled)) == []


def test_a_spoiled_length_swallows_no_more_than_the_longest_expected_packet():
    spoiled = bytearray(READ_ANSWER)
    spoiled[3] = 0xF0
    decoder = Decoder(longest=len(READ_ANSWER))
    assert decoder.feed(bytes(spoiled) + READ_ANSWER) == [Packet(1, 0, b"\x18\x05")]


def test_a_third_ff_in_front_belongs_to_no_packet():
    decoder = Decoder()
    assert decoder.feed(b"\xff" + READ_ANSWER) == [Packet(1, 0, b"\x18\x05")]
    assert decoder.skipped == 1
    decoder.feed(READ_ANSWER[:5])
    decoder.clear()
    assert decoder.feed(READ_ANSWER[5:] + READ_ANSWER) == [Packet(1, 0, b"\x18\x05")]


def test_present_values_in_blocks_of_each_length():
    data = bytes.fromhex("00 08 0A 80 64 04 4A 1E")  # 2048, -10, -100, 7.4 V, 30 C
    assert codec.reader(4, False)(data[:4]) == (2048, -10, None, None, None)
    assert codec.reader(6, False)(data[:6]) == (2048, -10, -100, None, None)
    assert codec.reader(8, False)(data) == (2048, -10, -100, 74, 30)
    assert codec.reader(4, True)(bytes.fromhex("02 00 80 0A")) == (512, -10, None, None, None)


@pytest.mark.parametrize(
    ("status", "fault", "words"),
    [
        (0, Fault.NONE, "no fault"),
        (1, Fault.VOLTAGE, "supply voltage"),
        (2, Fault.ENCODER, "position sensor"),
        (4, Fault.OVERHEAT, "hotter"),
        (8, Fault.OVERLOAD, "current"),
        (16, Fault.LIMIT, "angle limits"),
        (32, Fault.OVERLOAD, "overload"),
        (40, Fault.OVERLOAD, "overload"),
        (33, Fault.OVERLOAD | Fault.VOLTAGE, "supply voltage"),
        (64, Fault.OTHER, "bit 6"),
        (128, Fault.OTHER, "bit 7"),
    ],
)
def test_each_status_bit_is_a_fault_and_a_sentence(status, fault, words):
    assert codec.FAULTS[status] == fault
    assert words in codec.sentence(status)


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (PING, "to servo 1: ping (or: servo 1 answers: supply voltage"),
        (PING_ANSWER, "servo 1 answers: no fault"),
        (READ, "to servo 1: read 2 bytes from 56 (present_position)"),
        (READ_ANSWER, "servo 1 answers: no fault, data 18 05"),
        (WRITE_ID, "to all: write 01 to 5 (id)"),
        (codec.reg_write(3, 42, b"\x00\x08"), "to servo 3: reg write 00 08 to 42 (goal_position)"),
        (codec.action(), "to all: action"),
        (SYNC_READ, "to all: sync read of 8 bytes from 56 (present_position), servos 1, 2"),
        (codec.sync_write(99, {7: b"\x05"}), "to all: sync write to 99, 7: 05"),
        (codec.packet(0xFE, 0x77), "to all: unknown instruction 0x77"),
        (b"\xff\xff\x01", "junk, 3 bytes"),
        (bytes(40), "junk, 40 bytes"),
        (Frame(1, b""), "a CAN frame"),
    ],
)
def test_any_packet_is_told_in_words(packet, words):
    assert words in describe(packet)


def test_wire_time_is_that_of_the_bytes():
    # Goals 8 + 3 N, question 8 + N, answers N (6 + 4): 26 + 14 + 60 = 100 bytes of 10 bits (facts, section 6).
    assert codec.cycle_ns(JOINTS, 1_000_000) == 1_000_000
    assert codec.cycle_ns(JOINTS, 1_000_000, read="effort") == 1_120_000
    assert codec.cycle_ns(JOINTS, 1_000_000, read="slow") == 2_200_000
    assert codec.cycle_ns(SCS_JOINTS, 1_000_000) == (26 + 6 * 8 + 6 * 12) * 10_000


def test_both_series_are_in_the_table():
    assert {model.series for model in MODELS.values()} == {STS, SCS}
