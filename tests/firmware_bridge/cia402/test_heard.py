"""What the drives say, frame by frame. Statuswords of CiA 402-2: 0237 operation enabled, 0218 fault, 0217 quick stop,
0250 switch on disabled; NMT states of CiA 301: 00 boot-up, 05 operational, 7F pre-operational."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Fault, LinkCounts
from firmware_bridge.cia402 import sentences
from firmware_bridge.cia402.config import Scale
from firmware_bridge.cia402.heard import Heard
from firmware_bridge.transport.base import Frame
from tests.firmware_bridge.cia402.arms import COUNTS_PER_RAD, JOINTS

SCALE = Scale(COUNTS_PER_RAD, 2.0)
TURN = bytes.fromhex("37 02 00 00 01 00")  # operation enabled, 65536 counts: one turn
BEAT = Frame(0x703, b"\x05")


def hearing(motion=False):
    heard = Heard(JOINTS, motion, LinkCounts())
    heard.scaled([SCALE] * len(JOINTS))
    return heard


def answers(data=TURN):
    return [Frame(0x181 + i, data) for i in range(6)]


def one(heard, frame, armed=True):
    (reading,) = heard.readings([frame], armed)
    return reading


def test_six_answers_are_six_readings_in_any_order():
    found = hearing().readings(answers()[::-1], True)
    assert [reading.joint for reading in found] == [5, 4, 3, 2, 1, 0]
    assert {reading.position_rad for reading in found} == {65536 / COUNTS_PER_RAD}
    assert {(reading.faults, reading.code) for reading in found} == {(0, 0)}
    assert all(math.isnan(reading.velocity_rad_s) and math.isnan(reading.effort_nm) for reading in found)


@pytest.mark.parametrize(
    ("word", "armed", "code"),
    [
        ("37 02", True, 0),
        ("18 02", True, sentences.FAULTED),
        ("18 02", False, sentences.FAULTED),
        ("1f 02", True, sentences.FAULTED),  # reacting
        ("1f 02", False, 0),
        ("17 02", True, sentences.QUICK_STOPPED),
        ("17 02", False, 0),
        ("50 02", True, sentences.LEFT_ENABLED),
        ("50 02", False, 0),
        ("01 02", True, sentences.LEFT_ENABLED),  # no state at all
    ],
)
def test_drive_that_does_not_follow_has_a_code_while_armed(word, armed, code):
    reading = one(hearing(), Frame(0x181, bytes.fromhex(word) + bytes(4)), armed)
    assert (reading.code, reading.faults) == (code, sentences.faults_of(code))


def test_every_single_bit_flip_of_an_answer_is_what_its_bits_say():
    """CAN's own CRC is the only check of a PDO: what arrives is believed, bit by bit, and never more than that."""
    for bit in range(48):
        data = bytearray(TURN)
        data[bit // 8] ^= 1 << bit % 8
        word, counts = struct.unpack("<Hi", data)
        for motion in (False, True):
            heard = hearing(motion)
            frames = [Frame(0x183, bytes(data)), *([Frame(0x283, bytes(6))] if motion else [])]
            (reading,) = heard.readings(frames, True)
            assert reading.position_rad == counts / COUNTS_PER_RAD
            assert bool(reading.code) == (word & 0x6F != 0x27)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0x187, TURN),  # no drive of this arm
        Frame(0x184, TURN, extended=True),
        Frame(0x184, TURN, fd=True),
        Frame(0x184, b"", remote=True),
        Frame(0x704, b"\x05", extended=True),
        Frame(0x080, b""),
    ],
)
def test_frame_of_nobody_is_foreign(frame):
    heard = hearing()
    assert heard.readings([frame], True) == []
    assert heard._counts.foreign == 1


@pytest.mark.parametrize("length", [0, 1, 5, 7, 8])
def test_answer_of_another_length_is_no_reading(length):
    assert hearing().readings([Frame(0x181, bytes(length))], True) == []


def test_answer_with_motion_has_two_halves_in_order():
    heard = hearing(motion=True)
    half, rest = Frame(0x182, TURN), Frame(0x282, bytes.fromhex("00 80 00 00 f4 01"))  # 32768 counts/s, 50 %
    assert heard.readings([rest], True) == []  # of an earlier cycle
    assert heard.readings([half], True) == []
    reading = one(heard, rest)
    assert reading.velocity_rad_s == pytest.approx(math.pi)
    assert reading.effort_nm == pytest.approx(1.0)
    assert heard.readings([rest], True) == []  # used up
    heard.readings([half], True)
    heard.asked()
    assert heard.readings([rest], True) == []  # a half of before the question


def test_motion_that_was_not_asked_for_is_no_reading():
    assert len(hearing().readings([Frame(0x182, TURN), Frame(0x282, bytes(6))], True)) == 1


def test_emergency_is_the_code_of_its_drive_until_it_is_over():
    heard = hearing()
    heard.readings([Frame(0x083, bytes.fromhex("10 43 09 00 00 00 00 00"))], True)
    found = heard.readings(answers(), True)
    assert [reading.code for reading in found] == [0, 0, 0x4310, 0, 0, 0]
    assert found[2].faults == Fault.OVERHEAT
    heard.readings([Frame(0x083, bytes(8))], True)
    assert one(heard, answers()[2]).code == 0
    heard.readings([Frame(0x083, bytes(7))], True)  # no EMCY: another length
    assert heard._counts.foreign == 1


def test_drive_that_booted_is_lost_until_it_is_forgiven():
    heard = hearing()
    heard.readings([BEAT], True)
    assert not heard.any_lost
    heard.note(Frame(0x703, b"\x00"))
    assert heard.any_lost
    heard.readings([Frame(0x703, b"\x7f")], True)
    assert heard.lost == [0, 0, sentences.BOOTED, 0, 0, 0]  # which says more than having left operational
    assert one(heard, answers()[2]).code == sentences.BOOTED
    heard.forgive()
    assert (heard.any_lost, one(heard, answers()[2]).code) == (False, 0)


def test_leaving_operational_matters_while_armed():
    heard = hearing()
    heard.note(Frame(0x701, b"\x7f"))
    assert not heard.any_lost
    heard.readings([Frame(0x701, b"\x7f")], True)
    assert heard.lost[0] == sentences.LEFT_OPERATIONAL


@given(st.integers(0, 0x7FF), st.binary(max_size=8), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_any_frame_is_one_finite_reading_or_none(can_id, data, extended, fd, remote, motion):
    found = hearing(motion).readings([Frame(can_id, data, extended, fd, False, remote)], True)
    assert len(found) <= 1
    assert all(math.isfinite(reading.position_rad) for reading in found)


def test_answer_that_nobody_waits_for_is_not_noted():
    heard = hearing()
    heard.note(answers()[0])
    heard.note(Frame(0x583, bytes(8)))  # of SDO: canopen's
    heard.note(Frame(0x703, b""))
    assert heard._counts.foreign == 1
    assert heard.words[0] is None


def test_drive_is_explained_by_its_newest_statusword():
    heard = hearing()
    assert heard.why(0) == "axis1: no answer to SYNC"
    heard.note_word(Frame(0x181, bytes.fromhex("18 02 00 00 00 00")))
    heard.note_word(Frame(0x081, bytes.fromhex("10 23 03 00 00 00 00 00")))
    assert heard.words == [0x0218, None, None, None, None, None]
    assert heard.why(0) == "axis1: fault: no torque until it is reset, continuous over-current at the motor (EMCY 2310)"
    heard.note_word(Frame(0x181, bytes.fromhex("01 02 00 00 00 00")))
    assert heard.why(0).startswith("axis1: statusword 0201")
    heard.forget_words()
    assert heard.words[0] is None


@pytest.mark.parametrize(
    ("can_id", "is_one"), [(0x080, True), (0x181, True), (0x286, True), (0x187, False), (0x701, False)]
)
def test_process_data_is_what_a_sync_brings(can_id, is_one):
    assert hearing().is_process_data(Frame(can_id, b"")) == is_one
