"""Who is on a CANopen bus: every node that answers an SDO read. Nothing is written into any of them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from firmware_bridge.cia402 import codec
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import FrameTransport


def scan(transport: FrameTransport, wait_s: float = 0.01) -> list[Found]:
    """Every node of 1..127 that answers an SDO read of its device type; `wait_s` per eight nodes."""
    found = []
    for first in range(1, codec.MAX_NODE + 1, 8):
        nodes = range(first, min(first + 8, codec.MAX_NODE + 1))
        kinds = _uploads(transport, nodes, (0x1000, 0), wait_s)
        parts = [_uploads(transport, kinds, (0x1018, sub), wait_s) for sub in (1, 2, 3)] if kinds else []
        for node, kind in sorted(kinds.items()):
            vendor, product, revision = (part.get(node, 0) for part in parts)
            note = "" if kind & 0xFFFF == 402 else f"device profile {kind & 0xFFFF}: not a CiA 402 drive"
            found.append(Found(node, f"{vendor:08X}:{product:08X}", f"{revision:08X}", note))
    return found


def _uploads(transport: FrameTransport, nodes: Iterable[int], place: tuple[int, int], wait_s: float) -> dict[int, int]:
    """Expedited reads of one object at several nodes; those that answered."""
    transport.write([codec.upload_request(node, *place) for node in nodes])
    answers: dict[int, int] = {}
    deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
    while transport.wait_readable(deadline_ns):
        for frame in transport.read():
            value = codec.uploaded(frame, *place)
            if value is not None:
                answers[frame.id - codec.SDO_ANSWER] = value
        if time.monotonic_ns() >= deadline_ns:
            break
    return answers
