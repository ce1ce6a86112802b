"""The arm that the tests of cia402 drive: six drives with 100:1 gears and brakes."""

import math

from firmware_bridge.arm import Joint

JOINTS = tuple(
    Joint(f"axis{i}", "rad", -1.5, 1.5, id=i, model="cia402", direction=-1 if i % 2 else 1, zero_rad=0.3, ratio=0.5)
    for i in range(1, 7)
)
OPTIONS: dict[str, float | int | str | bool] = {}
WATCHDOG_S = 0.3
COUNTS_PER_RAD = 65536 / (2 * math.pi)
