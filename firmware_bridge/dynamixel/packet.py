"""Packets of protocol 2.0: making them, and finding them in a stream. Pure. Source: e-manual, docs/en/dxl/protocol2/

    FF FF FD 00  id  length (2, little-endian)  instruction  parameters  CRC-16 (2)

In instruction and parameters FF FF FD becomes FF FF FD FD ("byte stuffing"), and length and CRC count what is sent.
The answer to a fast read is one packet to which every servo adds a block, unstuffed:

    FF FF FD 00  FE  length  55  [error  id  data  CRC-16 over everything before] x n
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import NamedTuple

HEADER = b"\xff\xff\xfd\x00"
STUFF, STUFFED = b"\xff\xff\xfd", b"\xff\xff\xfd\xfd"
BROADCAST = 0xFE
STATUS = 0x55
ALERT = 0x80  # of a status packet's error: Hardware Error Status(70) is not 0
LONGEST = 1024  # length field; what the vendor's library takes too


# --- CRC ------------------------------------------------------------------------------------------------------------


def _table(bits: int) -> array[int]:
    """CRC-16, polynomial 0x8005, most significant bit first, of every word of `bits`."""
    table = array("H", bytes(2 << bits))
    for word in range(1 << bits):
        crc = word << (16 - bits)
        for _ in range(bits):
            crc = (crc << 1) ^ (0x8005 if crc & 0x8000 else 0)
            crc &= 0xFFFF
        table[word] = crc
    return table


_BYTE = _table(8)
_WORD = array("H", bytes(2 << 16))
for _high in range(256):  # two bytes at a time: one look-up for each pair, built from the table of single ones
    _after = _BYTE[_high]
    for _low in range(256):
        _WORD[_high << 8 | _low] = (_after << 8 & 0xFFFF) ^ _BYTE[(_after >> 8) ^ _low]
_WORDS = [struct.Struct(f">{count}H") for count in range(LONGEST // 2)]


def crc16(data: bytes, crc: int = 0) -> int:
    """CRC-16 (0x8005, most significant bit first) of a packet less its last two. `crc`: of what came before."""
    table, pairs = _WORD, len(data) >> 1
    words = _WORDS[pairs] if pairs < len(_WORDS) else struct.Struct(f">{pairs}H")
    for word in words.unpack_from(data):
        crc = table[crc ^ word]
    if len(data) & 1:
        crc = (crc << 8 & 0xFFFF) ^ _BYTE[(crc >> 8) ^ data[-1]]
    return crc


# --- packets ----------------------------------------------------------------------------------------------------------


def packet(servo: int, instruction: int, parameters: bytes = b"") -> bytes:
    """One instruction packet (or a status packet: its first parameter is the error)."""
    body = (bytes((instruction,)) + parameters).replace(STUFF, STUFFED)
    head = HEADER + struct.pack("<BH", servo, len(body) + 2) + body
    return head + struct.pack("<H", crc16(head))


class Status(NamedTuple):
    """One servo's answer. `error`: SENTENCES, and the ALERT bit."""

    servo: int
    error: int
    data: bytes


def status(servo: int, error: int, data: bytes = b"") -> bytes:
    """A status packet, as a servo makes it."""
    return packet(servo, STATUS, bytes((error,)) + data)


def fast_status(answers: Sequence[Status]) -> list[bytes]:
    """The one packet that answers a fast read, in the pieces that the servos send one after another."""
    length = 1 + sum(4 + len(answer.data) for answer in answers)
    piece = HEADER + struct.pack("<BHB", BROADCAST, length, STATUS)
    pieces, crc = [], 0
    for answer in answers:
        piece += bytes((answer.error, answer.servo)) + answer.data
        crc = crc16(piece, crc)
        tail = struct.pack("<H", crc)
        crc = crc16(tail, crc)
        pieces.append(piece + tail)
        piece = b""
    return pieces


def statuses(unit: bytes, length: int) -> list[Status]:
    """What a whole packet says: one status, or as many as a fast read's answer has blocks of `length` data bytes.

    Empty for an instruction (an echo), and for an answer of another length.
    """
    if unit[7] != STATUS:
        return []
    if unit[4] == BROADCAST:
        return _blocks(unit, length)
    body = unit[8:-2]
    if STUFFED in body:
        body = body.replace(STUFFED, STUFF)
    return [Status(unit[4], body[0], body[1:])] if len(body) == length + 1 else []


def fast_blocks(data: bytes, length: int) -> list[Status]:
    """The leading whole blocks of a fast read's answer that was cut short: every block has a CRC of its own."""
    found: list[Status] = []
    for block in _blocks(data, length):
        crc_at = 8 + (len(found) + 1) * (length + 4) - 2
        if crc16(data[:crc_at]) != data[crc_at] + (data[crc_at + 1] << 8):
            break
        found.append(block)
    return found


def _blocks(data: bytes, length: int) -> list[Status]:
    """Unchecked. Empty where the length that the packet announces does not fit blocks of `length` data bytes."""
    size = length + 4
    if len(data) < 8 or (data[5] + (data[6] << 8) - 1) % size:
        return []
    end = min(len(data), 7 + data[5] + (data[6] << 8))
    return [Status(data[at + 1], data[at], data[at + 2 : at + 2 + length]) for at in range(8, end - size + 1, size)]


class Decoder:
    """Bytes in any pieces to whole packets with a right CRC. `longest`: of a packet, bytes; longer is noise."""

    def __init__(self, longest: int = LONGEST + 7) -> None:
        self.longest = longest
        self.junk = 0  # bytes that belonged to no packet
        self.rest = b""  # what may still become a packet

    def clear(self) -> None:
        """Forget what has not become a packet."""
        self.junk += len(self.rest)
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that `data` completes, oldest first."""
        found: list[bytes] = []
        data, at = self.rest + data, 0
        while (start := data.find(HEADER, at)) >= 0 and len(data) - start >= 7:
            self.junk += start - at
            length = data[start + 5] + (data[start + 6] << 8)
            end = start + 7 + length
            if 3 <= length <= self.longest - 7:
                if end > len(data):
                    self.rest = data[start:]
                    return found
                unit = data[start:end]
                if crc16(unit[:-2]) == unit[-2] + (unit[-1] << 8):
                    found.append(unit)
                    at = end
                    continue
            at = start + 1
            self.junk += 1
        keep = start if start >= 0 else max(at, len(data) - 3)  # a header may begin in the last three bytes
        self.junk += keep - at
        self.rest = data[keep:]
        return found


def split(data: bytes) -> list[bytes]:
    """A recorded stream into packets and what lies between them, in order; nothing is lost."""
    units: list[bytes] = []
    decoder = Decoder()
    at = 0
    for unit in decoder.feed(data):
        start = data.index(unit, at)
        if start > at:
            units.append(data[at:start])
        units.append(unit)
        at = start + len(unit)
    return units + ([data[at:]] if at < len(data) else [])
