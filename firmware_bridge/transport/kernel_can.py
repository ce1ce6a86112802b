"""CAN frames as the Linux kernel lays them out (linux/can.h, linux/can/error.h), pure: frames to bytes and back.

    u32 id with flags | u8 length | u8 flags | 2 reserved | data padded to 8 (CAN 2.0) or 64 (CAN-FD) bytes

in the byte order of the host. A CAN-FD frame is told from a CAN 2.0 frame by its size, 72 bytes or 16.
"""

from __future__ import annotations

import struct

from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.transport.base import Frame, frame_of

CLASSIC = struct.Struct("=IBBxx8s")
FD = struct.Struct("=IBBxx64s")
EXTENDED, REMOTE, ERROR = 0x8000_0000, 0x4000_0000, 0x2000_0000
BRS, FDF = 0x01, 0x04  # flags of a CAN-FD frame
ERR_BUS_OFF, ERR_RESTARTED = 0x040, 0x100  # error classes, in the id of an error frame
FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)  # ISO 11898-1: what a DLC can say
STANDARD_MAX, _EXTENDED_MAX = 0x7FF, 0x1FFF_FFFF


def pack(frame: Frame) -> bytes:
    """16 bytes, or 72 for CAN-FD. Raises BadSetpoint for a frame that no controller could send."""
    can_id, data, extended, fd, brs, remote = frame
    length = len(data)
    if not 0 <= can_id <= (_EXTENDED_MAX if extended else STANDARD_MAX):
        raise _no_frame(frame)
    if not (extended or fd or remote) and length <= 8:  # what nearly every frame is
        return CLASSIC.pack(can_id, length, 0, data)
    if length not in FD_LENGTHS if fd else length > 8:
        raise _no_frame(frame)
    word = (can_id | EXTENDED if extended else can_id) | (REMOTE if remote else 0)
    if not fd:
        return CLASSIC.pack(word, length, 0, data)
    if remote:
        raise _no_frame(frame)
    return FD.pack(word, length, FDF | BRS if brs else FDF, data)


def unpack(raw: bytes) -> tuple[Frame | None, int]:
    """(frame, 0), or (None, error class) of an error frame; (None, -1) for what is no frame of the kernel's."""
    size = len(raw)
    if size == CLASSIC.size:
        word, length, flags, data = CLASSIC.unpack(raw)
    elif size == FD.size:
        word, length, flags, data = FD.unpack(raw)
    else:
        return None, -1
    if word & ERROR:
        return None, word & _EXTENDED_MAX
    if length > len(data):
        return None, -1
    fd, remote = size == FD.size, word & REMOTE != 0
    payload = b"" if remote else data[:length]
    if word & EXTENDED:
        return frame_of((word & _EXTENDED_MAX, payload, True, fd, fd and flags & BRS != 0, remote)), 0
    return frame_of((word & STANDARD_MAX, payload, False, fd, fd and flags & BRS != 0, remote)), 0


def _no_frame(frame: Frame) -> BadSetpoint:
    return BadSetpoint(
        explain(
            "a frame that CAN does not have",
            "an 11-bit id (29 if extended); 0..8 bytes, CAN-FD also 12, 16, 20, 24, 32, 48, 64",
            f"id {frame.id:#x}, {len(frame.data)} bytes, {frame}",
            "report this: a codec made it",
        )
    )


def error_frame(error_class: int) -> bytes:
    """What the kernel hands to a listener when the controller changes state."""
    return CLASSIC.pack(ERROR | error_class, 8, 0, b"")
