"""Virtual servos in a process of their own, over a pty, and a driver that is connected to them."""

import pytest

from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.feetech.arms import JOINTS, arm_on


@pytest.fixture
def device():
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0) as process:
        yield process


@pytest.fixture
def arm(device):
    driver = arm_on(device.port)
    driver.connect()
    yield driver
    driver.close()
