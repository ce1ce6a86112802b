"""Feetech servos on one line, byte for byte: memory, torque, limits, overload protection, status byte.

As the real ones they drop packets with a wrong checksum in silence, keep what is written unlocked below EEPROM_END,
lose the rest at power-off, and come back with torque off. A goal written with torque off is kept, not followed.
Not known of the real ones, and so chosen: servos behind a silent one still answer a sync read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from firmware_bridge.arm import Joint
from firmware_bridge.feetech import codec
from firmware_bridge.feetech.codec import BROADCAST, Instruction, to_signed
from firmware_bridge.feetech.models import Register
from firmware_bridge.feetech.options import options_of
from firmware_bridge.feetech.virtual_servo import VirtualServo
from firmware_bridge.virtual.device import Device, Reply
from firmware_bridge.virtual.plant import JointPlant

_BITS = {"voltage": 1, "encoder": 2, "overheat": 4, "current": 8, "overload": 32}
_UNDRIVEN = 2.0  # N m s/rad: a gear of 1:345 without torque sinks slowly (about what an SO-101 does), it does not drop
_GOALS = bytes((Register.GOAL_POSITION, 2))  # how a sync write of goal positions begins
_BEHIND_GOALS = Register.GOAL_POSITION + 2


class FeetechDevice:
    """All servos of one line. What was measured or said is kept until a step of the plant or a write changes it."""

    def __init__(self, joints: Sequence[Joint], plant: JointPlant, delay_us: int, offsets: Sequence[int]) -> None:
        self.plant = plant
        self._driven_friction = plant.friction
        pairs = enumerate(zip(joints, offsets or [0] * len(joints), strict=True))
        self.servos = [VirtualServo(joint, i, plant, delay_us, offset) for i, (joint, offset) in pairs]
        self._decoder = codec.Decoder()
        self._heard = dict.fromkeys(Instruction, 0)
        self._unknown = 0
        self._ticked_us: int | None = None
        self._changed()

    def _changed(self) -> None:
        """After anything but a new goal: nothing holds any more that was made from a memory."""
        friction = np.where(self.plant.torque_on, self._driven_friction, _UNDRIVEN)
        self.plant.friction = friction  # type: ignore[assignment]  # one per joint
        self._by_id = {servo.id: servo for servo in self.servos}
        self._measured_at = self._strained_at = -1  # steps of the plant
        self._strained: list[VirtualServo] = []
        self._said: dict[bytes, list[Reply]] = {}  # sync read -> answers

    def feed(self, data: bytes, now_us: int) -> list[Reply]:
        self.tick(now_us)
        replies: list[Reply] = []
        for asked in self._decoder.feed(data):
            replies += self._obey(asked)
        return replies

    def tick(self, now_us: int) -> list[Reply]:
        self.plant.run_to(now_us)
        elapsed_us = 0 if self._ticked_us is None else max(0, now_us - self._ticked_us)
        self._ticked_us = now_us
        if self._strained_at != self.plant.steps:
            self._strained_at = self.plant.steps
            efforts = zip(self.servos, self.plant.effort.tolist(), strict=True)
            self._strained = [servo for servo, effort_nm in efforts if servo.strained(effort_nm)]
        if [servo for servo in self._strained if servo.endure(elapsed_us)]:
            self._changed()
        return []

    def _measure(self) -> None:
        """Every servo's measured registers, as of the last step."""
        plant = self.plant
        if self._measured_at == plant.steps:
            return
        self._measured_at = plant.steps
        self._said = {}
        rows = zip(self.servos, plant.position.tolist(), plant.velocity.tolist(), plant.effort.tolist(), strict=True)
        for servo, position_rad, velocity_rad_s, effort_nm in rows:
            servo.measure(position_rad, velocity_rad_s, effort_nm)

    def power(self, on: bool, now_us: int) -> None:
        self.tick(now_us)
        self._decoder.clear()
        for servo in self.servos:
            servo.start()
        self._changed()

    def fault(self, joint: int, name: str) -> None:
        if name not in _BITS:
            raise ValueError(f"fault one of {', '.join(_BITS)}, got {name}")
        self.servos[joint].raise_fault(_BITS[name])
        self._changed()

    def report(self) -> Mapping[str, object]:
        self._measure()
        return {
            "heard": {instruction.name: count for instruction, count in self._heard.items()},
            "unknown": self._unknown,
            "skipped": self._decoder.skipped,
            "goals": [to_signed(servo.word(Register.GOAL_POSITION), 15) for servo in self.servos],
            "registers": [servo.read(0, 71).hex() for servo in self.servos],
        }

    # --- instructions -----------------------------------------------------------------------------------------

    def _obey(self, asked: codec.Packet) -> list[Reply]:
        try:
            instruction = Instruction(asked.code)
        except ValueError:
            self._unknown += 1
            return []
        self._heard[instruction] += 1
        if instruction is Instruction.SYNC_READ:
            return self._sync_read(asked.data)
        if instruction is Instruction.SYNC_WRITE:
            self._sync_write(asked.data)
            return []
        self._measure()
        heard = [servo for servo in self.servos if asked.id in (servo.id, BROADCAST)]
        answers = [self._one(servo, instruction, asked) for servo in heard]
        if instruction in (Instruction.WRITE, Instruction.ACTION):
            self._changed()
        return self._in_turn([answer for answer in answers if answer is not None])

    def _one(
        self, servo: VirtualServo, instruction: Instruction, asked: codec.Packet
    ) -> tuple[VirtualServo, bytes] | None:
        """What one servo does, and the data of its answer; None: it says nothing."""
        data, spoken_to = asked.data, asked.id != BROADCAST
        if instruction is Instruction.PING:
            return servo, b""
        if instruction is Instruction.READ:
            return (servo, servo.read(data[0], data[1])) if spoken_to and len(data) == 2 else None
        if instruction is Instruction.WRITE and data:
            servo.write(data[0], data[1:])
        elif instruction is Instruction.REG_WRITE and data:
            servo.kept = (data[0], data[1:])
        elif instruction is Instruction.ACTION and servo.kept is not None:
            servo.write(*servo.kept)
            servo.kept = None
        return (servo, b"") if spoken_to and servo.memory[Register.ANSWER_LEVEL] else None

    def _sync_read(self, data: bytes) -> list[Reply]:
        if len(data) < 3:
            return []
        self._measure()
        if data in self._said:
            return self._said[data]
        found = [self._by_id[number] for number in data[2:] if number in self._by_id]
        answers = [(servo, servo.read(data[0], data[1])) for servo in found if servo.model.series.sync_read]
        replies = self._in_turn(answers)
        if data[0] >= _BEHIND_GOALS:
            self._said[data] = replies
        return replies

    def _sync_write(self, data: bytes) -> None:
        if len(data) < 2 or (len(data) - 2) % (data[1] + 1):
            return
        goals = data.startswith(_GOALS)
        for at in range(2, len(data), data[1] + 1):
            servo = self._by_id.get(data[at])
            if servo is not None and goals:
                servo.aim(data[at + 1 : at + 3])
            elif servo is not None:
                servo.write(data[0], data[at + 1 : at + data[1] + 1])
        if not goals:
            self._changed()

    def _in_turn(self, answers: Sequence[tuple[VirtualServo, bytes]]) -> list[Reply]:
        """Each waits for the one before, and then its own return delay."""
        replies, delay_us = [], 0
        for servo, data in answers:
            delay_us += servo.memory[Register.RETURN_DELAY] * 2
            replies.append(Reply(codec.packet(servo.id, servo.status, data), delay_us, servo.index))
        return replies


def make(joints: Sequence[Joint], plant: JointPlant, options: Mapping[str, object]) -> Device:
    """`options`: those of the profile (homing_offsets matters here), and `factory_delay_us`: return delay at first."""
    given = {key: value for key, value in options.items() if key != "factory_delay_us"}
    offsets = options_of(given, len(joints)).offsets  # type: ignore[arg-type]
    return FeetechDevice(joints, plant, int(str(options.get("factory_delay_us", 0))), offsets)
