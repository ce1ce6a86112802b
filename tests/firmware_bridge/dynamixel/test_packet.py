"""Packets in a stream: whole, cut, spoiled, stuffed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.dynamixel import codec
from firmware_bridge.dynamixel.codec import Decoder, Status
from tests.firmware_bridge.dynamixel.manual import FAST_ANSWER, PING_1, PONG_1


@given(st.lists(st.integers(1, 60), max_size=12))
def test_packets_come_out_whole_however_the_bytes_are_cut(sizes):
    stream = b"\x00\xff" + PONG_1 + b"\xff\xff\xfd" + FAST_ANSWER + PING_1
    decoder, found, at = Decoder(), [], 0
    for size in [*sizes, len(stream)]:
        found += decoder.feed(stream[at : at + size])
        at += size
    assert found == [PONG_1, FAST_ANSWER, PING_1]
    assert decoder.junk == 5
    assert decoder.rest == b""


def test_a_packet_cut_in_the_middle_costs_only_itself():
    decoder = Decoder()
    assert decoder.feed(PONG_1[:8] + PONG_1) == [PONG_1]
    assert decoder.junk == 8


def test_a_spoiled_length_does_not_wait_for_bytes_that_never_come():
    decoder = Decoder(longest=64)
    spoiled = PONG_1[:5] + b"\xff\x03" + PONG_1[7:]
    assert decoder.feed(spoiled + PONG_1) == [PONG_1]
    assert Decoder().feed(PONG_1[:5] + b"\x02\x00" + PONG_1[7:] + PING_1) == [PING_1]


def test_a_header_at_the_end_waits_for_its_packet():
    decoder = Decoder()
    assert decoder.feed(PING_1 + PONG_1[:6]) == [PING_1]
    assert decoder.rest == PONG_1[:6]
    assert decoder.feed(PONG_1[6:]) == [PONG_1]
    decoder.feed(PONG_1[:6])
    decoder.clear()
    assert decoder.junk == 6
    assert decoder.feed(PONG_1[6:] + PING_1) == [PING_1]


@given(st.binary(max_size=300))
def test_split_loses_no_byte(data):
    assert b"".join(codec.split(data)) == data


def test_split_gives_packets_and_what_lies_between_them():
    assert codec.split(b"\x01" + PING_1 + b"\x02\x03" + PONG_1 + b"\xff") == [
        b"\x01",
        PING_1,
        b"\x02\x03",
        PONG_1,
        b"\xff",
    ]
    assert codec.split(PING_1) == [PING_1]


@given(st.binary(max_size=200), st.integers(0, 40))
def test_garbage_raises_nothing(data, length):
    for unit in Decoder().feed(data):
        codec.statuses(unit, length)
    codec.fast_blocks(data, length)
    assert codec.describe(data)


@given(st.integers(0, 252), st.integers(0, 255), st.binary(max_size=40))
def test_what_a_servo_says_arrives_as_it_was_said(servo, error, data):
    (unit,) = Decoder().feed(codec.status(servo, error, data))
    assert codec.statuses(unit, len(data)) == [Status(servo, error, data)]


@given(st.lists(st.tuples(st.integers(0, 252), st.integers(0, 255), st.binary(min_size=5, max_size=5)), min_size=1))
def test_fast_answers_arrive_as_they_were_said(said):
    answers = [Status(*each) for each in said][:20]
    (unit,) = Decoder().feed(b"".join(codec.fast_status(answers)))
    assert codec.statuses(unit, 5) == answers
    assert codec.fast_blocks(unit, 5) == answers


@given(st.binary(max_size=64), st.integers(0, 511))
def test_a_flipped_bit_is_never_a_packet(data, bit):
    sent = codec.status(1, 0, data)
    at = bit % (8 * len(sent))
    spoiled = bytearray(sent)
    spoiled[at // 8] ^= 1 << at % 8
    assert sent not in Decoder().feed(bytes(spoiled))
    assert all(len(unit) < len(sent) for unit in Decoder().feed(bytes(spoiled)))


@given(st.binary(max_size=400), st.integers(0, 400))
def test_a_crc_may_be_continued(data, at):
    assert codec.crc16(data[at:], codec.crc16(data[:at])) == codec.crc16(data)


def test_an_instruction_is_no_answer():
    assert codec.statuses(PING_1, 3) == []
    assert codec.statuses(PONG_1, 4) == []
