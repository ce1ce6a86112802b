"""Single questions: an answer that comes late must not answer the next one, because answers carry no number."""

import time

import pytest

from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.bus import Bus
from firmware_bridge.errors import JointSilent

ANSWER_S = 0.05


class SlowLine:
    """Answers a read of one byte with its address: the first `late_s` after it was asked for, the others sooner."""

    name = "slow"

    def __init__(self, late_s):
        self._late_s, self._due = late_s, []

    def write(self, data):
        answer = codec.status(3, 0, data[8:9])
        self._due.append((time.monotonic() + self._late_s, answer))
        self._late_s = 0.6 * ANSWER_S

    def read(self):
        now = time.monotonic()
        data = b"".join(answer for at, answer in self._due if at <= now)
        self._due = [(at, answer) for at, answer in self._due if at > now]
        return data

    def wait_readable(self, deadline_ns):
        while time.monotonic_ns() < deadline_ns:
            if any(at <= time.monotonic() for at, _ in self._due):
                return True
            time.sleep(0.001)
        return False


def test_a_late_answer_is_not_taken_for_that_to_the_next_question():
    bus = Bus(SlowLine(1.5 * ANSWER_S), ANSWER_S)
    assert bus.read(3, models.DRIVE_MODE) == models.DRIVE_MODE.address  # asked twice, answered twice
    assert bus.read(3, models.OPERATING_MODE) == models.OPERATING_MODE.address


def test_silence_is_an_error():
    with pytest.raises(JointSilent):
        Bus(SlowLine(10.0), 0.01).read(4, models.DRIVE_MODE)
