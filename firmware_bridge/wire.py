"""How long bytes and frames take on a wire. Pure; nanoseconds.

UART 8N1: 10 bits a byte. CAN: ISO 11898-1, without the stuff bits that depend on the data unless `worst` asks for all
that there could be.
"""

from __future__ import annotations

from firmware_bridge.transport.base import Frame

_UART_BITS = 10
_GAP = 3  # bits of intermission between two CAN frames


def uart_ns(count: int, baud: int) -> int:
    """`count` bytes, 8N1."""
    return count * _UART_BITS * 1_000_000_000 // baud


def can_ns(frame: Frame, baud: int, data_baud: int | None = None, worst: bool = False) -> int:
    """One frame and the gap behind it, on a bus of `baud` and, for frames with bit-rate switch, `data_baud`."""
    if frame.fd:
        slow, fast = _fd_bits(frame, worst)
    else:
        slow, fast = _classic_bits(frame, worst), 0
    rate = data_baud if frame.brs and data_baud else baud
    return slow * 1_000_000_000 // baud + fast * 1_000_000_000 // rate


def _classic_bits(frame: Frame, worst: bool) -> int:
    """47 + 8n (standard) or 67 + 8n (extended); stuffing at most one bit per four of those that are stuffed."""
    data = 0 if frame.remote else 8 * len(frame.data)
    head = 67 if frame.extended else 47
    stuffed = (54 if frame.extended else 34) + data
    return head + data + ((stuffed - 1) // 4 if worst else 0)


def _fd_bits(frame: Frame, worst: bool) -> tuple[int, int]:
    """(bits at the arbitration rate, bits at the data rate), stuff count and fixed stuff bits of the CRC included."""
    data = 8 * len(frame.data)
    head = 36 if frame.extended else 17  # start of frame .. BRS
    tail = 12  # CRC delimiter, acknowledge slot and delimiter, end of frame, without the gap
    crc = 21 if len(frame.data) > 16 else 17
    fixed = 4 + crc + (4 + crc + 3) // 4  # stuff count, CRC, one fixed stuff bit before each four bits
    fast = 5 + data + fixed  # ESI, DLC
    loose = (head // 4, (5 + data) // 4) if worst else (0, 0)
    return head + tail + _GAP + loose[0], fast + loose[1]
