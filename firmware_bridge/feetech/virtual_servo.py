"""One virtual Feetech servo: its memory, and what that makes of the joint it drives."""

from __future__ import annotations

import struct

from firmware_bridge.arm import Joint
from firmware_bridge.feetech import codec
from firmware_bridge.feetech.codec import from_signed, to_signed
from firmware_bridge.feetech.models import EEPROM_END, MULTI_TURN, Model, Register
from firmware_bridge.virtual.plant import JointPlant

_MEMORY = 128  # registers
_READ_ONLY = {*range(5), *range(Register.PRESENT_POSITION, 71)}
_CALIBRATE_MIDDLE = 128  # written to TORQUE_ENABLE
_OVERLOAD = 32
_GOAL = slice(Register.GOAL_POSITION, Register.GOAL_POSITION + 2)
_SIGN, _LOAD_SIGN = 1 << 15, 1 << 10
_DECIVOLTS, _CELSIUS = 74, 30


class VirtualServo:
    """One servo: its memory, and the joint `index` of the plant."""

    def __init__(self, joint: Joint, index: int, plant: JointPlant, delay_us: int, homing_offset: int = 0) -> None:
        self.id, self.index = joint.id, index
        self.model: Model = codec.model_of(joint)
        self._plant, self._big = plant, self.model.series.big_endian
        self._present_block = struct.Struct((">" if self._big else "<") + "HHHBB")
        self._encoder_offset = homing_offset  # counts between the plant's angle and the encoder
        self._fault = 0  # status bits raised from outside
        self._over_us = 0  # how long it has been overloaded
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
        self.id = self.memory[Register.ID]
        self._fault = self._over_us = 0
        self.kept = None
        present = self._wrapped(self._encoder() - self._homing())
        self._put(self.memory, Register.GOAL_POSITION, present)
        self._drive()

    # --- memory -----------------------------------------------------------------------------------------------

    def word(self, register: int) -> int:
        return codec.words(bytes(self.memory[register : register + 2]), self._big)[0]

    def read(self, address: int, count: int) -> bytes:
        """As it was measured last."""
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

    def aim(self, goal: bytes) -> None:
        """A goal position of two bytes; all else stays as it is."""
        self.memory[_GOAL] = goal
        raw = int.from_bytes(goal, "big" if self._big else "little")
        counts = raw if raw < _SIGN else _SIGN - raw
        if self._limits != MULTI_TURN:
            counts = min(max(counts, self._limits[0]), self._limits[1])
        self._plant.target[self.index] = (counts + self._shift) / self.model.counts_per_rad

    def strained(self, effort_nm: float) -> bool:
        """Whether this is an overload; its time starts anew where it is none."""
        share = 100 * abs(effort_nm) / self.model.stall_nm
        beyond = self.model.series.homing and share >= self.memory[Register.OVERLOAD_TORQUE]
        if not beyond:
            self._over_us = 0
        return beyond

    def endure(self, elapsed_us: int) -> bool:
        """The overload has lasted so much longer; whether that was too long."""
        self._over_us += elapsed_us
        if self._over_us <= self.memory[Register.PROTECTION_TIME] * 10_000:
            return False
        self.raise_fault(_OVERLOAD)
        return True

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
        self._limits = self.word(Register.MIN_POSITION), self.word(Register.MAX_POSITION)
        self._shift = self._homing() - self._encoder_offset
        self.aim(bytes(self.memory[_GOAL]))
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

    def measure(self, position_rad: float, velocity_rad_s: float, effort_nm: float) -> None:
        """The registers that are measured."""
        model, memory = self.model, self.memory
        counts = self._wrapped(round(position_rad * model.counts_per_rad) - self._shift)
        units = velocity_rad_s * model.counts_per_rad / (1 if memory[Register.PHASE] & 4 else 50)
        speed = min(max(round(units), 1 - _SIGN), _SIGN - 1)
        load = min(1000, round(1000 * abs(effort_nm) / model.stall_nm))
        sign = _LOAD_SIGN if effort_nm < 0 and load else 0
        raw_speed = speed if speed >= 0 else _SIGN - speed
        at = Register.PRESENT_POSITION
        self._present_block.pack_into(memory, at, counts, raw_speed, load | sign, _DECIVOLTS, _CELSIUS)
        memory[Register.STATUS], memory[Register.MOVING] = self._fault, abs(velocity_rad_s) > 0.01

    def _put(self, memory: bytearray, register: int, value: int) -> None:
        memory[register : register + 2] = codec.word(value, self._big)
