"""The host's driver and a device on a line in memory, under a clock that the test turns: what happens when, exactly."""

from types import SimpleNamespace

import numpy as np
import pytest

from firmware_bridge.arm import Mode
from firmware_bridge.edgelink import driver, greeting
from firmware_bridge.edgelink.codec import ArmRequest, Decoder, HelloAck, State, encode
from firmware_bridge.edgelink.controller import IntegratorPlant, VirtualDevice
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.errors import ArmRefused
from tests.firmware_bridge.conftest import CHANNELS

HERE = np.array([0.25, -1.0], np.float32)
SECOND_NS = 1_000_000_000


class Line:
    """A device answers at once, and in no time, unless `mute`; waiting takes as long as it is allowed to."""

    name = "memory"

    def __init__(self):
        self.now_ns, self.ahead_us = 50 * SECOND_NS, 4_000_000_000
        plant = IntegratorPlant(np.zeros(2, np.float32))
        self.device = VirtualDevice(plant, CHANNELS, np.zeros(2, np.float32), watchdog_us=10_000_000)
        self.written, self.arrived, self.mute, self.opened = [], b"", False, False

    @property
    def device_us(self):
        return self.now_ns // 1000 + self.ahead_us

    def open(self):
        self.opened = True

    def close(self):
        self.opened = False

    def write(self, data):
        self.written.append(data)
        answer = self.device.feed(data, self.device_us)
        self.arrived += b"" if self.mute else answer

    def read(self):
        arrived, self.arrived = self.arrived, b""
        return arrived

    def wait_readable(self, deadline_ns):
        if not self.arrived:
            self.now_ns = max(self.now_ns, deadline_ns)
        return bool(self.arrived)


@pytest.fixture
def line(monkeypatch):
    line = Line()
    clock = SimpleNamespace(monotonic_ns=lambda: line.now_ns)
    monkeypatch.setattr(driver, "time", clock)
    monkeypatch.setattr(greeting, "time", clock)
    return line


@pytest.fixture
def armed(line):
    arm = EdgelinkArm(line, CHANNELS)
    arm.connect()
    arm.arm()
    arm.poll()
    line.written.clear()
    return arm


def command(arm):
    assert arm.send(HERE, arm.transport.now_ns + SECOND_NS // 2) > 0


def question(arm):
    arm.request_state()


@pytest.mark.parametrize("ask", [command, question])
def test_a_state_is_never_dated_before_its_question_though_the_devices_clock_is_slow(line, armed, ask):
    for _ in range(300):  # more than there is room for times of sending
        line.now_ns += SECOND_NS // 100
        line.ahead_us -= 1_000
        ask(armed)
        assert armed.poll().stamp_ns == line.now_ns


@pytest.mark.parametrize("ask", [command, question])
def test_a_devices_clock_that_is_fast_is_followed(line, armed, ask):
    line.ahead_us += 400_000
    ask(armed)
    armed.poll()
    line.now_ns += SECOND_NS // 100
    armed.send(HERE, line.now_ns + 1_000)  # void in a microsecond
    assert armed.poll().verdict == 0


@pytest.mark.parametrize("ask", [command, question])
def test_what_is_asked_is_numbered_one_by_one_and_the_state_says_which_it_answers(line, armed, ask):
    armed._seq = 0xFFFD
    for expected in (0xFFFE, 0xFFFF, 0, 1):
        ask(armed)
        assert armed.last_asked == expected
        assert armed.poll().last_seq == expected


def test_two_answers_of_one_microsecond_are_both_taken(line, armed):
    before = armed.counts.replies
    question(armed)
    question(armed)
    assert armed.poll().last_seq == armed.last_asked
    assert (armed.counts.replies - before, armed.counts.stale_replies) == (2, 0)


def test_a_request_to_arm_is_void_when_its_answer_is_no_longer_waited_for(line, armed):
    """Three times a tenth of a second: what is still on its way then must not arm the device behind the host's back."""
    line.mute, begun_us, begun_ns = True, line.device_us, line.now_ns
    with pytest.raises(ArmRefused, match="no answer"):
        armed.arm()
    requests = Decoder().feed(b"".join(line.written))
    assert [type(request) for request in requests] == [ArmRequest] * 3
    expiries_us = [(request.expiry_us - begun_us) & 0xFFFF_FFFF for request in requests]
    assert expiries_us == [100_000, 200_000, 300_000]
    assert line.now_ns - begun_ns == 300_000_000


def test_only_the_answer_to_the_request_itself_confirms_it(line, armed):
    armed.disarm()
    line.device.feed = lambda data, now_us: b"".join(
        encode(message)
        for message in (
            HelloAck(0, 0, now_us & 0xFFFF_FFFF, 0, ()),
            State(armed._seq ^ 0x8000, now_us & 0xFFFF_FFFF, Mode.ARMED, 0, 0, 0, (0.0, 0.0), (0.0, 0.0)),
        )
    )
    with pytest.raises(ArmRefused, match="no answer"):
        armed.arm()
    assert armed.mode is Mode.STOPPED


def test_a_closed_arm_is_disarmed_for_the_host_and_its_port_is_free(line, armed):
    armed.close()
    assert (armed.mode, line.opened) == (Mode.DISARMED, False)
    assert line.device.mode is Mode.STOPPED
