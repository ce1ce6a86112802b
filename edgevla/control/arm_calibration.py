"""The ranges that a person moves an arm through, and the calibration they make. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from edgevla.errors import Refused, explain
from firmware_bridge.arm import Joint
from firmware_bridge.calibration import MotorCalibration

SHORTEST = 100  # counts: a joint that was moved less was forgotten


@dataclass(frozen=True)
class Ranges:
    """Smallest, newest and largest count of each joint; `turns`: first and last count of its encoder."""

    turns: Mapping[str, tuple[int, int]]
    found: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def seen(self, positions: Mapping[str, int]) -> Ranges:
        """With one more reading of every joint."""
        before = {name: self.found.get(name, (at, at, at)) for name, at in positions.items()}
        found = {
            name: (min(low, positions[name]), positions[name], max(high, positions[name]))
            for name, (low, _, high) in before.items()
        }
        return Ranges(self.turns, found)


def calibration_of(
    joints: Sequence[Joint], offsets: Mapping[str, int], ranges: Ranges, full_turn: Collection[str]
) -> dict[str, MotorCalibration]:
    """Raises Refused for joints that were not moved through a range."""
    unmoved = [
        joint.name
        for joint in joints
        if joint.name not in full_turn and ranges.found[joint.name][2] - ranges.found[joint.name][0] < SHORTEST
    ]
    if unmoved:
        todo = "calibrate again, and move every joint to both of its ends"
        what = f"not calibrated: {', '.join(unmoved)} did not move"
        raise Refused(explain(what, f"at least {SHORTEST} counts", "less", todo))
    found = {}
    for joint in joints:
        low, _, high = ranges.found[joint.name]
        if joint.name in full_turn:
            low, high = ranges.turns[joint.name]
        found[joint.name] = MotorCalibration(joint.id, 0, offsets[joint.name], low, high)
    return found
