"""Feetech's protocol as bytes. Pure.

    FF FF id length instruction parameters... checksum      to a servo, id FE: to all
    FF FF id length status data... checksum                 from one

length counts what follows it; checksum is the inverted low byte of the sum from id on. Words go low byte first in the
STS series, high byte first in the SCS series. Negative numbers are a magnitude and a sign bit.
Source: Feetech, "Communication protocol manual" (Magnetic Encoding, SCS), sections 1 and 2.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from firmware_bridge.errors import BadSetpoint, explain

HEADER = b"\xff\xff"
BROADCAST = 0xFE
LONGEST = 250  # bytes of a whole packet
OVERHEAD = 6  # bytes of a packet besides parameters or data


class Instruction(IntEnum):
    PING = 1
    READ = 2
    WRITE = 3
    REG_WRITE = 4
    ACTION = 5
    RESET = 6
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class Packet(NamedTuple):
    """One sound packet. `code`: the instruction, or the status byte of an answer."""

    id: int
    code: int
    data: bytes


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
    if not 0 <= servo <= BROADCAST or len(data) + OVERHEAD > LONGEST:
        expected = f"id 0..{BROADCAST}, at most {LONGEST - OVERHEAD} bytes"
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
        self.rest = b""  # the beginning of a packet

    def clear(self) -> None:
        """Forget the beginning of a packet."""
        self.skipped += len(self.rest)
        self.rest = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Packets that are whole by now."""
        stream = self.rest + data if self.rest else data
        found: list[Packet] = []
        at = 0
        while True:
            begin = _find(stream, at)
            self.skipped += begin - at
            at = begin
            size = size_at(stream, at, self.longest)
            if size < 0:
                self.skipped += 1
                at += 1
            elif size == 0 or at + size > len(stream):
                self.rest = stream[at:]
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


def size_at(stream: bytes, at: int, longest: int) -> int:
    """Bytes of the packet at `at`; 0: not all of it is there yet; -1: it is none."""
    if len(stream) - at < 4:
        return 0
    size = stream[at + 3] + 4
    if stream[at + 2] == 0xFF or not OVERHEAD <= size <= longest:
        return -1
    if at + size > len(stream):
        return 0
    return size if ~sum(stream[at + 2 : at + size - 1]) & 0xFF == stream[at + size - 1] else -1


def split(data: bytes) -> list[bytes]:
    """`data` in pieces, in order: sound packets, and what lies between them."""
    pieces: list[bytes] = []
    at = junk = 0
    while at < len(data):
        size = size_at(data, at, LONGEST) if data.startswith(HEADER, at) else -1
        if size > 0:
            pieces += [data[junk:at], data[at : at + size]]
            at = junk = at + size
        else:
            at += 1
    return [piece for piece in [*pieces, data[junk:]] if piece]
