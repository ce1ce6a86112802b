"""Answers are taken apart at once where nothing else came in, piece by piece where it did: both give the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.feetech import codec
from firmware_bridge.feetech.driver import FeetechArm
from tests.firmware_bridge.feetech.arms import JOINTS, SCS_JOINTS

FIVE = bytes.fromhex("FF FF 05 06 20 00 08 0A 80 42")  # 2048 counts, -10 counts/s, overload: 5+6+20+8+A+80 = BD


class Line:
    """Hands out what a test put in."""

    name = "line"

    def __init__(self):
        self.arrived = []

    def write(self, data):
        pass

    def read(self):
        return self.arrived.pop(0) if self.arrived else b""


def arm(joints=JOINTS):
    """In the middle of a cycle that asked for position and speed."""
    made = FeetechArm(Line(), joints)
    made._want_slow = False
    made.request_state()
    return made


def answer(servo, counts=2048, speed=0, status=0):
    return codec.packet(servo, status, counts.to_bytes(2, "little") + speed.to_bytes(2, "little"))


ANSWERS = b"".join(answer(joint.id, 2000 + joint.id, 0x8000 + joint.id) for joint in JOINTS)


def both(pieces):
    """(readings, foreign) of the driver, and of one that looks at everything piece by piece."""
    quick, slow = arm(), arm()
    slow._at_once = None
    found = []
    for driver in (quick, slow):
        driver.transport.arrived = list(pieces)
        readings = [reading for _ in pieces for reading in driver._readings()]
        found.append((readings, driver.counts.foreign, driver._decoder.rest))
    return found


def same(pieces):
    """What both say, as text: NaN is not itself."""
    quick, slow = both(pieces)
    assert repr(quick) == repr(slow)
    return quick


def test_an_answer_is_position_speed_and_status():
    (reading,), foreign, _ = same([FIVE])
    assert reading[:3] == (4, pytest.approx(3.14159265), pytest.approx(-0.01533981))  # 2048 and -10 of 4096 a turn
    assert reading[5:] == (4, 32)  # Fault.OVERLOAD
    assert foreign == 0


def test_what_is_whole_is_taken_at_once():
    driver = arm()
    driver._any = None  # not called
    driver.transport.arrived = [ANSWERS[:10], ANSWERS[10:]]
    assert [reading.joint for _ in range(2) for reading in driver._readings()] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("bit", range(8 * len(ANSWERS)))
def test_every_flipped_bit_costs_its_answer_and_no_other(bit):
    spoiled = bytearray(ANSWERS)
    spoiled[bit // 8] ^= 1 << bit % 8
    readings, foreign, rest = same([bytes(spoiled)])
    assert bit // 80 not in {reading.joint for reading in readings}
    assert foreign or rest
    assert set(readings) <= set(both([ANSWERS])[0][0])


@given(st.lists(st.integers(0, len(ANSWERS)), max_size=5), st.permutations(range(6)))
def test_answers_in_any_order_and_pieces(cuts, order):
    stream = b"".join(ANSWERS[10 * at : 10 * at + 10] for at in order)
    ends = [*sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]
    readings, foreign, rest = same(pieces)
    assert [reading.joint for reading in readings] == list(order)
    assert (foreign, rest) == (0, b"")


@given(st.lists(st.sampled_from([ANSWERS, FIVE, FIVE[:4], b"\xff", bytes(10), answer(9), answer(1, 5000)]), max_size=6))
def test_foreign_answers_noise_and_pieces_are_told_alike(pieces):
    same(pieces)


def test_a_position_that_no_servo_has_is_no_answer():
    readings, foreign, _ = same([answer(1, 4095) + answer(2, 4096) + answer(3, 0x8000) + answer(4, 0xFFFF)])
    assert [(reading.joint, reading.position_rad) for reading in readings][1:] == [(2, 0.0)]  # minus nought
    assert foreign == 2


def test_scs_servos_are_never_taken_at_once():
    driver = arm(SCS_JOINTS)
    assert driver._at_once is None
    driver.transport.arrived = [codec.packet(1, 0, bytes.fromhex("02 00 80 0A 00 00"))]
    ((joint, at_rad, *_),) = driver._readings()
    assert (joint, at_rad) == (0, pytest.approx(2.6179939, abs=1e-3))  # 512 of 1024 over 300 degrees
