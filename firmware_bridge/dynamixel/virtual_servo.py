"""One servo's register file: what a read shows, what a write changes and what it refuses. No time, no wire."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable

from firmware_bridge.dynamixel import models
from firmware_bridge.dynamixel.models import COUNTS_PER_TURN, EEPROM_END, WATCHDOG_EXPIRED, Model, Register
from firmware_bridge.dynamixel.packet import ALERT

OK, FAILED, RANGE, TOO_SHORT, LIMIT, ACCESS = 0, 1, 4, 5, 6, 7  # error numbers of a status packet
_CENTRE = COUNTS_PER_TURN // 2
_TURNS = 1_044_479

# register -> lowest and highest value it takes (e-manual, control table of XM540-W270 and XL330-M288)
_WRITABLE: dict[Register, tuple[int, int]] = {
    models.ID: (0, 252),
    Register(8, 1): (0, 7),  # baud rate
    models.RETURN_DELAY: (0, 254),
    models.DRIVE_MODE: (0, 13),
    models.OPERATING_MODE: (0, 16),
    models.SECONDARY_ID: (0, 255),
    Register(13, 1): (2, 2),  # protocol type
    models.HOMING_OFFSET: (-_TURNS, _TURNS),
    Register(24, 4): (0, 1023),
    Register(31, 1): (0, 100),
    Register(32, 2): (31, 300),
    Register(34, 2): (31, 300),
    Register(36, 2): (0, 885),
    models.CURRENT_LIMIT: (0, 2047),
    Register(44, 4): (0, 2047),
    models.MAX_POSITION: (0, 4095),
    models.MIN_POSITION: (0, 4095),
    models.STARTUP: (0, 3),
    Register(63, 1): (0, 63),  # shutdown
    models.TORQUE: (0, 1),
    Register(65, 1): (0, 1),
    models.STATUS_RETURN: (0, 2),
    **{Register(address, 2): (0, 16383) for address in (76, 78, 80, 82, 84, 88, 90)},
    models.BUS_WATCHDOG: (0, models.WATCHDOG_MOST),
    Register(100, 2, signed=True): (-885, 885),
    models.GOAL_CURRENT: (-2047, 2047),
    Register(104, 4, signed=True): (-2047, 2047),
    models.PROFILE_ACCELERATION: (0, 32767),
    models.PROFILE_VELOCITY: (0, 32767),
    models.GOAL_POSITION: (-models.MOST_COUNTS, models.MOST_COUNTS),
}
_AT = {register.address: (register, ends) for register, ends in _WRITABLE.items()}
_GOALS = range(100, 120)
_MEASURED, _GOAL = struct.Struct("<hii"), struct.Struct("<i")  # 126..135 and 116..119
_FOR_EVER_US = 1 << 62


class VirtualServo:
    """`right_drive`: the reverse bit with which its counts run as the plant's angle does, for how it is mounted."""

    def __init__(self, servo: int, model: Model, firmware: int, joint: int, right_drive: int) -> None:
        self.model, self.firmware, self.joint, self._right_drive = model, firmware, joint, right_drive
        self._reads_fast = model.reads_fast(firmware)
        self._data_at = model.indirect_data(firmware)
        self._data_count = 20 if self._data_at == 208 else 28
        self._end = 662 if model.family != "330" else self._data_at + self._data_count
        self.table = bytearray(self._end)
        self.changes = 0  # of registers, but for those of what is measured
        self.goals = 0  # taken the short way
        for register, value in self._factory(servo):
            self._put(register, value)
        self.counts = _CENTRE  # the plant's angle, in counts
        self._turns = 0  # counts of whole turns that it does not know of: a power-up begins within one
        self.heard_us = 0
        self._learn()
        self.boot()

    def _factory(self, servo: int) -> Iterable[tuple[Register, int]]:
        yield models.MODEL_NUMBER, self.model.number
        yield models.FIRMWARE, self.firmware
        yield models.ID, servo
        yield Register(8, 1), 3  # 1 Mbaud
        yield models.RETURN_DELAY, 250
        yield models.OPERATING_MODE, models.POSITION
        yield models.SECONDARY_ID, models.NO_SECONDARY
        yield Register(13, 1), 2
        yield models.CURRENT_LIMIT, min(2047, max(1193, self.model.max_current))
        yield models.MAX_POSITION, COUNTS_PER_TURN - 1
        yield Register(63, 1), 53 if self.model.family == "330" else 52

    def get(self, register: Register) -> int:
        raw = self.table[register.address : register.address + register.size]
        return int.from_bytes(raw, "little", signed=register.signed)

    def set(self, register: Register, value: int) -> None:
        self._put(register, value)
        self._learn()

    def _put(self, register: Register, value: int) -> None:
        raw = value.to_bytes(register.size, "little", signed=register.signed)
        self.table[register.address : register.address + register.size] = raw

    def boot(self) -> None:
        """Power comes, or a reboot: every volatile register as the factory has it."""
        self._forget_turns()
        self.table[EEPROM_END:] = bytes(self._end - EEPROM_END)
        self._put(models.STATUS_RETURN, 2)
        self._put(models.PRESENT_VOLTAGE, 50 if self.model.family == "330" else 120)
        self._put(models.PRESENT_TEMPERATURE, 30)
        for i in range(self._data_count):
            self._put(Register(168 + 2 * i, 2), self._data_at + i)
        self._map()
        self._learn()
        self._put(models.GOAL_POSITION, self.present())
        if self.model.has_startup(self.firmware) and self.get(models.STARTUP) & models.STARTUP_TORQUE:
            self.set(models.TORQUE, 1)

    def _learn(self) -> None:
        """What is needed all the time, from the registers: after each change but of goals and of what is measured."""
        table, mode = self.table, self.get(models.OPERATING_MODE)
        self.changes += 1
        self.id, self.secondary = table[models.ID.address], table[models.SECONDARY_ID.address]
        self.torque_on = table[models.TORQUE.address] == 1
        self.alert = ALERT if table[models.HARDWARE_ERROR.address] else 0
        self.level = table[models.STATUS_RETURN.address]
        self.delay_us = 2 * table[models.RETURN_DELAY.address]
        drive, units = table[models.DRIVE_MODE.address], table[models.BUS_WATCHDOG.address]
        self._sense = 1 if drive & models.REVERSE == self._right_drive else -1
        offset = self.get(models.HOMING_OFFSET)
        self._offset = 0 if mode == models.POSITION and abs(offset) > models.HOMING_OF_POSITION_MODE else offset
        watches = self.torque_on and units not in (0, WATCHDOG_EXPIRED)
        self._patience_us = units * 20_000 if watches else _FOR_EVER_US
        stall_nm = 1.5 if math.isnan(self.model.stall_nm) else self.model.stall_nm
        firm = mode == models.CURRENT_BASED_POSITION
        self.limit_nm = abs(self.get(models.GOAL_CURRENT)) * self.model.nm_per_unit if firm else stall_nm
        self._effort_unit = self.model.nm_per_unit if self.model.current_ma else 1.5e-3  # a load: 0.1 % of what it can
        self._easy_goals = self._goals_without_a_question(mode, drive, units)

    def _goals_without_a_question(self, mode: int, drive: int, units: int) -> tuple[int, int]:
        """Lowest and highest Goal Position(116) that is taken and changes nothing else; none: (1, 0)."""
        if units == WATCHDOG_EXPIRED or drive & models.TORQUE_BY_GOAL:
            return 1, 0
        if mode == models.POSITION:
            return self.get(models.MIN_POSITION), min(models.MOST_COUNTS, self.get(models.MAX_POSITION))
        return -models.MOST_COUNTS, models.MOST_COUNTS

    # --- where it is ----------------------------------------------------------------------------------------------

    @property
    def _encoder(self) -> int:
        """The plant's angle in this servo's sense, over any number of turns."""
        return _CENTRE + self._sense * (self.counts - _CENTRE)

    def _forget_turns(self) -> None:
        """At power-up, on the way into mode 3 and with torque in it (e-manual, Present Position(132))."""
        self._turns = self._encoder // COUNTS_PER_TURN * COUNTS_PER_TURN

    def present(self) -> int:
        """Present Position(132) of the plant's angle."""
        return self._encoder - self._turns + self._offset

    def goal_counts(self) -> int:
        """The goal as the plant's angle, in counts."""
        return _CENTRE + self._sense * (self.get(models.GOAL_POSITION) - self._offset + self._turns - _CENTRE)

    def show(self, counts: int, velocity_rad_s: float, effort_nm: float) -> None:
        """What the sensors say now."""
        self.counts = counts
        velocity = round(self._sense * velocity_rad_s / models.VELOCITY_RAD_S)
        current = max(-2047, min(2047, round(self._sense * effort_nm / self._effort_unit)))
        _MEASURED.pack_into(self.table, models.PRESENT_CURRENT.address, current, velocity, self.present())

    # --- registers ------------------------------------------------------------------------------------------------

    def answers(self, fast: bool) -> bool:
        """Whether it says anything to a read, by its Status Return Level(68) and its firmware."""
        return self.level >= 1 and (self._reads_fast or not fast)

    def read(self, address: int, length: int) -> bytes | None:
        """None where the table has no such bytes."""
        if length < 1 or address + length > self._end:
            return None
        table = self.table
        if address + length <= self._data_at or address >= self._data_at + self._data_count:
            return bytes(table[address : address + length])
        return bytes([table[at] for at in self._shown_at[address : address + length]])

    def take_goal(self, goal: int) -> bool:
        """Goal Position(116), the usual one; False: nothing is done, `write` says what is with it."""
        low, high = self._easy_goals
        if not low <= goal <= high:
            return False
        _GOAL.pack_into(self.table, models.GOAL_POSITION.address, goal)
        self.goals += 1
        return True

    def write(self, address: int, data: bytes) -> int:
        """One or more whole registers; the error number."""
        if address < EEPROM_END and self.torque_on:
            return ACCESS
        while data:
            size, error = self._write_one(address, data)
            self._learn()
            if error:
                return error
            address, data = address + size, data[size:]
        return OK

    def _map(self) -> None:
        """Indirect data shows the register that its indirect address names."""
        self._shown_at = list(range(self._end))
        for i in range(self._data_count):
            target = self.get(Register(168 + 2 * i, 2))
            self._shown_at[self._data_at + i] = target if 64 <= target < self._end else self._data_at + i

    def _write_one(self, address: int, data: bytes) -> tuple[int, int]:
        if 168 <= address < 168 + 2 * self._data_count:
            return self._write_indirect(address, data)
        if self._data_at <= address < self._data_at + self._data_count and self._shown_at[address] == address:
            self.table[address] = data[0]
            return 1, OK
        if address not in _AT:
            return 0, ACCESS
        register, (low, high) = _AT[address]
        if len(data) < register.size:
            return 0, TOO_SHORT
        value = int.from_bytes(data[: register.size], "little", signed=register.signed)
        error = self._refusal(register, value) if low <= value <= high else RANGE
        if not error:
            self._take(register, value)
        return register.size, error

    def _write_indirect(self, address: int, data: bytes) -> tuple[int, int]:
        if address % 2 or len(data) < 2:
            return 0, TOO_SHORT if len(data) < 2 else ACCESS
        target = data[0] + (data[1] << 8)
        if not 64 <= target < self._end:
            return 0, RANGE
        self.table[address : address + 2] = data[:2]
        self._map()
        return 2, OK

    def _refusal(self, register: Register, value: int) -> int:
        if self.table[models.BUS_WATCHDOG.address] == WATCHDOG_EXPIRED:
            locked = register.address in _GOALS or (register is models.BUS_WATCHDOG and value)
            return RANGE if locked else OK
        if register is models.GOAL_POSITION:
            free = self.table[models.OPERATING_MODE.address] != models.POSITION
            return OK if free or self.get(models.MIN_POSITION) <= value <= self.get(models.MAX_POSITION) else LIMIT
        if register is models.OPERATING_MODE and value not in (0, 1, 16, *self.model.modes()):
            return RANGE
        if register is models.GOAL_CURRENT and abs(value) > self.get(models.CURRENT_LIMIT):
            return LIMIT
        return OK

    def _take(self, register: Register, value: int) -> None:
        if register is models.OPERATING_MODE and value == models.POSITION:
            self._forget_turns()
        if register is models.TORQUE:
            if value and self.get(models.HARDWARE_ERROR):
                return  # after a shutdown torque stays off until a reboot
            if value and not self.torque_on and self.get(models.OPERATING_MODE) == models.POSITION:
                self._forget_turns()
            if value and not self.torque_on:
                self.set(models.GOAL_POSITION, self.present())
        if register is models.GOAL_POSITION and self.table[models.DRIVE_MODE.address] & models.TORQUE_BY_GOAL:
            self.set(models.TORQUE, 1)
        self.set(register, value)

    def fail(self, bit: int) -> None:
        """A hardware error; it shuts down where Shutdown(63) says so."""
        self.set(models.HARDWARE_ERROR, self.get(models.HARDWARE_ERROR) | bit)
        if self.get(Register(63, 1)) & bit:
            self.set(models.TORQUE, 0)

    def watch(self, now_us: int) -> bool:
        """The bus watchdog; True when it runs out now. The servo stops where it is, and holds."""
        if now_us - self.heard_us <= self._patience_us:
            return False
        self._put(models.BUS_WATCHDOG, WATCHDOG_EXPIRED)
        self.set(models.GOAL_POSITION, self.present())
        return True
