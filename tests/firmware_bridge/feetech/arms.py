"""The arm of the contract test: six STS3215 as on an SO-101. And one of SCS servos. And how tests drive them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from firmware_bridge.arm import Arm, Float32, Joint, JointState, exchange
from firmware_bridge.config import BusConfig, Option
from firmware_bridge.feetech.driver import make

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
JOINTS = tuple(
    Joint(name, "rad", -1.5, 1.5, id=number, model="sts3215", zero_rad=math.pi) for number, name in enumerate(NAMES, 1)
)
OPTIONS: dict[str, float | int | str | bool] = {}
WATCHDOG_S = None
SCS_JOINTS = tuple(
    Joint(name, "rad", -1.5, 1.5, id=number, model="scs0009", zero_rad=math.radians(150))
    for number, name in enumerate(NAMES, 1)
)
ANGLES = np.array([-0.4, -0.2, 0.1, 0.2, 0.3, 0.4], np.float32)


def arm_on(port: str, joints: Sequence[Joint] = JOINTS, **options: Option) -> Arm:
    """Not yet connected."""
    return make(BusConfig("main", port, 1_000_000, tuple(joints)), None, options)


def soon(ms: int = 200) -> int:
    """A deadline."""
    return time.monotonic_ns() + ms * 1_000_000


def follow(arm: Arm, angles: Float32, times: int = 40) -> JointState:
    """The state after `times` commands, 5 ms apart."""
    for _ in range(times):
        state = exchange(arm, angles, soon())
        time.sleep(0.005)
    return state
