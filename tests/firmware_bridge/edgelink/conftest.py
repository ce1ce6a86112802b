"""An edgelink arm on a real pty, as the driver's tests want it."""

import pytest

from firmware_bridge.arm import Mode
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.transport.serial import SerialTransport
from tests.firmware_bridge.conftest import CHANNELS


@pytest.fixture
def served(serve):
    return serve()


@pytest.fixture
def link(served):
    arm = EdgelinkArm(SerialTransport(served.port, 921_600), CHANNELS)
    yield arm
    arm.close()


@pytest.fixture
def armed(link):
    link.connect()
    link.arm()
    assert link.poll().mode == Mode.ARMED  # the answer to arm() is a state too
    return link
