"""Which ODrives are on a bus."""

from __future__ import annotations

import time
from collections.abc import Iterator

from firmware_bridge.bus_arm import FIRST_READ_S
from firmware_bridge.odrive import codec, models
from firmware_bridge.odrive.codec import Command
from firmware_bridge.odrive.connect import waited
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import FrameTransport


def scan(transport: FrameTransport, wait_s: float = 0.7) -> list[Found]:
    """Everything that answers a broadcast Address question on an open bus, within `wait_s` (boards spread answers)."""
    transport.write([codec.request(codec.BROADCAST, Command.ADDRESS)])
    found: dict[int, Found] = {}
    for message in _heard_for(transport, wait_s):
        if message.command is Command.ADDRESS and isinstance(message.values[1], bytes):
            note = f"serial {message.values[1][::-1].hex().upper()}"
            node = int(message.values[0])
            found[node] = Found(node, models.ANY, "", note if node != codec.BROADCAST else f"{note}, no node id yet")
    addressed = [node for node in sorted(found) if node != codec.BROADCAST]
    transport.write([codec.request(node, Command.GET_VERSION) for node in addressed])
    for message in _heard_for(transport, FIRST_READ_S):
        if message.command is Command.GET_VERSION and message.node in found:
            version = [int(value) for value in message.values]
            model, firmware = models.product_line(version[1]), models.dotted(version[4:7])
            found[message.node] = Found(message.node, model, firmware, found[message.node].note)
    return [found[node] for node in sorted(found)]


def _heard_for(transport: FrameTransport, wait_s: float) -> Iterator[codec.Message]:
    deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
    while waited(transport, deadline_ns):
        for frame in transport.read():
            message = codec.decode(frame)
            if message is not None:
                yield message
