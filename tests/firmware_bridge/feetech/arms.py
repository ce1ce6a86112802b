"""The arm of the contract test: six STS3215 as on an SO-101. And one of SCS servos."""

from __future__ import annotations

import math

from firmware_bridge.arm import Joint

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
