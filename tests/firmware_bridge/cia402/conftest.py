"""Virtual drives in a process of their own, and the driver on their bus."""

import pytest

from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.cia402.arms import JOINTS
from tests.firmware_bridge.cia402.driven import driver


@pytest.fixture
def device():
    with VirtualProcess("cia402", JOINTS) as process:
        yield process


@pytest.fixture
def arm(device):
    driven = driver(device)
    yield driven
    driven.close()
