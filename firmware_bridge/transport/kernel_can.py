"""CAN frames as the Linux kernel lays them out (linux/can.h, linux/can/error.h), pure: frames to bytes and back.

    u32 id with flags | u8 length | u8 flags | 2 reserved | data padded to 8 (CAN 2.0) or 64 (CAN-FD) bytes

in the byte order of the host. A CAN-FD frame is told from a CAN 2.0 frame by its size, 72 bytes or 16.
"""

from __future__ import annotations

import struct

from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.transport.base import Frame

CLASSIC = struct.Struct("=IBBxx8s")
FD = struct.Struct("=IBBxx64s")
EXTENDED, REMOTE, ERROR = 0x8000_0000, 0x4000_0000, 0x2000_0000
BRS, FDF = 0x01, 0x04  # flags of a CAN-FD frame
ERR_BUS_OFF, ERR_RESTARTED = 0x040, 0x100  # error classes, in the id of an error frame
FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)  # ISO 11898-1: what a DLC can say
_STANDARD_MAX, _EXTENDED_MAX = 0x7FF, 0x1FFF_FFFF


def pack(frame: Frame) -> bytes:
    """16 bytes, or 72 for CAN-FD. Raises BadSetpoint for a frame that no controller could send."""
    length = len(frame.data)
    whole = 0 <= frame.id <= (_EXTENDED_MAX if frame.extended else _STANDARD_MAX)
    if not whole or (length not in FD_LENGTHS if frame.fd else length > 8) or (frame.fd and frame.remote):
        raise BadSetpoint(
            explain(
                "a frame that CAN does not have",
                "an 11-bit id (29 if extended); 0..8 bytes, CAN-FD also 12, 16, 20, 24, 32, 48, 64",
                f"id {frame.id:#x}, {length} bytes, {frame}",
                "report this: a codec made it",
            )
        )
    word = frame.id | (EXTENDED if frame.extended else 0) | (REMOTE if frame.remote else 0)
    if frame.fd:
        return FD.pack(word, length, FDF | (BRS if frame.brs else 0), frame.data)
    return CLASSIC.pack(word, length, 0, frame.data)


def unpack(raw: bytes) -> tuple[Frame | None, int]:
    """(frame, 0), or (None, error class) of an error frame; (None, -1) for what is no frame of the kernel's."""
    fd = len(raw) == FD.size
    if not fd and len(raw) != CLASSIC.size:
        return None, -1
    word, length, flags, data = (FD if fd else CLASSIC).unpack(raw)
    if word & ERROR:
        return None, word & _EXTENDED_MAX
    if length > len(data):
        return None, -1
    extended, remote = bool(word & EXTENDED), bool(word & REMOTE)
    can_id = word & (_EXTENDED_MAX if extended else _STANDARD_MAX)
    payload = b"" if remote else data[:length]
    return Frame(can_id, payload, extended, fd, fd and bool(flags & BRS), remote), 0


def error_frame(error_class: int) -> bytes:
    """What the kernel hands to a listener when the controller changes state."""
    return CLASSIC.pack(ERROR | error_class, 8, 0, b"")
