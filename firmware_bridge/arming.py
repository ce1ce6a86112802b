"""Arming one part of an arm over several buses: judged before any is enabled, taken back where another is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from firmware_bridge.arm import StopKind
from firmware_bridge.bus_arm import BusArm
from firmware_bridge.errors import BridgeError

Torque = tuple[bool | None, ...]  # of each joint of a part; None: not known


def judged(part: BusArm[Any]) -> Torque:
    """Which joints have torque before the part is armed. Raises BridgeError where it would not arm."""
    part.judge()
    return tuple(part.torque_on())


def brought_back(part: BusArm[Any], before: Torque) -> list[str]:
    """Joints that had no torque and may have it now, by name. Never raises: the arming's own error is to be told.

    One whose torque was not known counts as one without; a part with any joint that held is told to hold.
    """
    names = [joint.name for joint in part.joints]
    try:
        if not any(before):
            part.disarm()
            return []
        part.stop(StopKind.HOLD)  # what held would fall
        return [name for name, had, has in zip(names, before, part.torque_on(), strict=True) if has and not had]
    except BridgeError:
        on = [name for name, has in zip(names, part.torque_on(), strict=True) if has]
        return on or names


def torque_left(names: Sequence[str]) -> str:
    """The last line of the error of a refused arming. `names`: of joints that could not be brought back."""
    if not names:
        return "no bus is armed: torque is off again wherever it was off before"
    todo = "use the emergency stop or cut their power; mind that they may fall"
    return f"torque may have stayed on at {', '.join(names)}: {todo}"
