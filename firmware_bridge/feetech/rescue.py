"""Hold an arm whose servo process died: goal = where each joint is, torque as it is. For the guardian.

No identification and no checks: who was armed has been identified. Joints whose torque is off are left alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from firmware_bridge.config import BusConfig, Option
from firmware_bridge.errors import BridgeError, NoAnswer, explain
from firmware_bridge.feetech import codec
from firmware_bridge.feetech.models import Register
from firmware_bridge.feetech.options import options_of
from firmware_bridge.transport.base import Transport
from firmware_bridge.transport.serial import SerialTransport

_ADDRESS, _COUNT = codec.BLOCKS["slow"]
_GOAL_AT = Register.GOAL_POSITION - Register.TORQUE_ENABLE
_POSITION_AT = Register.PRESENT_POSITION - Register.TORQUE_ENABLE
_ANSWERS_S = 0.02  # s: of one question to all; a silent joint costs it once
_TRIES = 3


class Rescue:
    """Made and warmed up ahead of time: `hold` does nothing but talk."""

    def __init__(self, bus: BusConfig, options: Mapping[str, Option], transport: Transport | None = None) -> None:
        options_of(options, len(bus.joints))
        self._transport = transport or SerialTransport(bus.port, bus.baud)
        self._names = {joint.id: joint.name for joint in bus.joints}
        self._sync = codec.model_of(bus.joints[0]).series.sync_read
        ids = list(self._names)
        question = codec.sync_read(_ADDRESS, _COUNT, ids)
        self._questions = [question] if self._sync else [codec.read(servo, _ADDRESS, _COUNT) for servo in ids]

    def hold(self) -> tuple[str, ...]:
        """Names of the joints that hold now, read back. Raises PortError, PortGone, NoAnswer when none answers."""
        self._transport.open()
        try:
            return self._hold()
        finally:
            self._transport.close()

    def _hold(self) -> tuple[str, ...]:
        held: set[int] = set()
        goals: dict[int, bytes] = {}
        for _ in range(_TRIES):
            found = self._read()
            fresh = {
                servo: data[_POSITION_AT : _POSITION_AT + 2]
                for servo, data in found.items()
                if data[0] and servo not in goals
            }
            if fresh:
                self._transport.write(codec.sync_write(Register.GOAL_POSITION, fresh))
                goals |= fresh
            held |= {servo for servo, data in found.items() if data[_GOAL_AT : _GOAL_AT + 2] == goals.get(servo)}
            if goals and len(held) == len(goals) == len(found) == len(self._names):
                break
        if not goals and not found:
            todo = "switch the arm's power off if it still moves"
            raise NoAnswer(explain(f"no joint answers on {self._transport.name}", "an answer", "silence", todo))
        return tuple(self._names[servo] for servo in sorted(held))

    def _read(self) -> dict[int, bytes]:
        """id -> the slow block, of those that answered."""
        found: dict[int, bytes] = {}
        decoder = codec.Decoder(_COUNT + 6)
        self._transport.read()
        for question in self._questions:
            wanted = len(self._names) if self._sync else len(found) + 1
            self._transport.write(question)
            until_ns = time.monotonic_ns() + int(_ANSWERS_S * 1e9)
            while len(found) < wanted and self._transport.wait_readable(until_ns):
                packets = decoder.feed(self._transport.read())
                found |= {p.id: p.data for p in packets if p.id in self._names and len(p.data) == _COUNT}
                if time.monotonic_ns() >= until_ns:
                    break
        return found


def make(bus: BusConfig, options: Mapping[str, Option]) -> Rescue:
    """What the guardian calls through `protocols.module(protocol, "rescue")`. Raises BridgeError for wrong options."""
    if not bus.joints:
        raise BridgeError(explain("a rescue of nothing", "joints on the bus", "none", "correct the arm profile"))
    return Rescue(bus, options)
