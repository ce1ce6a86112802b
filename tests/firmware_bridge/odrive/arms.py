"""The arm that the tests of odrive drive: six axes of virtual S1 boards."""

from pathlib import Path

from firmware_bridge.arm import Joint

ENDPOINTS = Path(__file__).with_name("flat_endpoints.json")
JOINTS = tuple(
    Joint(f"joint{i}", "rad", -1.5, 1.5, id=i, model="s1", direction=-1 if i % 2 else 1, zero_rad=0.2, ratio=0.5)
    for i in range(1, 7)
)
OPTIONS = {"endpoints": str(ENDPOINTS)}
WATCHDOG_S = 0.3
