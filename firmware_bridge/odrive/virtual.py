"""ODrives as virtual devices: one axis per board, frames as firmware 0.6.11 sends them.

What is kept as on the real one: errors latch until Clear_Errors and disarm the axis, which then lets its motor go; the
watchdog is off at the factory, is fed by commands (not by questions) and works while the axis is in closed loop; cyclic
messages come unasked, encoder estimates every 10 ms at the factory; parameters written over SDO are lost with the power
unless Reboot(SAVE) stored them. Endpoint ids are our own unless a flat_endpoints.json is given: real ones differ with
each firmware.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from firmware_bridge.arm import Joint
from firmware_bridge.config import Option
from firmware_bridge.odrive import codec, endpoints, models
from firmware_bridge.odrive.board import DISARMED, FIRMWARE, HARDWARE, PARAMETERS, Axis
from firmware_bridge.odrive.codec import CLOSED_LOOP, IDLE, TURN_RAD, Command
from firmware_bridge.odrive.driver import OPTIONS
from firmware_bridge.options import read
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.device import Reply
from firmware_bridge.virtual.plant import JointPlant

_FAULTS = {"overload": 0x1000, "overheat": 0x2000, "voltage": 0x200, "encoder": 0x8, "spinout": 0x0400_0000}
_WATCHDOG, _ESTOP = 0x0100_0000, 0x0200_0000
_FEEDS = {Command.SET_AXIS_STATE, Command.SET_INPUT_VEL, Command.SET_INPUT_TORQUE}  # and Set_Input_Pos
_INPUT = codec.LAYOUTS[Command.SET_INPUT_POS].format
_CYCLIC = (
    (Command.HEARTBEAT, "axis0.config.can.heartbeat_msg_rate_ms"),
    (Command.GET_ENCODER_ESTIMATES, "axis0.config.can.encoder_msg_rate_ms"),
)
_DEFAULTS = {  # as at the factory
    "encoder_msg_rate_ms": (int, 10),
    "heartbeat_msg_rate_ms": (int, 100),
    "watchdog_timeout_s": (float, 0.0),  # 0: off
}
_LINES = {name: number for number, name in models.PRODUCT_LINES.items()}


class ODriveDevice:
    """All axes of one bus; `joints` in the plant's order."""

    def __init__(self, joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, Option]) -> None:
        own = {name: value for name, value in options.items() if name not in OPTIONS}  # a profile's are the driver's
        chosen = read("the virtual ODrive", own, _DEFAULTS)
        self.plant = plant
        self._node = {joint.id: index for index, joint in enumerate(joints)}
        self._ids = [joint.id for joint in joints]
        factory = {path: value for path, (_, _, value) in PARAMETERS.items()}
        for name in ("encoder_msg_rate_ms", "heartbeat_msg_rate_ms"):
            factory[f"axis0.config.can.{name}"] = chosen[name]
        if chosen["watchdog_timeout_s"] > 0.0:
            factory["axis0.config.enable_watchdog"] = True
            factory["axis0.config.watchdog_timeout"] = chosen["watchdog_timeout_s"]
        file = options.get("endpoints")
        self._endpoints = None if file is None else endpoints.load(str(file))
        self._versions = [_version(joint, self._endpoints) for joint in joints]
        self.axes = [Axis(dict(factory)) for _ in joints]
        self._powered = True
        self._counts = {"commands": 0, "dropped": 0, "bad_values": 0, "watchdog_trips": 0}
        self._inputs = {codec.can_id(joint.id, Command.SET_INPUT_POS): index for index, joint in enumerate(joints)}
        self._estimates: dict[int, list[Reply]] = {}  # by the question's id, of `_measured_at`
        self._measured_at = -1  # the plant's steps
        self._look_us: float = 0.0  # before then no watchdog expires
        self._due_us: float = 0.0  # before then no cyclic message is due

    def feed(self, data: Frame, now_us: int) -> list[Reply]:
        self.tick_axes(now_us)
        can_id, payload, extended, fd, _, remote = data
        if not self._powered or extended or fd:
            return []
        if remote:
            return self._answer(can_id)
        joint = self._inputs.get(can_id)
        if joint is not None and len(payload) == 8:
            turns, _, torque_mnm = _INPUT.unpack(payload)
            self._input(joint, turns, torque_mnm, now_us)
            return []
        joint = self._node.get(can_id >> 5)
        if joint is None:
            return []
        message = codec.decode(data)
        if message is None:
            self._counts["dropped"] += 1
            return []
        return self._obey(joint, message, now_us)

    def tick(self, now_us: int) -> list[Reply]:
        if not self._powered:
            return []
        self.tick_axes(now_us)
        replies: list[Reply] = []
        if now_us < self._due_us:
            return replies
        self._due_us = math.inf
        for joint, axis in enumerate(self.axes):
            for command, path in _CYCLIC:
                period_us = int(axis.parameters[path]) * 1000
                if not period_us:
                    continue
                if now_us >= axis.due_us.get(command, 0):
                    axis.due_us[command] = now_us + period_us
                    frame = self._asked(joint, command)
                    replies += [] if frame is None else [Reply(frame, joint=joint)]
                self._due_us = min(self._due_us, axis.due_us[command])
        return replies

    def tick_axes(self, now_us: int) -> None:
        """Watchdogs, then the plant."""
        if now_us > self._look_us:
            for joint, axis in enumerate(self.axes):
                if now_us > axis.expires_us:
                    axis.disarm(_WATCHDOG)
                    self._counts["watchdog_trips"] += 1
                self.plant.torque_on[joint] = axis.state == CLOSED_LOOP
            self._look_us = min(axis.expires_us for axis in self.axes)  # feeding them only makes it later
        self.plant.run_to(now_us)

    def power(self, on: bool, now_us: int) -> None:
        self._powered = on
        self.plant.run_to(now_us)
        for axis in self.axes:
            axis.start()
        self._changed()

    def fault(self, joint: int, name: str) -> None:
        if name not in _FAULTS:
            raise ValueError(f"faults of an ODrive: {sorted(_FAULTS)}")
        self.axes[joint].disarm(_FAULTS[name])
        self._changed()

    def report(self) -> Mapping[str, Any]:
        return {**self._counts, "states": [axis.state for axis in self.axes], "errors": [a.errors for a in self.axes]}

    # --- inside -----------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """A state or a parameter did: torque follows, and what was reckoned from the old ones is forgotten."""
        self.plant.torque_on[:] = [axis.state == CLOSED_LOOP for axis in self.axes]
        self._look_us = self._due_us = 0.0

    def _address(self, joint: int) -> Frame:
        return codec.encode(self._ids[joint], Command.ADDRESS, self._ids[joint], _serial(joint))

    def _answer(self, can_id: int) -> list[Reply]:
        """To a question. Estimates that cannot have changed since the last one are said again as they are."""
        if self._measured_at != self.plant.steps:
            self._measured_at = self.plant.steps
            self._estimates.clear()
        known = self._estimates.get(can_id)
        if known is not None:
            return known
        node, number = can_id >> 5, can_id & 0x1F
        if node == codec.BROADCAST and number == Command.ADDRESS:
            return [Reply(self._address(joint), joint=joint) for joint in range(len(self.axes))]
        joint = self._node.get(node)
        frame = None if joint is None else self._asked(joint, number)
        replies = [] if joint is None or frame is None else [Reply(frame, joint=joint)]
        if replies and number == Command.GET_ENCODER_ESTIMATES:
            self._estimates[can_id] = replies
        return replies

    def _asked(self, joint: int, number: int) -> Frame | None:
        """The Get_ message of that number; the heartbeat is cyclic only, but has the same form."""
        if number == Command.ADDRESS:
            return self._address(joint)
        values = self._values(joint, number)
        return None if values is None else codec.encode(self._ids[joint], Command(number), *values)

    def _values(self, joint: int, number: int) -> tuple[float, ...] | None:
        """Of a Get_ message; None for a number that has none."""
        axis, plant = self.axes[joint], self.plant
        if number == Command.GET_ENCODER_ESTIMATES:
            return float(plant.position[joint]) / TURN_RAD, float(plant.velocity[joint]) / TURN_RAD
        effort_nm = float(plant.effort[joint])  # torque constant 1 N m/A
        values: dict[int, tuple[float, ...]] = {
            Command.GET_VERSION: (2, *self._versions[joint], 0),
            Command.HEARTBEAT: (axis.errors, axis.state, axis.result, 0),
            Command.GET_ERROR: (axis.errors, axis.disarm_reason),
            Command.GET_IQ: (effort_nm, effort_nm),
            Command.GET_TEMPERATURE: (31.0, 29.0),
            Command.GET_BUS_VOLTAGE_CURRENT: (24.0, 0.5),
            Command.GET_TORQUES: (effort_nm, effort_nm),
            Command.GET_POWERS: (0.0, effort_nm * float(plant.velocity[joint])),
        }
        return values.get(number)

    def _obey(self, joint: int, message: codec.Message, now_us: int) -> list[Reply]:
        axis, command, values = self.axes[joint], message.command, message.values
        self._counts["commands"] += 1
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            self._counts["bad_values"] += 1
            return []
        if command in _FEEDS:
            axis.fed_us = now_us
        replies = self._parameter(joint, message) if command is Command.RX_SDO else []
        if command is Command.SET_AXIS_STATE:
            self._change(joint, int(values[0]))
        elif command is Command.SET_INPUT_VEL and axis.control_mode == codec.VELOCITY_CONTROL:
            self.plant.kp[joint], self.plant.target_velocity[joint] = 0.0, float(values[0]) * TURN_RAD
        elif command is Command.SET_CONTROLLER_MODE:
            axis.control_mode, axis.input_mode = int(values[0]), int(values[1])
        elif command is Command.CLEAR_ERRORS:
            axis.errors = axis.disarm_reason = axis.result = 0
        elif command is Command.ESTOP:
            axis.disarm(_ESTOP)
        elif command is Command.REBOOT:
            self._reboot(axis, int(values[0]))
        self._changed()
        return replies

    def _input(self, joint: int, turns: float, torque_mnm: int, now_us: int) -> None:
        """Set_Input_Pos: the command of every cycle."""
        self._counts["commands"] += 1
        if not math.isfinite(turns):
            self._counts["bad_values"] += 1
            return
        self.axes[joint].fed_us = now_us
        self._target(joint, turns * TURN_RAD, 60.0)
        self.plant.feed_forward[joint] = torque_mnm * 1e-3

    def _change(self, joint: int, wanted: int) -> None:
        axis = self.axes[joint]
        if wanted == CLOSED_LOOP and axis.errors:
            axis.result = DISARMED
        elif wanted == CLOSED_LOOP:
            if axis.state != CLOSED_LOOP:  # the input starts at the estimate, so that nothing jumps
                self._target(joint, float(self.plant.position[joint]), 60.0)
            axis.state, axis.result = CLOSED_LOOP, 0
        elif wanted == IDLE:
            axis.state, axis.result = IDLE, 0

    def _target(self, joint: int, position_rad: float, kp: float) -> None:
        if self.axes[joint].control_mode == codec.POSITION_CONTROL:
            self.plant.kp[joint], self.plant.target[joint] = kp, position_rad
            self.plant.target_velocity[joint] = 0.0

    def _reboot(self, axis: Axis, action: int) -> None:
        if action == codec.SAVE:
            axis.stored.update(axis.parameters)
        elif action == codec.REBOOT:
            axis.start()

    def _parameter(self, joint: int, message: codec.Message) -> list[Reply]:
        endpoint, raw = message.values
        path = next((path for path in PARAMETERS if self._endpoint(path) == endpoint), None)
        if path is None or not isinstance(raw, bytes):
            return []
        kind, parameters = PARAMETERS[path][1], self.axes[joint].parameters
        value = codec.parameter(raw, kind)
        if value is not None:  # a read has no value behind its opcode
            if path.startswith("axis0.config.torque_soft"):
                self.plant.limit[joint] = abs(value)
            parameters[path] = value
        data = codec.write_parameter(0, int(endpoint), kind, _finite(parameters[path])).data
        return [Reply(Frame(codec.can_id(self._ids[joint], Command.TX_SDO), b"\x00" + data[1:]), joint=joint)]

    def _endpoint(self, path: str) -> int | None:
        """Its id: of the firmware whose file was given, else our own. None: that firmware does not have it."""
        if self._endpoints is None:
            return PARAMETERS[path][0]
        return self._endpoints.entries.get(path, (None, ""))[0]


def _version(joint: Joint, file: endpoints.Endpoints | None) -> list[int]:
    """Board and firmware: those of the file, else the board of the profile's `model` (S1 where it takes any)."""
    if file is not None:
        return [int(part) for part in (*file.hardware.split("."), *file.firmware.split("."))]
    return [_LINES.get(joint.model, HARDWARE[0]), *HARDWARE[1:], *FIRMWARE]


def as_set_up(options: Mapping[str, Option], watchdog_s: float | None) -> dict[str, Option]:
    """A profile's options for boards that are set up as docs/protocols/odrive.md tells their user.

    With the endpoint file they are as from the factory, and of the file's version: the driver sets them up. Without it
    they have what odrivetool was to save. Raises BridgeError for options that the driver does not take.
    """
    chosen = read("odrive", options, OPTIONS)
    own: dict[str, Option] = {"heartbeat_msg_rate_ms": round(1e3 * chosen["heartbeat_s"])}
    if chosen["endpoints"] is None:
        own["encoder_msg_rate_ms"] = 0
        if watchdog_s is not None and chosen["watchdog_configured"]:
            own["watchdog_timeout_s"] = watchdog_s
    return {**options, **own}


def _finite(value: float) -> float:
    return value if not isinstance(value, float) or math.isfinite(value) else math.copysign(3.4e38, value)


def _serial(joint: int) -> bytes:
    return (0x3853_3450_0000 + joint).to_bytes(6, "little")


def make(joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, Option]) -> ODriveDevice:
    """See `protocols`. Options: those of _DEFAULTS, as in the flash of the boards; `endpoints`, as of the driver."""
    return ODriveDevice(joints, plant, options)
