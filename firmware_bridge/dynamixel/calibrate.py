"""What calibrating asks of the servos: torque off, middle taken, positions read, the result saved and read back.

As LeRobot does it (0.4.4, robots/koch_follower, motors/dynamixel): extended position mode, Homing Offset(20) = 2047
less what the servo reads at the middle of its travel, and the range in Position Limits(52, 48). All is EEPROM: kept
over power-off, locked under torque. A register is written where it differs, and read back. A shadow counts with its
leader, so it is calibrated with it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from firmware_bridge.arm import Joint
from firmware_bridge.calibration import MotorCalibration
from firmware_bridge.config import Option
from firmware_bridge.dynamixel import codec, models, setup
from firmware_bridge.dynamixel.bus import Bus
from firmware_bridge.dynamixel.models import COUNTS_PER_TURN, EXTENDED_POSITION, POSITION, RAD_PER_COUNT, Register
from firmware_bridge.dynamixel.options import parse, shadow_name
from firmware_bridge.dynamixel.setup import Servo
from firmware_bridge.errors import ArmRefused, BridgeError, explain
from firmware_bridge.transport.base import Transport

_TOP = COUNTS_PER_TURN - 1
_MIDDLE = _TOP // 2  # LeRobot's int(4095 / 2)
_FARTHEST_OFFSET = 1_044_479  # counts
_MOVED = 256  # counts, 22 degrees: a hand between two readings stays below, an offset that does nothing does not
_TAKES_S = 0.3  # until a servo shows its position with a new offset: it has a cycle of its own
_KEPT = (models.DRIVE_MODE, models.OPERATING_MODE, models.HOMING_OFFSET, models.MIN_POSITION, models.MAX_POSITION)
_FIRST = models.DRIVE_MODE.address  # they lie together
_LENGTH = models.MIN_POSITION.address + models.MIN_POSITION.size - _FIRST

Registers = Mapping[str, Mapping[Register, int]]  # by motor: what its EEPROM holds


class Calibrator:
    """Servos of one bus over an open transport. `joints`: every servo, shadows behind their leaders, as in the file."""

    def __init__(self, transport: Transport, joints: Sequence[Joint], options: Mapping[str, Option]) -> None:
        self._bus = Bus(transport)
        servos = setup.servos_of(joints, parse(options, joints), 0, ())
        servos.sort(key=lambda servo: (servo.index, servo.leader is not None))
        self._servos = {_name(servo): servo for servo in servos}
        self.joints = tuple(replace(servo.joint, name=name, id=servo.id) for name, servo in self._servos.items())
        self.drive_modes = {name: int(servo.reverse) for name, servo in self._servos.items()}

    def read(self) -> Registers:
        """What is in the servos now. Raises NoAnswer, JointSilent, WrongJoint."""
        setup.find(self._bus, list(self._servos.values()))
        for servo in self._servos.values():
            setup.answer_everything(self._bus, servo.id)
        return {name: self._kept(servo) for name, servo in self._servos.items()}

    def begin(self) -> None:
        """Torque off (the arm sinks: hold it), offsets 0, limits a whole turn, counting turns. Raises JointSilent.

        Going through mode 3 makes a servo that has counted turns start again within one (e-manual, Present Position).
        """
        for servo in self._servos.values():
            self._bus.write_and_check(servo.id, models.TORQUE, 0)
        for servo in self._servos.values():
            drive = setup.drive_mode(servo, self._kept(servo)[models.DRIVE_MODE])
            self._write(servo, {models.DRIVE_MODE: drive, **_registers(0, 0, _TOP)})
            self._write(servo, {models.OPERATING_MODE: POSITION})
            self._write(servo, {models.OPERATING_MODE: EXTENDED_POSITION})

    def positions(self) -> dict[str, int]:
        """Counts now, by motor. Raises JointSilent."""
        return {name: self._bus.read(s.id, models.PRESENT_POSITION) for name, s in self._servos.items()}

    def take_middle(self) -> dict[str, int]:
        """Homing offsets that make here the middle, written and returned. Raises ArmRefused where they do nothing."""
        offsets = {name: _MIDDLE - at for name, at in self.positions().items()}
        for name, offset in offsets.items():
            self._write(self._servos[name], {models.HOMING_OFFSET: offset})
        deadline_ns = time.monotonic_ns() + int(_TAKES_S * 1e9)
        while off := {name: at for name, at in self.positions().items() if abs(at - _MIDDLE) > _MOVED}:
            if time.monotonic_ns() > deadline_ns:
                todo = "calibrate again, and keep the arm still while you press Enter"
                got = ", ".join(f"{name} {at}" for name, at in off.items())
                raise ArmRefused(explain("servos after their homing offset", f"about {_MIDDLE} counts", got, todo))
        return offsets

    def save(self, calibration: Mapping[str, MotorCalibration]) -> None:
        """Offsets and limits into the servos, kept over power-off. Torque stays off. Raises ArmRefused, JointSilent."""
        for name, motor in calibration.items():
            if motor.range_min < 0 or motor.range_max > _TOP:
                todo = "calibrate again from nearer its middle; it goes round? pass --full-turn too"
                got = f"{motor.range_min} .. {motor.range_max}"
                what = f"{name} was moved more than half a turn from its middle"
                raise ArmRefused(explain(what, f"0 .. {_TOP} counts", got, todo))
        for name, motor in calibration.items():
            self._write(self._servos[name], _registers(motor.homing_offset, motor.range_min, motor.range_max))

    def put_back(self, before: Registers) -> None:
        """What `read` found, into every servo that can be reached. Raises ArmRefused that names the others.

        A servo that was not changed is not written: under torque, before `begin`, it would refuse.
        """
        left = []
        for name, registers in before.items():
            try:
                self._write(self._servos[name], registers)
            except BridgeError:
                left.append(name)
        if left:
            todo = "bring them back on the bus, hold the arm, and calibrate again, or `--from` a file of before"
            what = "the calibration of before could not be put back"
            raise ArmRefused(explain(what, "every servo as it was", f"not {', '.join(left)}", todo))

    def notes(self, calibration: Mapping[str, MotorCalibration]) -> list[str]:
        """What a person should know of this calibration."""
        return [
            f"{joint.name}: the encoder's own zero lies in its travel. Powered up beyond it the joint reads a turn "
            "off and the arm refuses to arm: power it up near the middle, or mount the horn elsewhere"
            for joint in self.joints
            if _crosses_zero(joint, calibration[joint.name])
        ]

    def _kept(self, servo: Servo) -> dict[Register, int]:
        """All of it by one question, whose answer has a length of its own: no late one can pass for it."""
        data = self._bus.ask(codec.read(servo.id, _FIRST, _LENGTH), servo.id, _LENGTH).data
        parts = {register: data[register.address - _FIRST :][: register.size] for register in _KEPT}
        return {register: int.from_bytes(part, "little", signed=register.signed) for register, part in parts.items()}

    def _write(self, servo: Servo, registers: Mapping[Register, int]) -> None:
        """Where it differs. Raises ArmRefused when it does not read back, JointSilent."""
        before = self._kept(servo)
        for register, value in registers.items():
            if before[register] != value:
                self._bus.write(servo.id, register, value)
        if (found := {register: self._kept(servo)[register] for register in registers}) != dict(registers):
            todo = "power-cycle it and calibrate again; another program may be using the bus"
            expected, got = (", ".join(f"{r.address} = {v}" for r, v in each.items()) for each in (registers, found))
            raise ArmRefused(explain(f"registers of {_name(servo)} (id {servo.id})", expected, got, todo))


def _name(servo: Servo) -> str:
    return servo.joint.name if servo.leader is None else shadow_name(servo.joint.name)


def _registers(offset: int, low: int, high: int) -> dict[Register, int]:
    return {models.HOMING_OFFSET: offset, models.MIN_POSITION: low, models.MAX_POSITION: high}


def _crosses_zero(joint: Joint, motor: MotorCalibration) -> bool:
    """Whether the part of the range that the profile allows lies on both sides of the encoder's zero."""
    middle = 0.5 * (motor.range_min + motor.range_max)
    half = max(abs(joint.minimum), abs(joint.maximum)) / joint.ratio / RAD_PER_COUNT
    low, high = max(motor.range_min, middle - half), min(motor.range_max, middle + half)
    return low < motor.homing_offset or high > _TOP + motor.homing_offset


def full_turn(joint: Joint) -> tuple[int, int]:
    """Range of a joint that goes round: nobody has to turn it to both ends."""
    return 0, _TOP


def offset_limits(joint: Joint) -> tuple[int, int]:
    """Homing offsets that the register takes (e-manual, Homing Offset(20))."""
    return -_FARTHEST_OFFSET, _FARTHEST_OFFSET


def make(transport: Transport, joints: Sequence[Joint], options: Mapping[str, Option]) -> Calibrator:
    """What `edgevla arm calibrate` calls through `protocols.module(protocol, "calibrate")`."""
    return Calibrator(transport, joints, options)
