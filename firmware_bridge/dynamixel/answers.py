"""What the servos answer, to readings of joints. Pure.

The usual answer is that of every servo, in order, whole, without an error: `UsualAnswer` takes it apart in one go and
refuses everything else, which then goes packet by packet through packet.Decoder. Both check every byte.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from firmware_bridge.arm import Fault
from firmware_bridge.bus_arm import Reading, reading_of
from firmware_bridge.dynamixel.models import RAD_PER_COUNT, VELOCITY_RAD_S
from firmware_bridge.dynamixel.packet import BROADCAST, HEADER, STATUS, STUFFED, crc16
from firmware_bridge.dynamixel.setup import Servo


class Read(NamedTuple):
    """One choice of the option `read`. `lengths`: of the questions, the second and later after unanswered ones."""

    address: int  # 0: the indirect data
    lengths: tuple[int, ...]
    layout: str  # of a servo's data, as struct has it
    fields: tuple[str, ...]


READS: dict[str, Read] = {
    "full": Read(
        0, (13, 14, 15, 16), "BBhiiB", ("guard", "hardware", "current", "velocity", "position", "temperature")
    ),
    # longer tails of these two: velocity trajectory, position trajectory, voltage and temperature
    "motion": Read(126, (10, 14, 18, 21), "hii", ("current", "velocity", "position")),
    "position": Read(132, (4, 8, 12, 14), "i", ("position",)),
}
_FAULTS = {0x01: Fault.VOLTAGE, 0x04: Fault.OVERHEAT, 0x08: Fault.ENCODER, 0x10: Fault.OTHER, 0x20: Fault.OVERLOAD}


def faults_of(hardware_error: int) -> Fault:
    """Hardware Error Status(70) as bits of Fault."""
    faults = Fault.NONE
    for bit, fault in _FAULTS.items():
        if hardware_error & bit:
            faults |= fault
    return faults if faults or not hardware_error else Fault.OTHER


def servo_reading(servo: Servo, values: dict[str, int], faults: int, code: int) -> Reading:
    """`values`: by the names of Read.fields."""
    return Reading(
        servo.index,
        values["position"] * RAD_PER_COUNT,
        values.get("velocity", math.nan) * VELOCITY_RAD_S,
        values.get("current", math.nan) * servo.model.nm_per_unit,
        values.get("temperature", math.nan),
        faults,
        code,
    )


def together(parts: Sequence[Reading]) -> Reading:
    """One reading of a joint with several servos: the leader's place, the sum of efforts, every fault."""
    leader = parts[0]
    faults = code = 0
    for part in parts:
        faults |= part.faults
        code |= part.code
    effort = sum(part.effort_nm for part in parts)
    hottest = max(part.temperature_c for part in parts)
    return leader._replace(effort_nm=effort, temperature_c=hottest, faults=faults, code=code)


class UsualAnswer:
    """Of `servos`, one to a joint, to the first question of `read`; to a fast read it is one packet.

    `size` bytes; `length` data bytes of each servo.
    """

    def __init__(self, servos: Sequence[Servo], read: Read, fast: bool) -> None:
        self.length, self._each, self._fast = read.lengths[0], 11 + read.lengths[0], fast
        n, data = len(servos), self.length
        before, first = ("BB", ["error", "id"]) if fast else ("4sBHBB", ["header", "id", "length", "kind", "error"])
        names = [*first, *read.fields, "crc"]
        at = {name: slice(place, None, len(names)) for place, name in enumerate(names)}
        ids = tuple(servo.id for servo in servos)
        fixed = {"header": HEADER, "length": 4 + data, "kind": STATUS, "error": 0, "hardware": 0}
        self._fixed = [(at["id"], ids), *((at[key], (value,) * n) for key, value in fixed.items() if key in at)]
        self._struct = struct.Struct("<" + "8x" * fast + (before + read.layout + "H") * n)
        self.size = self._struct.size
        announced = (BROADCAST, self.size - 7) if fast else (ids[0], 4 + data)
        self._head = HEADER + struct.pack("<BHB", *announced, STATUS)
        self._crcs_at, self._position_at = at["crc"], at["position"]
        self._current_at, self._velocity_at = at.get("current"), at.get("velocity")
        self._guard_at, self._temperature_at = at.get("guard"), at.get("temperature")
        self._joints = [servo.index for servo in servos]
        self._nm = [servo.model.nm_per_unit for servo in servos]
        self._nans = (math.nan,) * n

    def begins(self, data: bytes) -> bool:
        """Whether `data` is the first part of one packet: the rest is to be waited for."""
        return self._fast and 8 <= len(data) < self.size and data.startswith(self._head)

    def readings(self, data: bytes, guard: int) -> list[Reading] | None:
        """Of `size` bytes, in the order of the servos; None: something about them is not usual.

        `guard`: what the register that proves a servo's state reads when all is well; only where it is read.
        """
        values = self._struct.unpack(data)
        for at, expected in self._fixed:
            if values[at] != expected:
                return None
        if not (self._is_one_packet(data, values) if self._fast else self._are_packets(data, values)):
            return None
        temperatures = self._nans
        if self._guard_at is not None and self._temperature_at is not None:
            temperatures, guards = values[self._temperature_at], values[self._guard_at]
            if guards.count(guard) != len(guards) or not all(temperatures):
                return None
        return self._made(values, temperatures)

    def _is_one_packet(self, data: bytes, values: Sequence[Any]) -> bool:
        return data.startswith(self._head) and crc16(data[:-2]) == values[-1]

    def _are_packets(self, data: bytes, values: tuple[Any, ...]) -> bool:
        each = self._each
        crcs = tuple([crc16(data[at : at + each - 2]) for at in range(0, self.size, each)])
        return crcs == values[self._crcs_at] and STUFFED not in data

    def _made(self, values: tuple[Any, ...], temperatures: Sequence[float]) -> list[Reading]:
        velocities = self._nans if self._velocity_at is None else values[self._velocity_at]
        currents = self._nans if self._current_at is None else values[self._current_at]
        positions = values[self._position_at]
        columns = zip(self._joints, positions, velocities, currents, self._nm, temperatures, strict=True)
        return [
            reading_of((joint, position * RAD_PER_COUNT, velocity * VELOCITY_RAD_S, current * nm, temperature, 0, 0))
            for joint, position, velocity, current, nm, temperature in columns
        ]
