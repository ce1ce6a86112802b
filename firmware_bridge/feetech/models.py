"""Feetech servos: byte order and registers of a series, resolution and torque of a model. Pure data.

Sources: the maker's memory tables "STS series" and "SCSCL series" (addresses, units, start values), its data sheets
(stall torque, range), the numbers at registers 3 and 4 as the servos report them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

_KGF_CM = 0.0980665  # N m


class Register(IntEnum):
    """First address. What both series have in the same place; words are two bytes, in the order of the series."""

    FIRMWARE = 0  # major, minor
    BYTE_ORDER = 2  # 0: low byte first
    MODEL = 3  # word
    ID = 5
    BAUD = 6
    RETURN_DELAY = 7  # 2 us
    ANSWER_LEVEL = 8  # 0: answers PING and READ only
    MIN_POSITION = 9  # word, counts
    MAX_POSITION = 11  # word, counts; both 0: several turns
    MAX_TEMPERATURE = 13  # degrees C
    MAX_VOLTAGE = 14  # 0.1 V
    MIN_VOLTAGE = 15  # 0.1 V
    MAX_TORQUE = 16  # word, 0.1 % of stall; start value of TORQUE_LIMIT
    PHASE = 18  # bits: see PHASE_*
    UNLOAD = 19  # status bits that switch torque off, or down at overload
    P_GAIN = 21
    D_GAIN = 22
    I_GAIN = 23
    PROTECTION_CURRENT = 28  # word, 6.5 mA; STS
    HOMING_OFFSET = 31  # word, sign bit 11: present = encoder - offset; STS
    MODE = 33  # 0: position; STS
    PROTECTIVE_TORQUE = 34  # %, after an overload; STS
    PROTECTION_TIME = 35  # 10 ms of overload before that; STS
    OVERLOAD_TORQUE = 36  # %, beyond it is overload; STS
    TORQUE_ENABLE = 40  # first of RAM. 0, 1; 128: this is the middle (STS)
    ACCELERATION = 41  # 100 counts/s^2; 0: the largest
    GOAL_POSITION = 42  # word
    GOAL_TIME = 44  # word
    GOAL_SPEED = 46  # word
    TORQUE_LIMIT = 48  # word, 0.1 %; STS
    PRESENT_POSITION = 56  # word, sign bit 15
    PRESENT_SPEED = 58  # word, sign bit 15
    PRESENT_LOAD = 60  # word, 0.1 % of the drive's full voltage, sign bit 10
    PRESENT_VOLTAGE = 62  # 0.1 V
    PRESENT_TEMPERATURE = 63  # degrees C
    STATUS = 65  # the byte that every answer carries too
    MOVING = 66


PHASE_FINE_SPEED = 4  # speeds count 1 count/s, else 50
PHASE_ZERO_IS_FASTEST = 8  # GOAL_SPEED 0 is the highest speed, else it is standstill
PHASE_FULL_ANGLE = 16  # positions count turns
EEPROM_END = 40  # registers below survive power-off if they are written unlocked
MULTI_TURN = (0, 0)  # limits of a servo that counts turns


@dataclass(frozen=True)
class Series:
    """What a family of servos has in common on the wire."""

    name: str
    big_endian: bool
    sync_read: bool
    lock: int  # register: 1 = writes below EEPROM_END act but are not saved
    homing: bool  # has HOMING_OFFSET, MODE, TORQUE_LIMIT and the overload registers


STS = Series("STS", big_endian=False, sync_read=True, lock=55, homing=True)
SCS = Series("SCS", big_endian=True, sync_read=False, lock=48, homing=False)


@dataclass(frozen=True)
class Model:
    """One servo. `counts_per_rad` of its position; positions go from 0 to `top`."""

    name: str
    number: int
    series: Series
    top: int
    counts_per_rad: float
    stall_nm: float  # at the voltage of its name: what 100 % load or torque limit is taken for


_TURN = 4096 / (2 * math.pi)
_SCS_TURN = 1024 / math.radians(300.0)  # SCS: 1024 counts over 300 degrees

MODELS = {
    model.name: model
    for model in (
        Model("sts3215", 777, STS, 4095, _TURN, 19.5 * _KGF_CM),  # 7.4 V, ST-3215-C001: SO-100, SO-101
        Model("sts3215-12v", 777, STS, 4095, _TURN, 30.0 * _KGF_CM),  # 12 V, ST-3215-C018
        Model("sts3250", 2825, STS, 4095, _TURN, 50.0 * _KGF_CM),  # 12 V
        Model("scs0009", 1284, SCS, 1023, _SCS_TURN, 2.3 * _KGF_CM),  # 6 V
    )
}
BY_NUMBER = {number: name for name, number in reversed([(m.name, m.number) for m in MODELS.values()])}
