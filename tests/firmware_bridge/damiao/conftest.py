"""Virtual motors in a process of their own, and the driver on them."""

import pytest

from firmware_bridge import bus_arm
from firmware_bridge.arm import StopKind
from firmware_bridge.damiao import access, driver
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.damiao.rig import ALL, arm_on


@pytest.fixture
def virtual():
    with VirtualProcess("damiao", ALL) as process:
        yield process


@pytest.fixture
def patient(monkeypatch):
    """A busy test machine must not look like a silent bus."""
    for where in (driver, access, bus_arm):
        monkeypatch.setattr(where, "FIRST_READ_S", 0.5)


@pytest.fixture
def slow(virtual, patient):
    """An arm whose watchdog no busy machine trips by accident, connected."""
    arm = arm_on(virtual.port, watchdog_s=2.0)
    arm.connect()
    yield arm
    arm.stop(StopKind.FREE)
    arm.close()
