"""What calibrating asks of the servos: torque off, offsets cleared, positions read, the result saved in them.

As LeRobot does it: at the middle of its travel a joint shall read half a turn less one count (2047), so that no range
crosses the encoder's zero; the homing offset makes it so. What is written here is kept over power-off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from firmware_bridge.arm import Joint
from firmware_bridge.calibration import MotorCalibration
from firmware_bridge.config import Option
from firmware_bridge.errors import ArmRefused, BridgeError, WrongJoint, explain
from firmware_bridge.feetech import codec
from firmware_bridge.feetech.bus import ServoBus, unlock
from firmware_bridge.feetech.models import Register
from firmware_bridge.transport.base import Transport


class Calibrator:
    """Servos of one bus over an open transport."""

    def __init__(self, transport: Transport, joints: Sequence[Joint]) -> None:
        self._bus = ServoBus(transport)
        self.joints = tuple(joints)
        self.drive_modes = {joint.name: 0 for joint in joints}  # in no servo: LeRobot writes 0
        self._series = codec.model_of(joints[0]).series
        self._models = {joint.id: codec.model_of(joint) for joint in joints}

    def begin(self) -> None:
        """Torque off (the arm sinks: hold it), offsets 0, limits a whole turn. Raises NoAnswer, JointSilent."""
        servos = self._bus.servos({joint.id: joint.name for joint in self.joints})
        for servo, joint in zip(servos, self.joints, strict=True):
            if servo.number != self._models[joint.id].number:
                todo = "correct the model in the profile, or the ids of the servos"
                raise WrongJoint(explain(f"{joint.name} (id {joint.id})", joint.model, servo.model, todo))
            self._bus.write(servo.id, Register.TORQUE_ENABLE, b"\x00")
            unlock(self._bus, servo)
            self._word(servo.id, Register.MIN_POSITION, 0)
            self._word(servo.id, Register.MAX_POSITION, self._models[servo.id].top)
            if self._series.homing:
                self._word(servo.id, Register.HOMING_OFFSET, 0)

    def positions(self) -> dict[str, int]:
        """Counts now, by joint. Raises NoAnswer."""
        return {joint.name: self._bus.servo(joint.id).position for joint in self.joints}

    def take_middle(self) -> dict[str, int]:
        """Homing offsets that make here the middle, written and returned. 0 in a series that has none."""
        offsets = {}
        for joint in self.joints:
            half = self._models[joint.id].top // 2
            offset = self._bus.servo(joint.id).position - half if self._series.homing else 0
            offsets[joint.name] = min(offset, (1 << 11) - 1)
            if self._series.homing:
                self._word(joint.id, Register.HOMING_OFFSET, codec.from_signed(offsets[joint.name], 11))
        return offsets

    def save(self, calibration: Mapping[str, MotorCalibration]) -> None:
        """Limits and offsets into the servos, kept over power-off, read back, locked. Torque stays off.

        Raises NoAnswer, ArmRefused.
        """
        for joint in self.joints:
            self._keep(joint, calibration[joint.name])

    def put_back(self, before: Mapping[str, MotorCalibration]) -> None:
        """What `read` found, into every servo that can be reached. Raises ArmRefused that names the others."""
        left = []
        for joint in self.joints:
            try:
                self._keep(joint, before[joint.name])
            except BridgeError:
                left.append(joint.name)
        if left:
            todo = "bring them back on the bus, hold the arm, and calibrate again, or `--from` a file of before"
            what = "the calibration of before could not be put back"
            raise ArmRefused(explain(what, "every servo as it was", f"not {', '.join(left)}", todo))

    def notes(self, calibration: Mapping[str, MotorCalibration]) -> list[str]:
        """What a person should know of this calibration: nothing."""
        return []

    def read(self) -> dict[str, MotorCalibration]:
        """What is in the servos now, as LeRobot reads it (drive_mode is in no servo: 0)."""
        found = {}
        for joint in self.joints:
            servo = self._bus.servo(joint.id)
            low, high = servo.limits
            found[joint.name] = MotorCalibration(servo.id, 0, servo.homing_offset, low, high)
        return found

    def _keep(self, joint: Joint, motor: MotorCalibration) -> None:
        self._word(joint.id, Register.MIN_POSITION, motor.range_min)
        self._word(joint.id, Register.MAX_POSITION, motor.range_max)
        if self._series.homing:
            self._word(joint.id, Register.HOMING_OFFSET, codec.from_signed(motor.homing_offset, 11))
        self._bus.write(joint.id, self._series.lock, b"\x01")
        servo = self._bus.servo(joint.id)
        wanted, found = (motor.homing_offset, motor.range_min, motor.range_max), (servo.homing_offset, *servo.limits)
        if found != wanted:
            todo = "power-cycle it and calibrate again; another program may be using the bus"
            raise ArmRefused(explain(f"{joint.name} (id {joint.id}): offset and limits", wanted, found, todo))

    def _word(self, servo: int, register: int, value: int) -> None:
        self._bus.write(servo, register, codec.word(value, self._series.big_endian))


def full_turn(joint: Joint) -> tuple[int, int]:
    """Range of a joint that goes round: nobody has to turn it to both ends."""
    return 0, codec.model_of(joint).top


def offset_limits(joint: Joint) -> tuple[int, int]:
    """Homing offsets that the register takes: sign and 11 bits; a series without one has 0."""
    most = (1 << 11) - 1 if codec.model_of(joint).series.homing else 0
    return -most, most


def make(transport: Transport, joints: Sequence[Joint], options: Mapping[str, Option]) -> Calibrator:
    """What `edgevla arm calibrate` calls through `protocols.module(protocol, "calibrate")`; no option matters here."""
    return Calibrator(transport, joints)
