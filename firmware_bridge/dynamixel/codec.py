"""Values to bytes, bytes to words; the packets: packet.py. Pure. Source: e-manual, docs/en/dxl/protocol2/"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from firmware_bridge.arm import Joint
from firmware_bridge.dynamixel.models import MODELS, MOST_COUNTS, RAD_PER_COUNT, Register
from firmware_bridge.dynamixel.packet import (
    ALERT,
    BROADCAST,
    HEADER,
    LONGEST,
    STATUS,
    STUFF,
    STUFFED,
    Decoder,
    Status,
    crc16,
    fast_blocks,
    fast_status,
    packet,
    split,
    status,
    statuses,
)
from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.wire import uart_ns

__all__ = [  # what is asked for under this name, the packets' part included
    "ALERT",
    "BROADCAST",
    "HEADER",
    "LONGEST",
    "STATUS",
    "Block",
    "Decoder",
    "GoalWriter",
    "Status",
    "crc16",
    "cycle_bytes",
    "cycle_ns",
    "describe",
    "fast_blocks",
    "fast_status",
    "packet",
    "ping",
    "read",
    "read_all",
    "reboot",
    "split",
    "status",
    "statuses",
    "sync_write",
    "to_bytes",
    "write",
]

MOST_ID = 0xFC
PING, READ, WRITE, REBOOT, CLEAR = 0x01, 0x02, 0x03, 0x08, 0x10
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A
BULK_READ, BULK_WRITE, FAST_BULK_READ = 0x92, 0x93, 0x9A

INSTRUCTIONS = {
    PING: "ping",
    READ: "read",
    WRITE: "write",
    0x04: "reg write",
    0x05: "action",
    0x06: "factory reset",
    REBOOT: "reboot",
    CLEAR: "clear",
    0x20: "control table backup",
    STATUS: "status",
    SYNC_READ: "sync read",
    SYNC_WRITE: "sync write",
    FAST_SYNC_READ: "fast sync read",
    BULK_READ: "bulk read",
    BULK_WRITE: "bulk write",
    FAST_BULK_READ: "fast bulk read",
}
SENTENCES = {  # error number of a status packet, without the alert bit
    0: "no error",
    1: "the servo could not do it",
    2: "undefined instruction, or action without reg write",
    3: "the instruction's CRC was wrong",
    4: "value outside the register's range, or goals locked by an expired bus watchdog",
    5: "fewer bytes than the register has",
    6: "value outside the limit set in another register",
    7: "register is read-only, not defined, or locked while torque is on",
}

# --- instructions -----------------------------------------------------------------------------------------------------


def ping(servo: int) -> bytes:
    return packet(servo, PING)


def reboot(servo: int) -> bytes:
    return packet(servo, REBOOT)


def read(servo: int, address: int, length: int) -> bytes:
    return packet(servo, READ, struct.pack("<HH", address, length))


def write(servo: int, register: Register, value: int) -> bytes:
    """Raises BadSetpoint for a value that the register cannot carry."""
    return packet(servo, WRITE, struct.pack("<H", register.address) + to_bytes(register, value))


def to_bytes(register: Register, value: int) -> bytes:
    """Little-endian, two's complement. Raises BadSetpoint."""
    try:
        return value.to_bytes(register.size, "little", signed=register.signed)
    except OverflowError:
        kind = "signed" if register.signed else "unsigned"
        expected = f"{register.size} bytes, {kind}"
        raise BadSetpoint(
            explain(f"value for register {register.address}", expected, value, "pass a value that it can carry")
        ) from None


def sync_write(register: Register, values: Sequence[tuple[int, int]]) -> bytes:
    """One register of several servos: (id, value). Raises BadSetpoint."""
    data = b"".join(bytes((servo,)) + to_bytes(register, value) for servo, value in values)
    return packet(BROADCAST, SYNC_WRITE, struct.pack("<HH", register.address, register.size) + data)


class Block(NamedTuple):
    """What is read of one servo."""

    servo: int
    address: int
    length: int


def read_all(blocks: Sequence[Block], fast: bool = False) -> bytes:
    """The question to several servos: a sync read where address and length are the same for all, else a bulk read."""
    if len({block[1:] for block in blocks}) == 1:
        where = struct.pack("<HH", blocks[0].address, blocks[0].length)
        ids = bytes(block.servo for block in blocks)
        return packet(BROADCAST, FAST_SYNC_READ if fast else SYNC_READ, where + ids)
    each = b"".join(struct.pack("<BHH", *block) for block in blocks)
    return packet(BROADCAST, FAST_BULK_READ if fast else BULK_READ, each)


class GoalWriter:
    """The sync write of Goal Position(116) to the servos of `joints`: device angles, rad, to bytes.

    It judges the angles again, by the joints' own ranges: what it makes never moves a joint out of its range.
    """

    def __init__(self, joints: Sequence[Joint]) -> None:
        self._names = [joint.name for joint in joints]
        half = 0.5 * RAD_PER_COUNT  # float32 set-points end a rounding error outside the float64 range
        self._ranges = [(low - half, high + half) for low, high in (joint.device_range_rad for joint in joints)]
        n = len(joints)
        self._head = HEADER + struct.pack("<BHBHH", BROADCAST, 7 + 5 * n, SYNC_WRITE, 116, 4)
        self._crc_of_head = crc16(self._head)
        self._struct = struct.Struct("<" + "Bi" * n)
        self._values = [value for joint in joints for value in (joint.id, 0)]
        for low, high in self._ranges:
            if max(abs(low), abs(high)) > MOST_COUNTS * RAD_PER_COUNT:
                raise BadSetpoint(explain("range of a joint", "at most 256 turns each way", (low, high), "narrow it"))

    def encode(self, device_rad: Sequence[float]) -> bytes:
        """Raises BadSetpoint for NaN, infinity, a value outside its joint's range, a wrong number of values."""
        for (low, high), angle in zip(self._ranges, device_rad, strict=True):
            if not low <= angle <= high:  # NaN fails both
                raise self._bad(device_rad)
        values = self._values.copy()
        values[1::2] = [round(angle / RAD_PER_COUNT) for angle in device_rad]
        goals = self._struct.pack(*values)
        if STUFF in goals:
            return packet(BROADCAST, SYNC_WRITE, self._head[8:] + goals)
        return self._head + goals + crc16(goals, self._crc_of_head).to_bytes(2, "little")

    def _bad(self, device_rad: Sequence[float]) -> BadSetpoint:
        ranges = zip(self._names, self._ranges, strict=True)
        expected = ", ".join(f"{name} {low:.4f}..{high:.4f} rad" for name, (low, high) in ranges)
        got = ", ".join(f"{angle:g}" for angle in device_rad)
        return BadSetpoint(
            explain("goal refused before the wire", expected, got, "limit set-points before they are sent")
        )


# --- time on the wire -------------------------------------------------------------------------------------------------


def cycle_bytes(joints: int, length: int, fast: bool = False, bulk: bool = False) -> int:
    """Goals of 4 bytes to `joints`, and `length` bytes from each; without byte stuffing."""
    question = 10 + 5 * joints if bulk else 14 + joints
    answer = 8 + joints * (4 + length) if fast else joints * (11 + length)
    return 14 + 5 * joints + question + answer


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None, shadows: str = "") -> int:
    """One cycle of the default read: 13 bytes a servo, without fast reads, which the firmware may not know.

    Shadows ("3:4,5:-6") are not in `joints`: each adds a servo's 25 bytes. X330 beside another family
    is read by a bulk read, as from firmware 52 their indirect data lies at different addresses.
    """
    small = [joint.model in MODELS and MODELS[joint.model].family == "330" for joint in joints]
    followers = len(shadows.split(",")) if shadows else 0
    return uart_ns(cycle_bytes(len(joints), 13, bulk=any(small) and not all(small)) + 25 * followers, baud)


# --- in words ---------------------------------------------------------------------------------------------------------


def describe(unit: object) -> str:
    """A sentence for any bytes. Never raises."""
    if not isinstance(unit, bytes | bytearray):
        return "no Dynamixel packet: a CAN frame"
    unit = bytes(unit)
    if not unit.startswith(HEADER) or len(unit) < 10:
        return f"no Dynamixel packet: {len(unit)} bytes {unit[:16].hex(' ')}"
    length = unit[5] + (unit[6] << 8)
    if length + 7 != len(unit):
        return f"Dynamixel packet of id {unit[4]}, cut: {length + 7} bytes announced, {len(unit)} here"
    if crc16(unit[:-2]) != unit[-2] + (unit[-1] << 8):
        return f"Dynamixel packet of id {unit[4]}: wrong CRC"
    body = unit[7:-2] if _is_fast(unit) else unit[7:-2].replace(STUFFED, STUFF)
    who = "all" if unit[4] == BROADCAST else f"id {unit[4]}"
    if unit[7] == STATUS:
        return _describe_status(unit, who, body[1:])
    name = INSTRUCTIONS.get(body[0], f"unknown instruction {body[0]:#04x}")
    return f"{name} to {who}{_describe_parameters(body[0], body[1:])}"


def _is_fast(unit: bytes) -> bool:
    return unit[4] == BROADCAST and unit[7] == STATUS


def _describe_status(unit: bytes, who: str, body: bytes) -> str:
    if _is_fast(unit):
        return f"answer of several servos to a fast read: {body.hex(' ')}"
    if not body:
        return f"status of {who} without its error byte"
    error = body[0]
    sentence = SENTENCES.get(error & ~ALERT, f"unknown error {error & ~ALERT:#04x}")
    alert = ", ALERT: hardware error, see register 70" if error & ALERT else ""
    data = f", data {body[1:].hex(' ')}" if len(body) > 1 else ""
    return f"status of {who}: {sentence}{alert}{data}"


def _describe_parameters(instruction: int, body: bytes) -> str:
    if instruction in (READ, SYNC_READ, FAST_SYNC_READ, SYNC_WRITE) and len(body) >= 4:
        address, length = struct.unpack_from("<HH", body)
        where = f": {length} bytes at {address}"
        if instruction == READ:
            return where
        if instruction == SYNC_WRITE:
            return where + "".join(_values(body[4:], length))
        return f"{where} of ids {', '.join(map(str, body[4:]))}"
    if instruction in (BULK_READ, FAST_BULK_READ) and len(body) % 5 == 0:
        each = [f"{length} bytes at {address} of id {servo}" for servo, address, length in _bulk(body)]
        return ": " + ", ".join(each)
    if instruction == WRITE and len(body) > 2:
        return (
            f": {int.from_bytes(body[2:6], 'little', signed=True)} ({body[2:].hex(' ')}) at {body[0] + (body[1] << 8)}"
        )
    return f": {body.hex(' ')}" if body else ""


def _bulk(body: bytes) -> list[tuple[int, int, int]]:
    return [struct.unpack_from("<BHH", body, at) for at in range(0, len(body), 5)]


def _values(body: bytes, length: int) -> list[str]:
    size = length + 1
    return [
        f"; id {body[at]} = {int.from_bytes(body[at + 1 : at + size], 'little', signed=True)}"
        for at in range(0, len(body), size)
    ]
