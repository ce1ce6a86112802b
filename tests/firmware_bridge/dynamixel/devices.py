"""Virtual servos without a driver, and what they say."""

from __future__ import annotations

from firmware_bridge.dynamixel import codec, virtual
from firmware_bridge.virtual.__main__ import plant_of
from tests.firmware_bridge.dynamixel.arms import ALIKE


def device(joints=ALIKE, gravity=0.0, **options):
    made = virtual.make(joints, plant_of(list(joints), gravity), options)
    made.tick(0)
    return made


def told(made, unit, length=0, at_us=0):
    """The statuses that answer `unit`."""
    answers = b"".join(reply.data for reply in made.feed(unit, at_us))
    return [status for whole in codec.Decoder().feed(answers) for status in codec.statuses(whole, length)]


def error_of(made, register, value, servo=1):
    (answer,) = told(made, codec.write(servo, register, value))
    return answer.error
