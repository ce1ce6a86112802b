"""moteus controllers on one bus, byte-true: registers, modes, the watchdog that latches, diagnostic configuration.

Modes change as in the firmware (fw/bldc_servo_control.h): from stopped a command first measures the current sensors;
a fault or a timeout is left only by a stop; only position and stay-within have a watchdog, which starts anew with
each command and not with a question. Options: `timeout_mode` (servo.timeout_mode), `position_min`, `position_max`
(servopos, rev), `kp`, `kd` (servo.pid_position, N m/rev), `enable_ms`, `firmware`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from firmware_bridge.arm import Joint
from firmware_bridge.errors import BridgeError, explain
from firmware_bridge.moteus import codec
from firmware_bridge.moteus import registers as reg
from firmware_bridge.moteus.codec import (
    NOP,
    READ,
    READ_ERROR,
    REPLY,
    REV,
    TEXT_IN,
    TEXT_OUT,
    TEXT_POLL,
    WRITE,
    WRITE_ERROR,
    Subframe,
)
from firmware_bridge.moteus.registers import INT32, Mode, Register
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.device import Reply
from firmware_bridge.virtual.plant import JointPlant

DEFAULT_TIMEOUT_S = 0.1  # servo.default_timeout_s
REPLY_US = 20  # from a frame to its answer
_FAULTS = {"overload": 33, "overheat": 38, "voltage": 40, "encoder": 35}
_OPTIONS: Mapping[str, float] = {
    "timeout_mode": 12,
    "position_min": math.nan,
    "position_max": math.nan,
    "kp": 60.0 * REV,
    "kd": 1.5 * REV,
    "enable_ms": 10,
    "firmware": 0x010A00,
    "max_torque_nm": 3.0,
}
_TIMED = (Mode.POSITION, Mode.STAY_WITHIN)
_STARTING = (Mode.ENABLING, Mode.CALIBRATING, Mode.CALIBRATED)
_WITHIN = Register.WITHIN_FEED_FORWARD - Register.FEED_FORWARD  # 0x042..0x045 shadow 0x022..0x025
_UNSAID: Mapping[int, float] = {  # what a command that does not name a register means
    Register.COMMAND_POSITION: 0.0,
    Register.COMMAND_VELOCITY: 0.0,
    Register.FEED_FORWARD: 0.0,
    Register.KP_SCALE: 1.0,
    Register.KD_SCALE: 1.0,
    Register.MAX_TORQUE: math.nan,
    Register.STOP_POSITION: math.nan,
    Register.TIMEOUT: 0.0,
    Register.WITHIN_LOWER: math.nan,
    Register.WITHIN_UPPER: math.nan,
}


@dataclass
class Controller:
    """One joint's registers. `wanted`: the mode of the last command, entered when the present one allows it."""

    mode: Mode = Mode.STOPPED
    wanted: Mode = Mode.STOPPED
    fault: int = 0
    limiting: int = 0
    command: dict[int, float] = field(default_factory=lambda: dict(_UNSAID))
    enabled_us: int = 0  # when the current sensors are measured
    expires_us: float = math.inf
    text: bytearray = field(default_factory=bytearray)  # of the host, up to its newline
    answer: bytearray = field(default_factory=bytearray)


class MoteusDevice:
    """See `virtual.device.Device`."""

    def __init__(self, joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, float]) -> None:
        self.plant = plant
        self._joints = tuple(joints)
        self._options = {**_OPTIONS, **options}
        self._index = {joint.id: i for i, joint in enumerate(joints)}
        self._on = True
        self._controllers = [Controller() for _ in joints]
        self.counts = {"frames": 0, "commands": 0, "torn": 0, "write_errors": 0, "read_errors": 0, "timeouts": 0}

    # --- Device -----------------------------------------------------------------------------------------------

    def feed(self, data: Frame, now_us: int) -> list[Reply]:
        """See `Device`. A frame for another identifier, or one that is not whole, gets no answer."""
        if not self._on or data.remote or data.id > 0xFFFF:
            return []
        self._run_to(now_us)
        destination = data.id & 0xFF
        index = self._index.get(destination)
        if destination == codec.BROADCAST:
            return [reply for i in range(len(self._joints)) for reply in self._frame(i, data, now_us)]
        return [] if index is None else self._frame(index, data, now_us)

    def tick(self, now_us: int) -> list[Reply]:
        """See `Device`. moteus says nothing unasked."""
        self._run_to(now_us)
        return []

    def power(self, on: bool, now_us: int) -> None:
        """See `Device`. The configuration is kept; the count of turns is not modelled as lost."""
        self._on = on
        self._controllers = [Controller() for _ in self._joints]
        self._drive(now_us)

    def fault(self, joint: int, name: str) -> None:
        """See `Device`."""
        if name not in _FAULTS:
            raise ValueError(f"faults: {', '.join(_FAULTS)}")
        controller = self._controllers[joint]
        controller.mode, controller.fault = Mode.FAULT, _FAULTS[name]
        self.plant.torque_on[joint] = False

    def report(self) -> Mapping[str, Any]:
        """See `Device`."""
        return {**self.counts, "modes": [int(c.mode) for c in self._controllers]}

    # --- frames -----------------------------------------------------------------------------------------------

    def _frame(self, index: int, data: Frame, now_us: int) -> list[Reply]:
        self.counts["frames"] += 1
        try:
            parts = list(codec.subframes(data.data))
        except BridgeError:
            self.counts["torn"] += 1
            return []
        mode, refused = self._writes(index, parts)
        if mode is not None:
            self._command(index, mode, now_us)
        answer = refused + b"".join(self._answers(index, parts))
        if not data.id & codec.REPLY_WANTED or not (answer or refused) or len(answer) > 64:
            return []
        source = data.id >> 8 & 0x7F
        reply = codec.frame(source or codec.BROADCAST, answer, reply=False, source=self._joints[index].id)
        can_id = self._joints[index].id << 8 | source
        # the firmware answers in the kind of frame it was asked in
        return [Reply(Frame(can_id, reply.data, can_id > 0x7FF, data.fd, data.brs), REPLY_US, index)]

    def _writes(self, index: int, parts: Sequence[Subframe]) -> tuple[Mode | None, bytes]:
        """The mode that the frame commands, and the errors that its writes earn."""
        controller, mode, errors = self._controllers[index], None, b""
        for part in parts:
            if part.kind == TEXT_IN:
                self._hear(index, part.text)
            if part.kind != WRITE or part.value is None:
                continue
            scale = reg.SCALES.get(part.register, reg.SHARE_SCALE)[part.resolution]
            if part.register == Register.MODE:
                if not (math.isfinite(part.value) and 0 <= part.value <= Mode.BRAKE):
                    errors += self._error(WRITE_ERROR, part.register, 1)
                    continue
                mode, controller.command = Mode(int(part.value)), dict(_UNSAID)
            elif part.register in _UNSAID:
                controller.command[part.register] = codec.scaled(part.value, scale, part.resolution)
            elif Register.WITHIN_FEED_FORWARD <= part.register <= Register.WITHIN_MAX_TORQUE:
                controller.command[part.register - _WITHIN] = codec.scaled(part.value, scale, part.resolution)
            elif part.register == Register.WITHIN_TIMEOUT:
                controller.command[Register.TIMEOUT] = codec.scaled(part.value, scale, part.resolution)
            else:
                errors += self._error(WRITE_ERROR, part.register, 2 if part.register in set(Register) else 1)
        return mode, errors

    def _error(self, kind: int, register: int, number: int) -> bytes:
        self.counts["write_errors" if kind == WRITE_ERROR else "read_errors"] += 1
        return bytes((kind,)) + codec.varuint(register) + bytes((number,))

    def _answers(self, index: int, parts: Sequence[Subframe]) -> list[bytes]:
        """Replies, registers in a row and of one resolution in one subframe."""
        out: list[bytes] = []
        run: list[Subframe] = []
        for part in (*parts, Subframe(NOP, -1, 0)):
            together = run and part.kind == READ and part.resolution == run[0].resolution
            if run and not (together and part.register == run[-1].register + 1):
                out.append(self._run(index, run))
                run = []
            if part.kind == READ:
                run.append(part)
            elif part.kind == TEXT_POLL:
                out.append(self._speak(index, int(part.value or 0)))
        return out

    def _run(self, index: int, run: Sequence[Subframe]) -> bytes:
        values = [self._value(index, part) for part in run]
        if any(value is None for value in values):
            return b"".join(self._error(READ_ERROR, part.register, 1) for part in run)
        body = codec.write(run[0].register, [value for value in values if value is not None], run[0].resolution)
        return bytes((body[0] | REPLY,)) + body[1:]

    def _value(self, index: int, part: Subframe) -> bytes | None:
        if part.register in (Register.MODEL, Register.FIRMWARE, Register.MAP_VERSION):
            number = {Register.MODEL: 0, Register.FIRMWARE: self._options["firmware"], Register.MAP_VERSION: 5}
            return codec.number(int(number[Register(part.register)]), INT32) if part.resolution == INT32 else None
        value = self._readable(index, part.register)
        if value is None:
            return None
        scale = reg.SCALES.get(part.register)
        if scale is None:
            return codec.number(value, part.resolution)
        return codec.saturated(value, scale[part.resolution], part.resolution)

    def _readable(self, index: int, register: int) -> float | None:
        controller, plant = self._controllers[index], self.plant
        sensed: Mapping[int, float] = {
            Register.MODE: controller.mode,
            Register.POSITION: plant.position[index] / REV,
            Register.VELOCITY: plant.velocity[index] / REV,
            Register.TORQUE: plant.effort[index],
            Register.VOLTAGE: 24.0,
            Register.TEMPERATURE: 31.0,
            Register.FAULT: controller.fault or controller.limiting,
        }
        if register in sensed:
            return float(sensed[register])
        if Register.WITHIN_FEED_FORWARD <= register <= Register.WITHIN_MAX_TORQUE:
            register -= _WITHIN
        return controller.command.get(Register.TIMEOUT if register == Register.WITHIN_TIMEOUT else register)

    # --- diagnostic text --------------------------------------------------------------------------------------

    def _hear(self, index: int, text: bytes) -> None:
        controller = self._controllers[index]
        controller.text += text
        while b"\n" in controller.text:
            line, _, rest = bytes(controller.text).partition(b"\n")
            controller.text = bytearray(rest)
            controller.answer += self._said(line.decode(errors="replace").strip())
        del controller.text[:-256]

    def _said(self, line: str) -> bytes:
        options = self._options
        known = {
            "servopos.position_min": options["position_min"],
            "servopos.position_max": options["position_max"],
            "servo.pid_position.kp": options["kp"],
            "servo.pid_position.kd": options["kd"],
            "servo.default_timeout_s": DEFAULT_TIMEOUT_S,
        }
        name = line.removeprefix("conf get ")
        if name == "servo.timeout_mode":
            return b"%d\r\n" % int(options["timeout_mode"])
        return f"{known[name]:f}\r\n".encode() if name in known else b"ERR unknown\r\n"

    def _speak(self, index: int, most: int) -> bytes:
        answer = self._controllers[index].answer
        text = bytes(answer[: min(most, 61)])
        del answer[: len(text)]
        return bytes((TEXT_OUT, codec.TEXT_CHANNEL, len(text))) + text

    # --- modes ------------------------------------------------------------------------------------------------

    def _command(self, index: int, mode: Mode, now_us: int) -> None:
        if mode in (Mode.FAULT, *_STARTING):
            return
        self.counts["commands"] += 1
        controller = self._controllers[index]
        controller.wanted = mode
        asked_s = controller.command[Register.TIMEOUT]
        timeout_s = DEFAULT_TIMEOUT_S if asked_s == 0.0 else asked_s
        controller.expires_us = math.inf if math.isnan(timeout_s) else now_us + timeout_s * 1e6
        if mode is Mode.STOPPED:
            controller.mode, controller.fault = Mode.STOPPED, 0
        elif controller.mode is Mode.STOPPED:
            controller.mode = Mode.ENABLING
            controller.enabled_us = now_us + round(self._options["enable_ms"] * 1000)
        elif controller.mode not in (Mode.FAULT, Mode.TIMEOUT, *_STARTING):
            self._enter(index, mode)
        self._drive(now_us)

    def _enter(self, index: int, mode: Mode) -> None:
        controller = self._controllers[index]
        if mode in _TIMED and controller.mode is not mode and self._outside(index):
            controller.mode, controller.fault = Mode.FAULT, 39
        else:
            controller.mode = mode

    def _outside(self, index: int) -> bool:
        at, options = self.plant.position[index] / REV, self._options
        return bool(at < options["position_min"] or at > options["position_max"])  # NaN: no limit

    def _run_to(self, now_us: int) -> None:
        for index, controller in enumerate(self._controllers):
            if controller.mode in _STARTING and now_us >= controller.enabled_us:
                controller.mode = Mode.CALIBRATED
                self._enter(index, controller.wanted)
                self._drive_joint(index)
            if controller.mode in _TIMED and now_us > controller.expires_us:
                controller.mode = Mode.TIMEOUT
                self.counts["timeouts"] += 1
                self._drive_joint(index)
            elif controller.mode is Mode.STAY_WITHIN:
                self._drive_joint(index)
        self.plant.run_to(now_us)

    def _drive(self, now_us: int) -> None:
        for index in range(len(self._joints)):
            self._drive_joint(index)

    def _drive_joint(self, index: int) -> None:
        """The plant's law for the mode that the joint is in."""
        plant, controller = self.plant, self._controllers[index]
        mode: int = controller.mode
        if mode is Mode.TIMEOUT:
            mode = int(self._options["timeout_mode"])
        plant.torque_on[index] = mode in (Mode.POSITION, Mode.ZERO_VELOCITY, Mode.STAY_WITHIN, Mode.BRAKE)
        plant.kp[index] = 0.0
        plant.kd[index] = self._options["kd"] / REV
        plant.feed_forward[index] = plant.target_velocity[index] = 0.0
        plant.limit[index] = self._options["max_torque_nm"]
        controller.limiting = 0
        if controller.mode in _TIMED:
            self._follow(index, controller)
        elif mode == Mode.POSITION:  # a timeout that holds
            plant.kp[index], plant.target[index] = self._options["kp"] / REV, plant.position[index]

    def _follow(self, index: int, controller: Controller) -> None:
        plant, said, options = self.plant, controller.command, self._options
        here = float(plant.position[index])
        if controller.mode is Mode.STAY_WITHIN:
            low, high = said[Register.WITHIN_LOWER] * REV, said[Register.WITHIN_UPPER] * REV
            target = low if here < low else high if here > high else math.nan
            kp_scale = 0.0 if math.isnan(target) else said[Register.KP_SCALE]
            kd_scale = 0.0 if math.isnan(target) else said[Register.KD_SCALE]
            plant.target[index] = here if math.isnan(target) else target
        else:
            target = said[Register.COMMAND_POSITION] * REV
            kp_scale, kd_scale = said[Register.KP_SCALE], said[Register.KD_SCALE]
            plant.target[index] = self._bounded(controller, here if math.isnan(target) else target)
            velocity = said[Register.COMMAND_VELOCITY] * REV
            plant.target_velocity[index] = 0.0 if math.isnan(velocity) else velocity
        plant.kp[index], plant.kd[index] = options["kp"] / REV * kp_scale, options["kd"] / REV * kd_scale
        plant.feed_forward[index] = said[Register.FEED_FORWARD]
        most = said[Register.MAX_TORQUE]
        plant.limit[index] = min(options["max_torque_nm"], math.inf if math.isnan(most) else most)

    def _bounded(self, controller: Controller, target: float) -> float:
        low, high = self._options["position_min"] * REV, self._options["position_max"] * REV
        if target < low or target > high:  # NaN: no limit
            controller.limiting = 103
            return low if target < low else high
        return target


def make(joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, Any]) -> MoteusDevice:
    """Raises BridgeError for an option that neither it nor the driver knows."""
    options = {name: value for name, value in options.items() if name != "resolution"}
    if set(options) - set(_OPTIONS) or not all(isinstance(value, int | float) for value in options.values()):
        known = ", ".join(_OPTIONS)
        raise BridgeError(explain("options of the virtual moteus", known, dict(options), "correct them"))
    return MoteusDevice(joints, plant, options)
