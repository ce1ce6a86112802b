"""Six virtual boards in a process of their own, as they come from the factory, and the arm that drives them."""

import pytest

from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.odrive.arms import JOINTS, driver


@pytest.fixture
def device():
    with VirtualProcess("odrive", JOINTS) as process:
        yield process


@pytest.fixture
def arm(device):
    driven = driver(device)
    yield driven
    driven.close()
