"""The arm that the tests of odrive drive: six axes of virtual S1 boards."""

import time
from pathlib import Path

from firmware_bridge.arm import Joint
from firmware_bridge.odrive.driver import ODriveArm
from firmware_bridge.transport.socket_can import SocketCan

ENDPOINTS = Path(__file__).with_name("flat_endpoints.json")
JOINTS = tuple(
    Joint(f"joint{i}", "rad", -1.5, 1.5, id=i, model="s1", direction=-1 if i % 2 else 1, zero_rad=0.2, ratio=0.5)
    for i in range(1, 7)
)
OPTIONS = {"endpoints": str(ENDPOINTS)}
WATCHDOG_S = 0.3


def driver(device, joints=JOINTS, watchdog_s=WATCHDOG_S, **options):
    return ODriveArm(SocketCan(device.port), joints, watchdog_s, {**OPTIONS, **options})


def settled(device):
    """Commands that the device has taken, once those under way have arrived."""
    seen = -1
    while (now := device.do("report")["device"]["commands"]) != seen:
        seen = now
        time.sleep(0.02)
    return seen
