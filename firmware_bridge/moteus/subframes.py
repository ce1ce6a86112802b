"""moteus frames: identifiers, subframes of registers, of errors and of text, padding. Pure.

Source: mjbots/moteus, docs/protocol/can.md. An identifier is source << 8 | destination, its bit 15 set where an answer
is wanted; a frame holds subframes: write 0x00, read 0x10, reply 0x20 (+ 4 times the resolution + the count, 0: the
count follows), errors 0x30 and 0x31, diagnostic text 0x40..0x42, and 0x50 for nothing, with which frames are padded to
a length that CAN-FD has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from firmware_bridge.errors import ForeignBytes, explain
from firmware_bridge.moteus.registers import INT8
from firmware_bridge.moteus.scaling import RAW, Number, refused
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.kernel_can import FD_LENGTHS

REPLY_WANTED = 0x8000
BROADCAST = 0x7F
WRITE, READ, REPLY, WRITE_ERROR, READ_ERROR = 0x00, 0x10, 0x20, 0x30, 0x31
TEXT_IN, TEXT_OUT, TEXT_POLL, NOP = 0x40, 0x41, 0x42, 0x50
TEXT_CHANNEL = 1
_PADDED: Final = tuple(next(size for size in FD_LENGTHS if size >= length) for length in range(65))


class Subframe(NamedTuple):
    """One register of a subframe (`value` None: asked for), an error (`value` its number), or a diagnostic text."""

    kind: int  # WRITE, READ, REPLY, WRITE_ERROR, READ_ERROR, TEXT_IN, TEXT_OUT, TEXT_POLL
    register: int  # channel of a text
    resolution: int
    value: Number | None = None  # as on the wire, not scaled; of TEXT_POLL the most bytes to send
    text: bytes = b""


def padded(data: bytes) -> bytes:
    """Up to 64 bytes, with NOP to a length that CAN-FD has."""
    return data.ljust(_PADDED[len(data)], b"\x50")


def frame(destination: int, data: bytes, reply: bool = True, source: int = 0) -> Frame:
    """`data` padded with NOP; extended only where the identifier needs it. Raises BadSetpoint."""
    whole = 0 <= source < 0x80 and 0 < destination < 0x80
    if not whole or len(data) > 64:
        raise refused(f"a frame from {source} to {destination}, {len(data)} bytes", "ids 1..127, up to 64 bytes")
    can_id = source << 8 | destination | (REPLY_WANTED if reply else 0)
    return Frame(can_id, padded(data), can_id > 0x7FF, True, True)


def write(register: int, values: Sequence[bytes], resolution: int) -> bytes:
    """A write subframe of registers in a row."""
    return head(WRITE, register, len(values), resolution) + b"".join(values)


def read(register: int, count: int, resolution: int) -> bytes:
    """A read subframe of registers in a row."""
    return head(READ, register, count, resolution)


def head(kind: int, register: int, count: int, resolution: int) -> bytes:
    """What stands in front of the values of registers in a row."""
    first = kind | resolution << 2
    return (bytes((first | count,)) if count <= 3 else bytes((first,)) + varuint(count)) + varuint(register)


def varuint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def subframes(data: bytes) -> Iterator[Subframe]:
    """Every register of a frame, in order. Raises ForeignBytes where the frame breaks off or is no moteus frame."""
    at = 0
    while at < len(data):
        first, at = data[at], at + 1
        if first == NOP:
            continue
        if first < 0x30:
            part, at = _registers(first, data, at)
            yield from part
        elif first in (WRITE_ERROR, READ_ERROR):
            register, at = _varuint_at(data, at)
            number, at = _varuint_at(data, at)
            yield Subframe(first, register, INT8, number)
        elif first in (TEXT_IN, TEXT_OUT, TEXT_POLL):
            channel, at = _varuint_at(data, at)
            size, at = _varuint_at(data, at)
            if first == TEXT_POLL:
                yield Subframe(first, channel, INT8, size)
                continue
            yield Subframe(first, channel, INT8, None, _bytes_at(data, at, size))
            at += size
        else:
            raise _foreign(data, f"subframe {first:#04x}")


def _registers(first: int, data: bytes, at: int) -> tuple[list[Subframe], int]:
    kind, r, count = first & 0xF0, first >> 2 & 3, first & 3
    if not count:
        count, at = _varuint_at(data, at)
    register, at = _varuint_at(data, at)
    if count > 64:
        raise _foreign(data, f"{count} registers in one frame")
    if kind == READ:
        return [Subframe(kind, register + i, r) for i in range(count)], at
    raw = RAW[r]
    body = _bytes_at(data, at, count * raw.size)
    return [Subframe(kind, register + i, r, raw.unpack_from(body, i * raw.size)[0]) for i in range(count)], at + len(
        body
    )


def _varuint_at(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(5):
        byte = _bytes_at(data, at + i, 1)[0]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80 and value < 1 << 32:
            return value, at + i + 1
    raise _foreign(data, "a number of more than 32 bits")


def _bytes_at(data: bytes, at: int, size: int) -> bytes:
    part = data[at : at + size]
    if len(part) != size:
        raise _foreign(data, "a frame that breaks off")
    return part


def _foreign(data: bytes, got: str) -> ForeignBytes:
    return ForeignBytes(
        explain("not a moteus frame", "whole subframes", f"{got} in {data.hex()}", "check who else is on the bus")
    )
