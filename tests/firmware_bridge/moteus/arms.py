"""The arm of six moteus joints that tests use."""

from __future__ import annotations

import time

from firmware_bridge.arm import Joint
from firmware_bridge.config import BusConfig
from firmware_bridge.moteus import driver

JOINTS: tuple[Joint, ...] = (
    Joint("base", "rad", -1.5, 1.5, 1, "moteus"),
    Joint("shoulder", "rad", -1.2, 1.2, 2, "moteus", direction=-1, zero_rad=0.1, kp=40.0, kd=1.0),
    Joint("elbow", "rad", -1.8, 1.8, 3, "moteus", torque_ff=0.15, max_effort=2.5),
    Joint("wrist", "rad", -1.5, 1.5, 4, "moteus"),
    Joint("hand", "rad", -1.5, 1.5, 9, "moteus"),  # its answers need extended identifiers
    Joint("gripper", "m", 0.0, 0.08, 10, "moteus", ratio=0.02, zero_rad=-2.0),
)
OPTIONS: dict[str, str] = {}
WATCHDOG_S = 0.1
DATA_BAUD = 5_000_000
SLOW_S = 1.0  # a machine that is busy, or emulated


def opened(virtual, joints=JOINTS, watchdog_s=WATCHDOG_S, **options):
    """The driver for a virtual device, connected."""
    arm = driver.make(BusConfig("main", virtual.port, 1_000_000, joints, 5_000_000), watchdog_s, {**OPTIONS, **options})
    arm.connect()
    return arm


def soon_ns(after_s=SLOW_S):
    return time.monotonic_ns() + int(after_s * 1e9)
