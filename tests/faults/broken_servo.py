"""A servo process that breaks a promise, for the tests of the oracles. Which one: EDGEVLA_BROKEN.

bypass: the limiter lets everything through that is in range. late: the 20th command is written 2 ms after its expiry.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgevla.control import servo
from edgevla.control.child import guarded
from edgevla.control.limiter import Limited, Motion
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import Command
from firmware_bridge.edgelink.driver import EdgelinkArm
from firmware_bridge.transport.open import open_transport
from profiles import ArmProfile
from profiles.bridge import arm_config


def unlimited(limits: Any, phase: Any, motion: Motion, wanted: Any, elapsed_s: float) -> tuple[Motion, Limited]:
    """Straight to where the chunk wants it, clipped to the range: the driver refuses what is outside."""
    goal = motion.setpoint if wanted is None else np.clip(wanted, limits.minimum, limits.maximum)
    return Motion.at_rest(goal), Limited.NONE


class LateArm(EdgelinkArm):
    """Looks at the clock too early: one command goes out after its time."""

    def send(self, setpoint: Any, expiry_ns: int) -> int:
        if self.counts.sent != 20:
            return super().send(setpoint, expiry_ns)
        message = Command(self._next_seq(), self._device_us(expiry_ns), tuple(setpoint.tolist()))
        frame = codec.encode(message, self._limits)
        time.sleep(max(0, expiry_ns + 2_000_000 - time.monotonic_ns()) / 1e9)
        self.transport.write(frame)
        self.counts.sent += 1
        return time.monotonic_ns()


def late_arm(profile: ArmProfile, ports: Mapping[str, str]) -> LateArm:
    config = arm_config(profile, ports)
    (bus,) = config.buses
    return LateArm(open_transport("serial", bus.port, bus.baud), bus.joints, config.watchdog_s)


if __name__ == "__main__":
    if os.environ["EDGEVLA_BROKEN"] == "bypass":
        servo.advance = unlimited
    else:
        servo.driver_of = late_arm
    sys.exit(guarded(servo.main))
