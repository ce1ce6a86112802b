"""An arm on a bus in memory, under a clock of the test's own."""

import pytest

from firmware_bridge import bus_arm
from tests.firmware_bridge.bus_arm.bench import JOINTS, BenchArm, Bus, Clock


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bus_arm, "time", clock)
    return clock


@pytest.fixture
def arm(clock):
    return BenchArm(Bus(clock), JOINTS, 0.1)


@pytest.fixture
def armed(arm):
    arm.connect()
    arm.arm()
    arm.transport.log.clear()
    return arm
