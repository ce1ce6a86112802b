"""Which moteus controllers are on a bus."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from firmware_bridge.errors import BridgeError
from firmware_bridge.moteus import codec
from firmware_bridge.moteus.connect import arriving, version
from firmware_bridge.moteus.registers import Register
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Frame, FrameTransport


def scan(transport: FrameTransport, ids: Sequence[int] = range(1, 127), window_s: float = 0.2) -> list[Found]:
    """Controllers that answer within `window_s`, on an open transport. Sixteen are asked at a time."""
    found: dict[int, Found] = {}
    ids = [joint_id for joint_id in ids if 0 < joint_id < codec.BROADCAST]
    for start in range(0, len(ids), 16):
        transport.write([codec.frame(joint_id, codec.IDENTIFY) for joint_id in ids[start : start + 16]])
        deadline_ns = time.monotonic_ns() + int(window_s * 1e9 / math.ceil(len(ids) / 16))
        for frame in arriving(transport, deadline_ns):
            if (one := _found(frame)) is not None:
                found[one.id] = one
    return [found[joint_id] for joint_id in sorted(found)]


def _found(frame: Frame) -> Found | None:
    try:
        values = codec.values(frame.data)
    except BridgeError:
        return None
    if frame.id & 0x80FF or Register.FIRMWARE not in values:
        return None
    note = f"register map {values.get(Register.MAP_VERSION, 0):g}"
    return Found(frame.id >> 8 & 0x7F, "moteus", version(values[Register.FIRMWARE]), note)
