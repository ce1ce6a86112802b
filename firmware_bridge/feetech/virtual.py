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
from firmware_bridge.feetech.codec import BROADCAST, Instruction, from_signed, to_signed
from firmware_bridge.feetech.models import EEPROM_END, MULTI_TURN, Model, Register
from firmware_bridge.feetech.options import options_of
from firmware_bridge.virtual.device import Device, Reply
from firmware_bridge.virtual.plant import JointPlant

_MEMORY = 128  # registers
_READ_ONLY = {*range(5), *range(Register.PRESENT_POSITION, 71)}
_CALIBRATE_MIDDLE = 128  # written to TORQUE_ENABLE
_BITS = {"voltage": 1, "encoder": 2, "overheat": 4, "current": 8, "overload": 32}
_OVERLOAD = 32
_UNDRIVEN = 2.0  # N m s/rad: a gear of 1:345 without torque sinks slowly (about what an SO-101 does), it does not drop


class VirtualServo:
    """One servo: its memory, and the joint `index` of the plant."""

    def __init__(self, joint: Joint, index: int, plant: JointPlant, delay_us: int, homing_offset: int = 0) -> None:
        self.id, self.index = joint.id, index
        self.model: Model = codec.model_of(joint)
        self._plant, self._big = plant, self.model.series.big_endian
        self._encoder_offset = homing_offset  # counts between the plant's angle and the encoder
        self._fault = 0  # status bits raised from outside
        self._over_us = 0  # how long it has been overloaded
        self._seen_us: int | None = None
        low, high = codec.count_range(joint, self.model)
        self._saved = self._factory(low, high, delay_us // 2, homing_offset)
        self.memory = bytearray(self._saved)
        self.kept: tuple[int, bytes] | None = None  # of a reg write
        self.start()

    def _factory(self, low: int, high: int, delay: int, homing_offset: int) -> bytearray:
        memory = bytearray(_MEMORY)
        memory[0:3] = (3, 10, int(self._big))
        memory[Register.ID], memory[Register.RETURN_DELAY], memory[Register.ANSWER_LEVEL] = self.id, delay, 1
        memory[Register.MAX_TEMPERATURE], memory[Register.MAX_VOLTAGE], memory[Register.MIN_VOLTAGE] = 70, 80, 40
        memory[Register.PHASE], memory[Register.UNLOAD] = 12, 44
        memory[Register.P_GAIN], memory[Register.D_GAIN] = 32, 32
        if self.model.series.homing:
            memory[Register.PROTECTIVE_TORQUE], memory[Register.PROTECTION_TIME] = 20, 200
            memory[Register.OVERLOAD_TORQUE] = 80
            self._put(memory, Register.HOMING_OFFSET, from_signed(homing_offset, 11))
        for register, value in (
            (Register.MODEL, self.model.number),
            (Register.MIN_POSITION, low),
            (Register.MAX_POSITION, high),
            (Register.MAX_TORQUE, 1000),
        ):
            self._put(memory, register, value)
        return memory

    def start(self) -> None:
        """Power comes on: RAM as after a cold start."""
        self.memory[:] = self._saved
        self.memory[EEPROM_END:] = bytes(_MEMORY - EEPROM_END)
        self.memory[self.model.series.lock] = 1
        if self.model.series.homing:
            self._put(self.memory, Register.TORQUE_LIMIT, self.word(Register.MAX_TORQUE))
        self._fault = self._over_us = 0
        self.kept = None
        self._put(self.memory, Register.GOAL_POSITION, self._present())
        self._drive()

    # --- memory -----------------------------------------------------------------------------------------------

    def word(self, register: int) -> int:
        return codec.words(bytes(self.memory[register : register + 2]), self._big)[0]

    def read(self, address: int, count: int) -> bytes:
        self._measure()
        return bytes(self.memory[address : address + count]).ljust(count, b"\x00")

    def write(self, address: int, data: bytes) -> None:
        for at, value in enumerate(data, address):
            if at in _READ_ONLY or at >= _MEMORY:
                continue
            self.memory[at] = value
            if at < EEPROM_END and self.memory[self.model.series.lock] == 0:
                self._saved[at] = value
        self.id = self.memory[Register.ID]
        if address <= Register.TORQUE_ENABLE < address + len(data):
            self._switch(self.memory[Register.TORQUE_ENABLE])
        self._drive()

    def _switch(self, value: int) -> None:
        if value == _CALIBRATE_MIDDLE and self.model.series.homing:
            self.memory[Register.TORQUE_ENABLE] = 0
            middle = self._encoder() - (self.model.top + 1) // 2
            self._put(self.memory, Register.HOMING_OFFSET, from_signed(self._wrapped(middle + 2047) - 2047, 11))
            self._saved[:EEPROM_END] = self.memory[:EEPROM_END]
        elif value:
            self._fault &= ~_OVERLOAD  # torque enabled anew ends the protection
            self._over_us = 0

    @property
    def status(self) -> int:
        return self._fault

    # --- the joint --------------------------------------------------------------------------------------------

    def advance(self, now_us: int) -> None:
        """Overload protection since the last call; the plant has been run already."""
        elapsed = 0 if self._seen_us is None else max(0, now_us - self._seen_us)
        self._seen_us = now_us
        share = 100 * abs(self._plant.effort[self.index]) / self.model.stall_nm
        beyond = self.model.series.homing and share >= self.memory[Register.OVERLOAD_TORQUE]
        self._over_us = self._over_us + elapsed if beyond else 0
        if beyond and self._over_us > self.memory[Register.PROTECTION_TIME] * 10_000:
            self.raise_fault(_OVERLOAD)

    def raise_fault(self, bit: int) -> None:
        """As UNLOAD says: torque off, or at an overload down to PROTECTIVE_TORQUE."""
        self._fault |= bit
        if bit & self.memory[Register.UNLOAD] & ~_OVERLOAD:
            self.memory[Register.TORQUE_ENABLE] = 0
        self._drive()

    def _drive(self) -> None:
        """The plant's law from the memory."""
        plant, i = self._plant, self.index
        plant.torque_on[i] = self.memory[Register.TORQUE_ENABLE] == 1
        goal = to_signed(self.word(Register.GOAL_POSITION), 15)
        limits = self.word(Register.MIN_POSITION), self.word(Register.MAX_POSITION)
        if limits != MULTI_TURN:
            goal = min(max(goal, limits[0]), limits[1])
        plant.target[i] = (goal + self._homing() - self._encoder_offset) / self.model.counts_per_rad
        share = self.word(Register.TORQUE_LIMIT) / 1000 if self.model.series.homing else 1.0
        if self._fault & _OVERLOAD and self.memory[Register.UNLOAD] & _OVERLOAD:
            share = min(share, self.memory[Register.PROTECTIVE_TORQUE] / 100)
        plant.limit[i] = share * self.model.stall_nm

    def _homing(self) -> int:
        return to_signed(self.word(Register.HOMING_OFFSET), 11) if self.model.series.homing else 0

    def _encoder(self) -> int:
        return round(float(self._plant.position[self.index]) * self.model.counts_per_rad) + self._encoder_offset

    def _wrapped(self, counts: int) -> int:
        """Into one turn, where the encoder goes round."""
        return counts % (self.model.top + 1) if self.model.series.homing else min(max(counts, 0), self.model.top)

    def _present(self) -> int:
        return self._wrapped(self._encoder() - self._homing())

    def _measure(self) -> None:
        """The registers that are measured."""
        plant, i, memory = self._plant, self.index, self.memory
        per_second = plant.velocity[i] * self.model.counts_per_rad / (1 if memory[Register.PHASE] & 4 else 50)
        load = min(1000, round(1000 * abs(plant.effort[i]) / self.model.stall_nm))
        self._put(memory, Register.PRESENT_POSITION, from_signed(self._present(), 15))
        self._put(memory, Register.PRESENT_SPEED, from_signed(int(np.clip(round(per_second), -32767, 32767)), 15))
        self._put(memory, Register.PRESENT_LOAD, from_signed(load if plant.effort[i] >= 0 else -load, 10))
        memory[Register.PRESENT_VOLTAGE], memory[Register.PRESENT_TEMPERATURE] = 74, 30
        memory[Register.STATUS], memory[Register.MOVING] = self._fault, int(abs(plant.velocity[i]) > 0.01)

    def _put(self, memory: bytearray, register: int, value: int) -> None:
        memory[register : register + 2] = codec.word(value, self._big)


class FeetechDevice:
    """All servos of one line."""

    def __init__(self, joints: Sequence[Joint], plant: JointPlant, delay_us: int, offsets: Sequence[int]) -> None:
        self.plant = plant
        self._driven_friction = plant.friction
        pairs = enumerate(zip(joints, offsets or [0] * len(joints), strict=True))
        self.servos = [VirtualServo(joint, i, plant, delay_us, offset) for i, (joint, offset) in pairs]
        self._decoder = codec.Decoder()
        self._heard = dict.fromkeys(Instruction, 0)
        self._unknown = 0

    def feed(self, data: bytes, now_us: int) -> list[Reply]:
        self.tick(now_us)
        replies: list[Reply] = []
        for asked in self._decoder.feed(data):
            replies += self._obey(asked)
        return replies

    def tick(self, now_us: int) -> list[Reply]:
        friction = np.where(self.plant.torque_on, self._driven_friction, _UNDRIVEN)
        self.plant.friction = friction  # type: ignore[assignment]  # one per joint
        self.plant.run_to(now_us)
        for servo in self.servos:
            servo.advance(now_us)
        return []

    def power(self, on: bool, now_us: int) -> None:
        self.tick(now_us)
        self._decoder.clear()
        for servo in self.servos:
            servo.start()

    def fault(self, joint: int, name: str) -> None:
        if name not in _BITS:
            raise ValueError(f"fault one of {', '.join(_BITS)}, got {name}")
        self.servos[joint].raise_fault(_BITS[name])

    def report(self) -> Mapping[str, object]:
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
        heard = [servo for servo in self.servos if asked.id in (servo.id, BROADCAST)]
        answers = [self._one(servo, instruction, asked) for servo in heard]
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
        by_id = {servo.id: servo for servo in self.servos if servo.model.series.sync_read}
        asked = [by_id[number] for number in data[2:] if number in by_id]
        return self._in_turn([(servo, servo.read(data[0], data[1])) for servo in asked])

    def _sync_write(self, data: bytes) -> None:
        if len(data) < 2 or (len(data) - 2) % (data[1] + 1):
            return
        by_id = {servo.id: servo for servo in self.servos}
        for at in range(2, len(data), data[1] + 1):
            if data[at] in by_id:
                by_id[data[at]].write(data[0], data[at + 1 : at + data[1] + 1])

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
