"""What the axes of one bus say of themselves: heartbeats, which are cyclic only, and what they mean for the arm. Pure.

A fault is known one heartbeat (100 ms at the factory) late at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from firmware_bridge.arm import Fault
from firmware_bridge.odrive import codec, models
from firmware_bridge.odrive.codec import CLOSED_LOOP, Command
from firmware_bridge.transport.base import Frame

Check = Callable[[int, int], bool]  # (axis state, error bits) -> as asked for
_MISSED = 5  # heartbeats until what an axis reports counts as unknown


class Heartbeats:
    """`nodes` in the order of the joints; `period_s` between two heartbeats of an axis."""

    def __init__(self, nodes: Sequence[int], period_s: float) -> None:
        self.joint_of = {codec.can_id(node, Command.HEARTBEAT): index for index, node in enumerate(nodes)}
        self.patience_ns = int(_MISSED * period_s * 1e9)
        self._came_ns = [0] * len(nodes)
        self._oldest_ns = 0
        self.expect()
        self.clear()

    def expect(self) -> None:
        """From here on only what comes counts: see `all`."""
        self.newest: list[tuple[int, int] | None] = [None] * len(self._came_ns)  # (axis state, error bits)

    def clear(self) -> None:
        """No axis has a fault, until it says so."""
        self.told: list[tuple[Fault, int]] = [(Fault.NONE, 0)] * len(self._came_ns)  # faults and code, as in a Reading

    def take(self, frame: Frame, armed: bool = False) -> bool:
        """False for what is no whole heartbeat of an axis. An armed axis outside closed loop is a fault."""
        joint = self.joint_of.get(frame.id)
        message = None if joint is None else codec.decode(frame)
        if joint is None or message is None:
            return False
        error, state, _, _ = (int(value) for value in message.values)
        self.newest[joint], self._came_ns[joint] = (state, error), time.monotonic_ns()
        self._oldest_ns = min(self._came_ns)
        lost = models.LOST_CLOSED_LOOP if armed and state != CLOSED_LOOP and not error else 0
        kept = self.told[joint][1] & models.LOST_CLOSED_LOOP  # until it is armed again
        self._tell(joint, error | kept | lost)
        return True

    def _tell(self, joint: int, code: int) -> None:
        self.told[joint] = models.faults_of(code) if code else Fault.NONE, code

    def all(self, wanted: Check) -> bool:
        """Whether every axis has said so since `expect`."""
        return all(beat is not None and wanted(*beat) for beat in self.newest)

    def late(self) -> bool:
        """Whether an axis has been silent for so long that what it reports is not known."""
        return time.monotonic_ns() - self._oldest_ns > self.patience_ns

    def told_late(self, joint: int) -> tuple[Fault, int]:
        """As in `told`, with the fault of a heartbeat that is missing."""
        code = self.told[joint][1]
        if time.monotonic_ns() - self._came_ns[joint] > self.patience_ns:
            code |= models.NO_HEARTBEAT
        return models.faults_of(code), code

    def words(self, joint: int) -> str:
        """The newest heartbeat of an axis, for people."""
        beat = self.newest[joint]
        if beat is None:
            return "no heartbeat"
        return f"{models.AXIS_STATES.get(beat[0], f'state {beat[0]}')}, {models.sentence(beat[1])}"
