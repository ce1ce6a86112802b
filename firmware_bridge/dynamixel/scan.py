"""Who is on a bus."""

from __future__ import annotations

import time

from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.codec import ALERT, Decoder, Status
from firmware_bridge.protocols import Found
from firmware_bridge.transport.base import Transport


def scan(transport: Transport, wait_s: float = 1.0) -> list[Found]:
    """Every servo that answers a ping to all within `wait_s`, by id. Opens and closes `transport`.

    They answer one after another, each in the place of its id: 253 places take 0.8 s (e-manual, Ping).
    """
    transport.open()
    try:
        transport.read()
        transport.write(codec.ping(codec.BROADCAST))
        decoder, found = Decoder(), {}
        deadline_ns = time.monotonic_ns() + int(wait_s * 1e9)
        while transport.wait_readable(deadline_ns):
            for unit in decoder.feed(transport.read()):
                for answer in codec.statuses(unit, 3):
                    found[answer.servo] = answer
    finally:
        transport.close()
    return [_found(found[servo]) for servo in sorted(found)]


def _found(answer: Status) -> Found:
    number, firmware = answer.data[0] + (answer.data[1] << 8), answer.data[2]
    model = models.BY_NUMBER.get(number)
    note = "hardware error: read register 70" if answer.error & ALERT else ""
    return Found(answer.servo, model.name if model else f"unknown ({number})", str(firmware), note)
