"""The virtual arm behind edgelink: the controller of `controller.py` with joints that have mass, for the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from firmware_bridge.arm import Fault, Float32, Joint, Mode
from firmware_bridge.edgelink.controller import WATCHDOG_US, VirtualDevice
from firmware_bridge.virtual.device import Reply
from firmware_bridge.virtual.plant import JointPlant


class JointsPlant:
    """A JointPlant seen through its joints: what a controller with the mechanics in channel units works on.

    What it hands out is made once for each time that the joints may have moved, and is for reading only.
    """

    def __init__(self, joints: Sequence[Joint], plant: JointPlant) -> None:
        self._plant = plant
        self._direction = np.array([joint.direction for joint in joints], float)
        self._zero_rad = np.array([joint.zero_rad for joint in joints])
        self._ratio = np.array([joint.ratio for joint in joints])
        self._aimed_at: Float32 | None = None
        self._measured_at = -1  # plant.steps of what was measured last
        self._position = self._effort = np.zeros(0, np.float32)

    def step(self, setpoint: Float32) -> Float32:
        """The new target; time moves the joints, not this call."""
        self.aim(setpoint)
        return self.position()

    def aim(self, setpoint: Float32) -> None:
        """`setpoint` (n,) is never changed in place: a new one is a new array."""
        if setpoint is not self._aimed_at:
            self._plant.target[:] = self._direction * setpoint / self._ratio + self._zero_rad
            self._aimed_at = setpoint

    def position(self) -> Float32:
        self._measure()
        return self._position

    def effort(self) -> Float32:
        self._measure()
        return self._effort

    def _measure(self) -> None:
        plant = self._plant
        if self._measured_at != plant.steps:
            self._measured_at = plant.steps
            turned = self._direction * (plant.position - self._zero_rad) * self._ratio
            self._position = turned.astype(np.float32)
            self._effort = (self._direction * plant.effort / self._ratio).astype(np.float32)
            self._position.flags.writeable = self._effort.flags.writeable = False


class EdgelinkDevice:
    """The controller and its joints as `virtual.server` serves them.

    Torque is on in ARMED and STOPPED (a stop holds) and off in DISARMED, where `held` follows the joints: arming never
    jumps. Power that returns finds it disarmed, with Fault.RESET.
    """

    FAULTS: Mapping[str, Fault] = {
        "overload": Fault.OVERLOAD,
        "overheat": Fault.OVERHEAT,
        "voltage": Fault.VOLTAGE,
        "encoder": Fault.ENCODER,
    }

    def __init__(self, joints: Sequence[Joint], plant: JointPlant, watchdog_us: int = WATCHDOG_US) -> None:
        self.plant = plant
        self._joints, self._watchdog_us = tuple(joints), watchdog_us
        self._view = JointsPlant(joints, plant)
        self._low = np.array([joint.minimum for joint in joints], np.float32)
        self._high = np.array([joint.maximum for joint in joints], np.float32)
        self._on = True
        self._cold_start()

    def _cold_start(self) -> None:
        self.device = VirtualDevice(self._view, self._joints, self._here(), self._watchdog_us)

    def feed(self, data: bytes, now_us: int) -> list[Reply]:
        """See `Device`: each answer is a packet of its own."""
        self._run(now_us)
        replies = [Reply(answer) for answer in self.device.answers(data, now_us)]
        self._act()  # what was commanded acts from here
        return replies

    def tick(self, now_us: int) -> list[Reply]:
        """See `Device`."""
        if self._on:
            self.device.tick(now_us)
        self._run(now_us)
        return []

    def power(self, on: bool, now_us: int) -> None:
        """See `Device`."""
        self._run(now_us)
        self._on = on
        self._cold_start()
        self.device.faults = Fault.RESET
        self._act()

    def fault(self, joint: int, name: str) -> None:
        """See `Device`; the controller has one word of faults for all joints."""
        if name not in self.FAULTS:
            raise ValueError(f"edgelink knows {', '.join(self.FAULTS)}, got {name}")
        self.device.faults |= self.FAULTS[name]
        if self.device.mode is Mode.ARMED:
            self.device.mode = Mode.STOPPED

    def report(self) -> Mapping[str, Any]:
        """Counts, mode and faults."""
        return {**self.device.counts_dict(), "mode": self.device.mode.name, "faults": int(self.device.faults)}

    def _here(self) -> Float32:
        return np.minimum(np.maximum(self._view.position(), self._low), self._high)

    def _run(self, now_us: int) -> None:
        self.plant.run_to(now_us)
        self._act()

    def _act(self) -> None:
        torque = self._on and self.device.mode is not Mode.DISARMED
        self.plant.torque_on[:] = torque
        if torque:
            self._view.aim(self.device.held)
        else:
            self.device.held = self._here()


def make(joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, Any]) -> EdgelinkDevice:
    """`options`: watchdog_s, that of the firmware. Raises ValueError for others."""
    if not options.keys() <= {"watchdog_s"}:
        raise ValueError(f"the virtual edgelink controller knows watchdog_s, got {sorted(options)}")
    return EdgelinkDevice(joints, plant, round(float(options.get("watchdog_s", WATCHDOG_US * 1e-6)) * 1e6))
