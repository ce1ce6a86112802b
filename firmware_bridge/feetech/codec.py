"""What a cycle says and hears in Feetech's protocol, and every packet in words; the packets: packet.py. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from operator import le, mul
from typing import NamedTuple

from firmware_bridge.arm import Fault, Joint
from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.feetech.models import MODELS, Model, Register
from firmware_bridge.feetech.packet import (
    BROADCAST,
    HEADER,
    LONGEST,
    OVERHEAD,
    Decoder,
    Instruction,
    Packet,
    action,
    from_signed,
    packet,
    ping,
    read,
    reg_write,
    size_at,
    split,
    sync_read,
    sync_write,
    to_signed,
    word,
    words,
    write,
)
from firmware_bridge.transport.base import Frame
from firmware_bridge.wire import uart_ns

__all__ = [  # what is asked for under this name, the packets' part included
    "BLOCKS",
    "BROADCAST",
    "FAULTS",
    "LONGEST",
    "SENTENCES",
    "Decoder",
    "Goals",
    "Instruction",
    "Packet",
    "Present",
    "action",
    "block_of",
    "count_range",
    "cycle_ns",
    "describe",
    "faults_of",
    "from_signed",
    "model_of",
    "motions",
    "packet",
    "ping",
    "read",
    "reader",
    "reg_write",
    "sentence",
    "split",
    "sync_read",
    "sync_write",
    "to_signed",
    "word",
    "words",
    "write",
]

SENTENCES: Mapping[int, str] = {  # bit of the status byte
    1: "supply voltage outside the servo's limits",
    2: "position sensor fails",
    4: "hotter than the servo's limit",
    8: "motor current beyond the servo's limit",
    16: "position outside the servo's angle limits",
    32: "overload: too much torque for too long",
    64: "bit 6, not documented",
    128: "bit 7, not documented",
}
_FAULTS = {
    1: Fault.VOLTAGE,
    2: Fault.ENCODER,
    4: Fault.OVERHEAT,
    8: Fault.OVERLOAD,
    16: Fault.LIMIT,
    32: Fault.OVERLOAD,
    64: Fault.OTHER,
    128: Fault.OTHER,
}


def faults_of(status: int) -> int:
    """Bits of `Fault` for a status byte."""
    return sum({fault for bit, fault in _FAULTS.items() if status & bit})


FAULTS = tuple(faults_of(status) for status in range(256))


def sentence(status: int) -> str:
    """The status byte in words."""
    return "; ".join(text for bit, text in SENTENCES.items() if status & bit) or "no fault"


class Goals:
    """The sync write of a goal position to every joint; judges each value against its range again."""

    def __init__(self, joints: Sequence[Joint]) -> None:
        models = [model_of(joint) for joint in joints]
        count = len(joints)
        self._scales = [model.counts_per_rad for model in models]
        ranges = [count_range(joint, model) for joint, model in zip(joints, models, strict=True)]
        self._lowest, self._highest = [low for low, _ in ranges], [high for _, high in ranges]
        self._names = [joint.name for joint in joints]
        self._row = [number for joint in joints for number in (joint.id, 0)]
        body = bytes((BROADCAST, 4 + 3 * count, Instruction.SYNC_WRITE, Register.GOAL_POSITION, 2))
        self._head, self._head_sum = HEADER + body, sum(body)
        self._rows = struct.Struct((">" if models[0].series.big_endian else "<") + "BH" * count)

    def counts(self, device_rad: Sequence[float]) -> list[int]:
        """Raises BadSetpoint for what is not finite, or outside the joint's range."""
        if len(device_rad) != len(self._scales):
            todo = "pass one angle per joint"
            raise BadSetpoint(explain("goals for other joints", len(self._scales), len(device_rad), todo))
        try:
            counts = list(map(round, map(mul, device_rad, self._scales)))
        except (ValueError, OverflowError):  # of NaN, of an infinity
            raise self._refused(device_rad) from None
        if not (all(map(le, self._lowest, counts)) and all(map(le, counts, self._highest))):
            raise self._refused(device_rad)
        return counts

    def _refused(self, device_rad: Sequence[float]) -> BadSetpoint:
        rows = zip(self._names, self._lowest, self._highest, self._scales, device_rad, strict=True)
        name, low, high, value = next(
            (name, low, high, value)
            for name, low, high, scale, value in rows
            if not (math.isfinite(value) and low <= round(value * scale) <= high)
        )
        what = f"the goal of {name} is refused before the wire"
        todo = "limit set-points before they are sent"
        return BadSetpoint(explain(what, f"{low}..{high} counts", f"{value!r} rad", todo))

    def pack(self, device_rad: Sequence[float]) -> bytes:
        """The whole packet."""
        row = self._row.copy()
        row[1::2] = self.counts(device_rad)
        rows = self._rows.pack(*row)
        return self._head + rows + bytes((~(self._head_sum + sum(rows)) & 0xFF,))


def model_of(joint: Joint) -> Model:
    """Raises BadSetpoint for a model that is not in the table."""
    if joint.model not in MODELS:
        known = ", ".join(MODELS)
        raise BadSetpoint(explain(f"the model of {joint.name}", known, joint.model, "name one of them in the profile"))
    return MODELS[joint.model]


def count_range(joint: Joint, model: Model) -> tuple[int, int]:
    """Counts of the joint's range, ends included. Raises BadSetpoint where it leaves the servo's turn."""
    low, high = (end * model.counts_per_rad for end in joint.device_range_rad)
    counts = math.ceil(low - 0.501), math.floor(high + 0.501)  # as a float32 set-point at the end rounds
    if not 0 <= round(low) <= round(high) <= model.top:
        expected, got = f"0..{model.top} counts", f"{low:.1f}..{high:.1f}"
        todo = "correct minimum, maximum or zero_rad of the profile, or calibrate"
        raise BadSetpoint(explain(f"the range of {joint.name} leaves the servo's turn", expected, got, todo))
    return max(0, counts[0]), min(model.top, counts[1])


BLOCKS: Mapping[str, tuple[int, int]] = {  # option `read` -> first register and bytes of each answer
    "motion": (Register.PRESENT_POSITION, 4),  # position, speed
    "effort": (Register.PRESENT_POSITION, 6),  # and load
    "all": (Register.PRESENT_POSITION, 8),  # and voltage, temperature
    "slow": (Register.TORQUE_ENABLE, 24),  # torque switch, goal and limits in front of all that
}


def block_of(joints: Sequence[Joint], read: str) -> tuple[int, int]:
    """First register and bytes of each answer for the option `read`.

    SCS servos are asked one by one. The question is 4 in its length byte: an answer of 4 bytes would have 6, one bit
    away, and an echo with that bit wrong has a right checksum when a header follows. So they are asked for 6 bytes.
    """
    return BLOCKS["effort" if read == "motion" and not model_of(joints[0]).series.sync_read else read]


_PRESENT = {4: "HH", 6: "HHH", 8: "HHHBB"}


class Present(NamedTuple):
    """What a servo measures, in its own numbers; None: not in the block that was read."""

    position: int
    speed: int
    load: int | None = None
    voltage: int | None = None
    temperature: int | None = None


def reader(count: int, big_endian: bool) -> Callable[[bytes], Present]:
    """From the `count` bytes at PRESENT_POSITION to their numbers."""
    unpack = struct.Struct((">" if big_endian else "<") + _PRESENT[count]).unpack

    def present(data: bytes) -> Present:
        position, speed, *more = unpack(data)
        load = [to_signed(more[0], 10), *more[1:]] if more else []
        return Present(to_signed(position, 15), to_signed(speed, 15), *load)

    return present


_MOTION = struct.Struct("<HBBBHHB")  # an answer of an STS servo to the block "motion"


def motions(data: bytes) -> list[tuple[int, ...]]:
    """(header, id, length, status, position, speed, checksum) of each answer; none where there is anything else.

    What came in is checked to the last bit, and taken apart in a third of the time of Decoder and reader.
    """
    if len(data) % _MOTION.size:
        return []
    rows = list(_MOTION.iter_unpack(data))
    at = 2
    for row in rows:
        if row[0] != 0xFFFF or row[1] == 0xFF or row[2] != 6 or sum(data[at : at + 8]) & 0xFF != 0xFF:
            return []  # the checksum is the inverted low byte of the sum
        at += _MOTION.size
    return rows


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None, read: str = "motion") -> int:
    """Wire time of one cycle, without return delays: sync write of goals, then the read that the series has."""
    del data_baud  # of CAN-FD
    count, answer = len(joints), OVERHEAD + block_of(joints, read)[1]
    goals = 8 + 3 * count
    sync = model_of(joints[0]).series.sync_read
    asked = 8 + count if sync else 8 * count  # SCS: one read per joint, in turn
    return uart_ns(goals + asked + count * answer, baud)


# --- for people ---------------------------------------------------------------------------------------------------

_NAMES = {int(register): register.name.lower() for register in Register}


def describe(unit: bytes | Frame) -> str:
    """One packet in words. A packet to one servo and its answer look alike: both readings are given."""
    if isinstance(unit, Frame):
        return "a CAN frame: not this protocol"
    if not unit.startswith(HEADER) or size_at(unit, 0, LONGEST) != len(unit):
        return f"junk, {len(unit)} bytes: {unit[:16].hex(' ')}{' ...' if len(unit) > 16 else ''}"
    servo, code, data = unit[2], unit[4], unit[5:-1]
    told = _instruction(servo, code, data)
    if servo == BROADCAST:
        return told or f"to all: unknown instruction {code:#04x}"
    answer = f"servo {servo} answers: {sentence(code)}" + (f", data {data.hex(' ')}" if data else "")
    return f"{told} (or: {answer})" if told else answer


def _instruction(servo: int, code: int, data: bytes) -> str:
    """The packet read as an instruction; "" where it cannot be one."""
    to = "all" if servo == BROADCAST else f"servo {servo}"
    if code in (Instruction.PING, Instruction.ACTION, Instruction.RESET) and not data:
        return f"to {to}: {Instruction(code).name.lower()}"
    if code == Instruction.READ and len(data) == 2:
        return f"to {to}: read {data[1]} bytes from {_register(data[0])}"
    if code in (Instruction.WRITE, Instruction.REG_WRITE) and len(data) >= 2:
        kind = Instruction(code).name.lower().replace("_", " ")
        return f"to {to}: {kind} {data[1:].hex(' ')} to {_register(data[0])}"
    if code == Instruction.SYNC_READ and len(data) >= 3:
        ids = ", ".join(map(str, data[2:]))
        return f"to {to}: sync read of {data[1]} bytes from {_register(data[0])}, servos {ids}"
    if code == Instruction.SYNC_WRITE and len(data) >= 4 and (len(data) - 2) % (data[1] + 1) == 0:
        rows = [data[at : at + data[1] + 1] for at in range(2, len(data), data[1] + 1)]
        told = "; ".join(f"{row[0]}: {row[1:].hex(' ')}" for row in rows)
        return f"to {to}: sync write to {_register(data[0])}, {told}"
    return ""


def _register(address: int) -> str:
    return f"{address} ({_NAMES[address]})" if address in _NAMES else str(address)
