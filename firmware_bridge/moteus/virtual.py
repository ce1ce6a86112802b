"""moteus controllers on one bus, byte-true: frames, registers of every type, errors; modes in `controller`.

The command of every cycle differs from the one before in its position alone: what its other bytes mean is worked out
once. What was measured is said again as it was, until the plant has moved. Options: `timeout_mode`
(servo.timeout_mode), `position_min`, `position_max` (servopos, rev), `kp`, `kd` (servo.pid_position, N m/rev),
`enable_ms`, `firmware`, `max_torque_nm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from firmware_bridge.moteus.controller import OPTIONS, UNSAID, Controllers, written
from firmware_bridge.moteus.diagnostic import Diagnostic
from firmware_bridge.moteus.plan import QUESTIONS, Plan, Plans
from firmware_bridge.moteus.registers import INT32, Mode, Register
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.device import Reply
from firmware_bridge.virtual.plant import JointPlant

REPLY_US = 20  # from a frame to its answer
_FAULTS = {"overload": 33, "overheat": 38, "voltage": 40, "encoder": 35}
_VOLTAGE_V, _TEMPERATURE_C = 24.0, 31.0


class MoteusDevice:
    """See `Device`."""

    def __init__(self, joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, float]) -> None:
        self.plant = plant
        self._options = {**OPTIONS, **options}
        self._ids = [joint.id for joint in joints]
        self._index = {joint.id: i for i, joint in enumerate(joints)}
        self._on = True
        self._controllers = Controllers(plant, self._options)
        self.counts = {"frames": 0, "torn": 0, "write_errors": 0, "read_errors": 0}
        self._plans = Plans()
        self._measured_at = -1  # the plant's steps
        self._cold_start()

    def _cold_start(self) -> None:
        n = len(self._ids)
        self._diagnostics = [Diagnostic(self._options) for _ in self._ids]
        self._followed: list[Plan | None] = [None] * n  # of the last command that each joint has obeyed
        self._said: list[tuple[object, bytes]] = [(None, b"")] * n  # the last Status, and what it was of

    # --- Device -----------------------------------------------------------------------------------------------

    def feed(self, data: Frame, now_us: int) -> list[Reply]:
        """See `Device`. A frame for another identifier, or one that is not whole, gets no answer."""
        if not self._on or data.remote or data.id > 0xFFFF:
            return []
        self._controllers.run_to(now_us)
        destination = data.id & 0xFF
        index = self._index.get(destination)
        if destination == codec.BROADCAST:
            return [reply for i in range(len(self._ids)) for reply in self._frame(i, data, now_us)]
        return [] if index is None else self._frame(index, data, now_us)

    def tick(self, now_us: int) -> list[Reply]:
        """See `Device`. moteus says nothing unasked."""
        self._controllers.run_to(now_us)
        return []

    def power(self, on: bool, now_us: int) -> None:
        """See `Device`. The configuration is kept; the count of turns is not modelled as lost."""
        self._on = on
        self._controllers.restart()
        self._cold_start()

    def fault(self, joint: int, name: str) -> None:
        """See `Device`."""
        if name not in _FAULTS:
            raise ValueError(f"faults: {', '.join(_FAULTS)}")
        self._controllers.fail(joint, _FAULTS[name])

    def report(self) -> Mapping[str, Any]:
        """See `Device`."""
        own = {"commands": self._controllers.commands, "timeouts": self._controllers.timeouts}
        return {**self.counts, **own, "modes": [int(c.mode) for c in self._controllers.all]}

    # --- frames -----------------------------------------------------------------------------------------------

    def _frame(self, index: int, data: Frame, now_us: int) -> list[Reply]:
        self.counts["frames"] += 1
        answer = self._moved(index, data.data, now_us)
        if answer is None:
            answer = self._obeyed(index, data.data, now_us)
        if not data.id & codec.REPLY_WANTED or not answer or len(answer) > 64:
            return []
        source = data.id >> 8 & 0x7F
        can_id = self._ids[index] << 8 | source
        # the firmware answers in the kind of frame it was asked in
        padded = codec.padded(answer)
        return [Reply(Frame(can_id, padded, can_id > 0x7FF, data.fd, data.brs), REPLY_US, index)]

    def _moved(self, index: int, data: bytes, now_us: int) -> bytes | None:
        """The answer to a position command of a known kind, after it was obeyed; None for any other frame."""
        found = self._plans.find(data)
        if found is None:
            return None
        plan, position_rev = found
        registers = {**plan.registers, Register.COMMAND_POSITION: position_rev}
        if self._followed[index] is not plan or not self._controllers.move(index, registers, now_us):
            self._controllers.all[index].command = registers
            self._controllers.command(index, Mode.POSITION, now_us)
            self._followed[index] = plan
        return self._status(index, plan.form)

    def _obeyed(self, index: int, data: bytes, now_us: int) -> bytes:
        """Any frame, register by register: the errors and answers that it earns."""
        try:
            parts = tuple(codec.subframes(data))
        except BridgeError:
            self.counts["torn"] += 1
            return b""
        if parts in QUESTIONS:
            return self._status(index, QUESTIONS[parts])
        mode, errors = self._writes(index, parts)
        if mode is not None:
            self._controllers.command(index, mode, now_us)
        return errors + b"".join(self._answers(index, parts))

    def _status(self, index: int, form: int) -> bytes:
        """The answer to `codec.query`."""
        controller = self._controllers.all[index]
        fault = controller.fault or controller.limiting
        of = self.plant.steps, form, controller.mode, fault
        known, data = self._said[index]
        if known != of:
            position, velocity, torque = self._measured()[index]
            data = codec.status_answer(
                codec.Status(controller.mode, position, velocity, torque, _VOLTAGE_V, _TEMPERATURE_C, fault), form
            )
            self._said[index] = of, data
        return data

    def _measured(self) -> list[tuple[float, float, float]]:
        """rev, rev/s and N m of every joint, worked out once for each step of the plant."""
        if self._measured_at != self.plant.steps:
            plant, self._measured_at = self.plant, self.plant.steps
            rows = ((plant.position / REV).tolist(), (plant.velocity / REV).tolist(), plant.effort.tolist())
            self._rows = list(zip(*rows, strict=True))
        return self._rows

    # --- registers --------------------------------------------------------------------------------------------

    def _writes(self, index: int, parts: Sequence[Subframe]) -> tuple[Mode | None, bytes]:
        """The mode that the frame commands, and the errors that its writes earn."""
        mode, errors = None, b""
        registers = dict(self._controllers.all[index].command)
        for part in parts:
            if part.kind == TEXT_IN:
                self._diagnostics[index].hear(part.text)
            if part.kind != WRITE or part.value is None:
                continue
            target = written(part.register)
            if part.register == Register.MODE:
                if not (math.isfinite(part.value) and 0 <= part.value <= Mode.BRAKE):
                    errors += self._error(WRITE_ERROR, part.register, 1)
                    continue
                mode, registers = Mode(int(part.value)), dict(UNSAID)
            elif target is not None:
                scale = reg.SCALES[target][part.resolution]
                registers[target] = codec.scaled(part.value, scale, part.resolution)
            else:
                errors += self._error(WRITE_ERROR, part.register, 2 if part.register in set(Register) else 1)
        if any(part.kind == WRITE for part in parts):
            self._controllers.all[index].command, self._followed[index] = registers, None
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
                text = self._diagnostics[index].speak(int(part.value or 0))
                out.append(bytes((TEXT_OUT, codec.TEXT_CHANNEL, len(text))) + text)
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
        controller = self._controllers.all[index]
        position, velocity, torque = self._measured()[index]
        sensed: Mapping[int, float] = {
            Register.MODE: controller.mode,
            Register.POSITION: position,
            Register.VELOCITY: velocity,
            Register.TORQUE: torque,
            Register.VOLTAGE: _VOLTAGE_V,
            Register.TEMPERATURE: _TEMPERATURE_C,
            Register.FAULT: controller.fault or controller.limiting,
        }
        if register in sensed:
            return float(sensed[register])
        said = written(register)
        return None if said is None else controller.command[said]


def make(joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, Any]) -> MoteusDevice:
    """Raises BridgeError for an option that neither it nor the driver knows."""
    options = {name: value for name, value in options.items() if name != "resolution"}
    if set(options) - set(OPTIONS) or not all(isinstance(value, int | float) for value in options.values()):
        known = ", ".join(OPTIONS)
        raise BridgeError(explain("options of the virtual moteus", known, dict(options), "correct them"))
    return MoteusDevice(joints, plant, options)
