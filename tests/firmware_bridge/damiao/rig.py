"""The driver on a virtual bus, for its tests."""

import time

from firmware_bridge.arm import exchange
from firmware_bridge.config import BusConfig
from firmware_bridge.damiao.driver import make
from firmware_bridge.transport.socket_can import SocketCan
from tests.firmware_bridge.damiao.arms import GRIPPER, JOINTS, WATCHDOG_S

ALL = (*JOINTS, GRIPPER)
CYCLE_NS = 1_000_000_000  # a deadline that a busy test machine holds


def arm_on(port, joints=ALL, watchdog_s=WATCHDOG_S, fd=True, options=None):
    return make(BusConfig("main", port, 1_000_000, joints, 5_000_000 if fd else None), watchdog_s, options or {})


def cycle(arm, setpoint=None):
    return exchange(arm, arm.held if setpoint is None else setpoint, time.monotonic_ns() + CYCLE_NS)


class Tapped(SocketCan):
    """A transport that keeps what was written."""

    def __init__(self, port, fd=True):
        super().__init__(port, fd)
        self.written = []

    def write(self, frames):
        self.written += frames
        super().write(frames)
