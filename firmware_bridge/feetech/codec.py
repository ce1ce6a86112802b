"""Feetech's protocol as bytes. Pure.

    FF FF id length instruction parameters... checksum      to a servo, id FE: to all
    FF FF id length status data... checksum                 from one

length counts what follows it; checksum is the inverted low byte of the sum from id on. Words go low byte first in the
STS series, high byte first in the SCS series. Negative numbers are a magnitude and a sign bit.
Source: Feetech, "Communication protocol manual" (Magnetic Encoding, SCS), sections 1 and 2.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from firmware_bridge.arm import Fault, Joint
from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.feetech.models import MODELS, Model, Register
from firmware_bridge.transport.base import Frame
from firmware_bridge.wire import uart_ns

HEADER = b"\xff\xff"
BROADCAST = 0xFE
LONGEST = 250  # bytes of a whole packet
_OVERHEAD = 6  # bytes of a packet besides parameters or data


class Instruction(IntEnum):
    PING = 1
    READ = 2
    WRITE = 3
    REG_WRITE = 4
    ACTION = 5
    RESET = 6
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


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


class Packet(NamedTuple):
    """One sound packet. `code`: the instruction, or the status byte of an answer."""

    id: int
    code: int
    data: bytes


# --- numbers ------------------------------------------------------------------------------------------------------


def faults_of(status: int) -> int:
    """Bits of `Fault` for a status byte."""
    return sum({fault for bit, fault in _FAULTS.items() if status & bit})


FAULTS = tuple(faults_of(status) for status in range(256))


def sentence(status: int) -> str:
    """The status byte in words."""
    return "; ".join(text for bit, text in SENTENCES.items() if status & bit) or "no fault"


def to_signed(raw: int, bit: int) -> int:
    """Magnitude below `bit`, sign in it; what is above is ignored."""
    value = raw & ((1 << bit) - 1)
    return -value if raw >> bit & 1 else value


def from_signed(value: int, bit: int) -> int:
    """Raises BadSetpoint when the magnitude has no room."""
    if abs(value) >= 1 << bit:
        todo = "keep the value inside what its register can carry"
        raise BadSetpoint(explain("a value too large for its register", f"|value| < {1 << bit}", value, todo))
    return value if value >= 0 else -value | 1 << bit


def word(value: int, big_endian: bool) -> bytes:
    """Two bytes. Raises BadSetpoint outside 0..65535."""
    if not 0 <= value <= 0xFFFF:
        raise BadSetpoint(explain("a value too large for a word", "0..65535", value, "keep it inside its register"))
    return value.to_bytes(2, "big" if big_endian else "little")


def words(data: bytes, big_endian: bool) -> list[int]:
    """Every two bytes of `data` as an unsigned word."""
    order = ">" if big_endian else "<"
    return list(struct.unpack(f"{order}{len(data) // 2}H", data[: len(data) // 2 * 2]))


# --- packets ------------------------------------------------------------------------------------------------------


def packet(servo: int, code: int, data: bytes = b"") -> bytes:
    """One whole packet. Raises BadSetpoint for ids above FE and for more bytes than a servo takes."""
    if not 0 <= servo <= BROADCAST or len(data) + _OVERHEAD > LONGEST:
        expected = f"id 0..{BROADCAST}, at most {LONGEST - _OVERHEAD} bytes"
        todo = "put fewer servos on one bus"
        raise BadSetpoint(explain("no such packet", expected, f"id {servo}, {len(data)} bytes", todo))
    body = bytes((servo, len(data) + 2, code)) + data
    return HEADER + body + bytes((~sum(body) & 0xFF,))


def ping(servo: int) -> bytes:
    return packet(servo, Instruction.PING)


def read(servo: int, address: int, count: int) -> bytes:
    return packet(servo, Instruction.READ, bytes((address, count)))


def write(servo: int, address: int, data: bytes) -> bytes:
    return packet(servo, Instruction.WRITE, bytes((address,)) + data)


def reg_write(servo: int, address: int, data: bytes) -> bytes:
    """Kept by the servo until `action`."""
    return packet(servo, Instruction.REG_WRITE, bytes((address,)) + data)


def action() -> bytes:
    """All servos carry out what `reg_write` left with them."""
    return packet(BROADCAST, Instruction.ACTION)


def sync_read(address: int, count: int, ids: Sequence[int]) -> bytes:
    """Every servo of `ids` answers in that order."""
    return packet(BROADCAST, Instruction.SYNC_READ, bytes((address, count, *ids)))


def sync_write(address: int, values: Mapping[int, bytes]) -> bytes:
    """id -> bytes, all of one length. Nobody answers. Raises BadSetpoint for different lengths."""
    sizes = {len(value) for value in values.values()}
    if len(sizes) != 1:
        todo = "write the same registers of every servo"
        raise BadSetpoint(explain("a sync write of different lengths", "one length", sorted(sizes), todo))
    rows = b"".join(bytes((servo,)) + value for servo, value in values.items())
    return packet(BROADCAST, Instruction.SYNC_WRITE, bytes((address, *sizes)) + rows)


class Decoder:
    """A stream into sound packets. `skipped` counts the bytes that belong to none.

    `longest`: bytes of the longest packet that is expected: a spoiled length byte then swallows no more than that.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self.longest = longest
        self.skipped = 0
        self._rest = b""

    def clear(self) -> None:
        """Forget the beginning of a packet."""
        self.skipped += len(self._rest)
        self._rest = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Packets that are whole by now."""
        stream = self._rest + data if self._rest else data
        found: list[Packet] = []
        at = 0
        while True:
            begin = _find(stream, at)
            self.skipped += begin - at
            at = begin
            size = _size(stream, at, self.longest)
            if size < 0:
                self.skipped += 1
                at += 1
            elif size == 0 or at + size > len(stream):
                self._rest = stream[at:]
                return found
            else:
                found.append(Packet(stream[at + 2], stream[at + 4], stream[at + 5 : at + size - 1]))
                at += size


def _find(stream: bytes, at: int) -> int:
    """Where the next header is, or may begin; len(stream) when nowhere."""
    begin = stream.find(HEADER, at)
    if begin >= 0:
        return begin
    return len(stream) - (at < len(stream) and stream[-1] == 0xFF)


def _size(stream: bytes, at: int, longest: int) -> int:
    """Bytes of the packet at `at`; 0: not all of it is there yet; -1: it is none."""
    if len(stream) - at < 4:
        return 0
    size = stream[at + 3] + 4
    if stream[at + 2] == 0xFF or not _OVERHEAD <= size <= longest:
        return -1
    if at + size > len(stream):
        return 0
    return size if ~sum(stream[at + 2 : at + size - 1]) & 0xFF == stream[at + size - 1] else -1


def split(data: bytes) -> list[bytes]:
    """`data` in pieces, in order: sound packets, and what lies between them."""
    pieces: list[bytes] = []
    at = junk = 0
    while at < len(data):
        size = _size(data, at, LONGEST) if data.startswith(HEADER, at) else -1
        if size > 0:
            pieces += [data[junk:at], data[at : at + size]]
            at = junk = at + size
        else:
            at += 1
    return [piece for piece in [*pieces, data[junk:]] if piece]


# --- a cycle ------------------------------------------------------------------------------------------------------


class Goals:
    """The sync write of a goal position to every joint; judges each value against its range again."""

    def __init__(self, joints: Sequence[Joint]) -> None:
        models = [model_of(joint) for joint in joints]
        count = len(joints)
        self._scales = [model.counts_per_rad for model in models]
        self._ranges = [count_range(joint, model) for joint, model in zip(joints, models, strict=True)]
        self._names = [joint.name for joint in joints]
        self._ids = [joint.id for joint in joints]
        body = bytes((BROADCAST, 4 + 3 * count, Instruction.SYNC_WRITE, Register.GOAL_POSITION, 2))
        self._head, self._head_sum = HEADER + body, sum(body)
        self._rows = struct.Struct((">" if models[0].series.big_endian else "<") + "BH" * count)

    def counts(self, device_rad: Sequence[float]) -> list[int]:
        """Raises BadSetpoint for what is not finite, or outside the joint's range."""
        if len(device_rad) != len(self._scales):
            todo = "pass one angle per joint"
            raise BadSetpoint(explain("goals for other joints", len(self._scales), len(device_rad), todo))
        counts = []
        for i, value in enumerate(device_rad):
            low, high = self._ranges[i]
            count = round(value * self._scales[i]) if math.isfinite(value) else -1 << 31
            if not low <= count <= high:
                raise BadSetpoint(
                    explain(
                        f"the goal of {self._names[i]} is refused before the wire",
                        f"{low}..{high} counts",
                        f"{value!r} rad",
                        "limit set-points before they are sent",
                    )
                )
            counts.append(count)
        return counts

    def pack(self, device_rad: Sequence[float]) -> bytes:
        """The whole packet."""
        flat: list[int] = []
        for servo, count in zip(self._ids, self.counts(device_rad), strict=True):
            flat += (servo, count)
        rows = self._rows.pack(*flat)
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


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None, read: str = "motion") -> int:
    """Wire time of one cycle, without return delays: sync write of goals, then the read that the series has."""
    del data_baud  # of CAN-FD
    count, answer = len(joints), _OVERHEAD + block_of(joints, read)[1]
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
    if not unit.startswith(HEADER) or _size(unit, 0, LONGEST) != len(unit):
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
