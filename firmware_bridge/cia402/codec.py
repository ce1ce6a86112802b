"""CANopen frames of a CiA 402 drive, pure. Sources: CiA 301 (ids, NMT, SDO, EMCY, heartbeat), CiA 402-2 (objects).

RPDO1 (0x200 + id): controlword 6040, target position 607A. TPDO1 (0x180 + id): statusword 6041, position 6064.
TPDO2 (0x280 + id), where it is asked for: velocity 606C, torque 6077. All are sampled, and acted on, at SYNC.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from firmware_bridge.arm import Joint
from firmware_bridge.cia402 import sentences, states
from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.transport.base import Frame, frame_of
from firmware_bridge.wire import can_ns

NMT, SYNC_ID, EMCY, TPDO1, RPDO1, TPDO2, RPDO2 = 0x000, 0x080, 0x080, 0x180, 0x200, 0x280, 0x300
SDO_ANSWER, SDO_REQUEST, HEARTBEAT = 0x580, 0x600, 0x700
MAX_NODE = 127
START, STOP, PRE_OPERATIONAL, RESET = 0x01, 0x02, 0x80, 0x81  # NMT commands
BOOT_UP, STOPPED_STATE, OPERATIONAL, PRE_OPERATIONAL_STATE = 0x00, 0x04, 0x05, 0x7F  # NMT states
SYNC = Frame(SYNC_ID, b"")
COMMAND = struct.Struct("<Hi")  # controlword, target position in counts
STATUS = struct.Struct("<Hi")  # statusword, position in counts
MOTION = struct.Struct("<ih")  # velocity in counts/s, torque in thousandths of the rated torque
_EMCY = struct.Struct("<HB5s")
_SDO = struct.Struct("<BHB4s")
_INT32 = 2**31
_KINDS = {
    TPDO1: "tpdo1", RPDO1: "rpdo1", TPDO2: "tpdo2", RPDO2: "rpdo2", 0x380: "tpdo3", 0x400: "rpdo3", 0x480: "tpdo4",
    0x500: "rpdo4", SDO_ANSWER: "sdo answer", SDO_REQUEST: "sdo request", HEARTBEAT: "heartbeat", EMCY: "emcy",
}  # fmt: skip


class Emergency(NamedTuple):
    """EMCY: error code, error register (1001), five bytes of the manufacturer."""

    code: int
    register: int
    own: bytes


def node_id(node: int) -> int:
    """`node`, if a CANopen node can have it. Raises BadSetpoint."""
    if not 1 <= node <= MAX_NODE:
        raise BadSetpoint(explain("a CANopen node id", "1..127", node, "correct `id` in the arm profile"))
    return node


def counts(value_rad: float, counts_per_rad: float) -> int:
    """A target position in counts. Raises BadSetpoint for NaN, infinity, and what int32 does not hold."""
    scaled = value_rad * counts_per_rad
    if not -_INT32 <= scaled < _INT32 - 1:  # NaN fails too
        raise _beyond(value_rad, scaled)
    return round(scaled)


def command_frames(
    addresses: Sequence[int], controlword: int, device_rad: Sequence[float], counts_per_rad: Sequence[float]
) -> list[Frame]:
    """RPDO1 for every joint; `addresses`: their ids, 0x200 + node. Raises BadSetpoint."""
    pack = COMMAND.pack
    frames: list[Frame] = []
    for address, value, scale in zip(addresses, device_rad, counts_per_rad, strict=True):
        scaled = value * scale
        if not -_INT32 <= scaled < _INT32 - 1:  # as in `counts`
            raise _beyond(value, scaled)
        frames.append(frame_of((address, pack(controlword, round(scaled)), False, False, False, False)))
    return frames


def _beyond(value_rad: float, scaled: float) -> BadSetpoint:
    return BadSetpoint(
        explain(
            "a target position that object 607A cannot carry",
            "finite, within int32 counts",
            f"{value_rad!r} rad = {scaled!r} counts",
            "limit set-points before they are encoded; check counts per turn",
        )
    )


def command(node: int, controlword: int, target: int) -> Frame:
    """RPDO1 of one node. Raises BadSetpoint for what its fields cannot carry."""
    if not (0 <= controlword <= 0xFFFF and -_INT32 <= target < _INT32):
        raise BadSetpoint(
            explain("RPDO1", "controlword u16, target i32", f"{controlword}, {target}", "report this: a driver made it")
        )
    return Frame(RPDO1 + node_id(node), COMMAND.pack(controlword, target))


def nmt(command: int, node: int) -> Frame:
    """An NMT command. Raises BadSetpoint for one that CiA 301 does not have."""
    if command not in sentences.NMT_COMMANDS:
        raise BadSetpoint(explain("an NMT command", sorted(sentences.NMT_COMMANDS), command, "report this"))
    return Frame(NMT, bytes((command, node_id(node))))


def heartbeat(node: int, state: int = OPERATIONAL) -> Frame:
    """The heartbeat of a node; the host's own feeds the watchdogs of the drives."""
    return Frame(HEARTBEAT + node_id(node), bytes((state & 0x7F,)))


def emergency(data: bytes) -> Emergency | None:
    """None for another length than 8."""
    return Emergency(*_EMCY.unpack(data)) if len(data) == _EMCY.size else None


def upload_request(node: int, index: int, sub: int) -> Frame:
    """Ask for an object over SDO."""
    return Frame(SDO_REQUEST + node_id(node), _SDO.pack(0x40, index, sub, b""))


def uploaded(frame: Frame, index: int, sub: int) -> int | None:
    """The unsigned value of an expedited answer for that object, None for any other frame."""
    plain = not (frame.extended or frame.remote or frame.fd)
    if not plain or frame.id & 0x780 != SDO_ANSWER or len(frame.data) != _SDO.size:
        return None
    specifier, at, sub_at, value = _SDO.unpack(frame.data)
    if specifier & 0xE2 != 0x42 or (at, sub_at) != (index, sub):
        return None
    size = 4 - (specifier >> 2 & 3) if specifier & 1 else 4
    return int.from_bytes(value[:size], "little")


def describe(unit: bytes | Frame) -> str:
    """One frame in words; never raises."""
    if not isinstance(unit, Frame):
        return f"no CAN frame: {bytes(unit).hex(' ')}"
    if unit.extended or unit.fd or not 0 <= unit.id <= 0x7FF:
        return f"not CANopen: {unit}"
    base, node = unit.id & 0x780, unit.id & 0x7F
    if unit.id == SYNC_ID:
        return "sync" if not unit.data else f"sync, counter {unit.data[0]}"
    if unit.id == NMT:
        return _nmt_words(unit.data)
    if not node or base not in _KINDS:
        return f"not of the pre-defined connection set: {unit}"
    if unit.remote:
        return f"node {node}: {_KINDS[base]} asked for"
    return f"node {node}: {_KINDS[base]} {_words(base, unit.data)}"


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None, motion: bool = False) -> int:
    """Wire time of one cycle: RPDO1 and TPDO1 of each joint and SYNC; with `motion` TPDO2 too.

    Heartbeats, 55 bits each, come on top: the host's four times in a watchdog time, a drive's every `heartbeat_s`.
    """
    pdo = can_ns(Frame(RPDO1, bytes(COMMAND.size)), baud)
    return len(joints) * pdo * (3 if motion else 2) + can_ns(SYNC, baud)


def _nmt_words(data: bytes) -> str:
    if len(data) != 2:
        return f"nmt of a wrong length: {data.hex(' ')}"
    who = f"node {data[1]}" if data[1] else "all nodes"
    return f"nmt to {who}: {sentences.NMT_COMMANDS.get(data[0], f'unknown command {data[0]:#04x}')}"


def _words(base: int, data: bytes) -> str:
    if base == EMCY:
        found = emergency(data)
        return f"{sentences.sentence(found.code)}, register {found.register:#04x}" if found else f"? {data.hex(' ')}"
    if base == HEARTBEAT and len(data) == 1:
        return sentences.NMT_STATES.get(data[0] & 0x7F, f"unknown state {data[0]:#04x}")
    if base in (SDO_REQUEST, SDO_ANSWER) and len(data) == _SDO.size:
        return _sdo_words(data, base == SDO_REQUEST)
    if base == RPDO1 and len(data) == COMMAND.size:
        controlword, target = COMMAND.unpack(data)
        said = states.COMMANDS.get(controlword & 0x8F, "no command of CiA 402")
        return f"controlword {controlword:04X} ({said}), target {target} counts"
    if base == TPDO1 and len(data) == STATUS.size:
        statusword, position = STATUS.unpack(data)
        state = states.state_of(statusword)
        return f"statusword {statusword:04X} ({state.value if state else 'no state'}), position {position} counts"
    if base == TPDO2 and len(data) == MOTION.size:
        velocity, torque = MOTION.unpack(data)
        return f"velocity {velocity} counts/s, torque {torque / 10:g} % of rated"
    return data.hex(" ") or "empty"


def _sdo_words(data: bytes, request: bool) -> str:
    specifier, index, sub, value = _SDO.unpack(data)
    where, kind = f"{index:04X}:{sub:02X}", specifier >> 5
    if specifier == 0x80:
        return f"abort {where}: {sentences.abort(int.from_bytes(value, 'little'))}"
    size = 4 - (specifier >> 2 & 3) if specifier & 1 else 4
    shown = value[:size][::-1].hex().upper()
    writes = kind == (1 if request else 2)
    if writes and specifier & 2:
        return f"{'write' if request else 'read'} {where} = {shown}"
    if (request and kind == 2) or (not request and kind == 3):
        return f"{'read' if request else 'written'} {where}"
    return f"segment or block {data.hex(' ')}"
