"""One virtual board: its parameters and registers, nothing of time. Endpoint ids are our own: real ones differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from firmware_bridge.odrive import codec
from firmware_bridge.odrive.codec import CLOSED_LOOP, IDLE, Command

FIRMWARE = (0, 6, 11)
HARDWARE = (5, 2, 0)  # an S1
PARAMETERS: Mapping[str, tuple[int, str, float]] = {  # path -> endpoint id, type, value at the factory
    "axis0.config.enable_watchdog": (201, "bool", False),
    "axis0.config.watchdog_timeout": (202, "float", 0.0),
    "axis0.config.torque_soft_max": (203, "float", math.inf),
    "axis0.config.torque_soft_min": (204, "float", -math.inf),
    "axis0.config.can.heartbeat_msg_rate_ms": (210, "uint32", 100),
    "axis0.config.can.encoder_msg_rate_ms": (211, "uint32", 10),
}
DISARMED = 3  # procedure result


def flat_endpoints() -> dict[str, Any]:
    """What ODrive publishes for each firmware as flat_endpoints.json, for this one."""
    endpoints = {path: {"id": number, "type": kind, "access": "rw"} for path, (number, kind, _) in PARAMETERS.items()}
    return {
        "fw_version": ".".join(map(str, FIRMWARE)),
        "hw_version": ".".join(map(str, HARDWARE)),
        "endpoints": endpoints,
    }


class Axis:
    """One board: its registers, nothing of time."""

    def __init__(self, stored: dict[str, float]) -> None:
        self.stored = stored  # flash
        self.start()

    def start(self) -> None:
        """As after power-on."""
        self.parameters = dict(self.stored)
        self.state, self.errors, self.disarm_reason, self.result = IDLE, 0, 0, 0
        self.control_mode, self.input_mode = codec.POSITION_CONTROL, codec.PASSTHROUGH
        self.fed_us = 0
        self.due_us: dict[Command, int] = {}

    def disarm(self, error: int) -> None:
        self.errors |= error
        self.disarm_reason |= error
        self.state, self.result = IDLE, DISARMED

    @property
    def expires_us(self) -> float:
        """When its watchdog disarms it; infinite while it is not watched."""
        if self.state != CLOSED_LOOP or not self.parameters["axis0.config.enable_watchdog"]:
            return math.inf
        return self.fed_us + self.parameters["axis0.config.watchdog_timeout"] * 1e6
