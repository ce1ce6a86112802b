"""The ranges that a person moves an arm through, and the calibration they make. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgevla.errors import BadInput, Refused, Usage, explain
from firmware_bridge.arm import Joint
from firmware_bridge.calibration import MotorCalibration

SHORTEST = 100  # counts: a joint that was moved less was forgotten
_LITTLE = 0.5  # of the profile's range: a joint that was moved less sagged, or stood in its way
_END = 0.1  # of the range that was measured: a middle that near to its end is none

# Joints that go round, by arm: nobody turns them to both ends. LeRobot 0.4.4, so_follower and koch_follower; of ViperX,
# which it does not calibrate, those that the URDF lets turn a whole turn.
FULL_TURN: Mapping[str, tuple[str, ...]] = {
    "so100": ("wrist_roll",),
    "so101": ("wrist_roll",),
    "koch": ("shoulder_pan", "wrist_roll"),
    "viperx": ("waist", "forearm_roll", "wrist_rotate"),
}

# Where the actuators themselves hold the zero: the pose in which it is set. LeRobot 0.4.4, openarm_follower.
ZERO_POSE: Mapping[str, str] = {"openarm": "hanging straight down, every gripper closed"}

# What sets the zero of actuators that are not calibrated from here.
ELSEWHERE: Mapping[str, str] = {
    "odrive": "odrivetool: `odrv0.axis0.set_abs_pos(0)`, `odrv0.save_configuration()`; see docs/protocols/odrive.md",
    "moteus": "`moteus_tool --target ID --zero-offset` at each joint's zero; see docs/protocols/moteus.md",
    "cia402": "home with the drive maker's tool (607Ch, 6098h); see docs/protocols/cia402.md",
    "edgelink": "set the zero in your own firmware, where `board_sense` reads the encoders; see docs/firmware.md",
}


class Servos(Protocol):
    """What `calibrate.make` of a protocol gives. Everything raises BridgeError."""

    joints: tuple[Joint, ...]  # every motor of the file, in its order
    drive_modes: Mapping[str, int]

    def read(self) -> Any: ...  # what put_back takes; changes nothing
    def begin(self) -> None: ...
    def positions(self) -> dict[str, int]: ...
    def take_middle(self) -> dict[str, int]: ...
    def save(self, calibration: Mapping[str, MotorCalibration]) -> None: ...
    def put_back(self, before: Any) -> None: ...
    def notes(self, calibration: Mapping[str, MotorCalibration]) -> list[str]: ...


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


def full_turn_of(arm: str, joints: Sequence[Joint], asked: Sequence[str]) -> tuple[str, ...]:
    """Joints that go round: those of `--full-turn`, else the arm's. Raises Usage for one that is not there."""
    if not asked:
        return FULL_TURN.get(arm, ())
    if list(asked) == ["none"]:
        return ()
    names = [joint.name for joint in joints]
    if strange := set(asked) - set(names):
        raise Usage(explain("--full-turn", f"none, or {', '.join(names)}", ", ".join(sorted(strange)), "name joints"))
    return tuple(asked)


def calibration_of(
    joints: Sequence[Joint],
    offsets: Mapping[str, int],
    ranges: Ranges,
    full_turn: Collection[str],
    drive_modes: Mapping[str, int],
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
        found[joint.name] = MotorCalibration(joint.id, drive_modes[joint.name], offsets[joint.name], low, high)
    return found


def fitting(joints: Sequence[Joint], calibration: Mapping[str, MotorCalibration], where: str) -> None:
    """Raises Refused for the calibration of another arm: other motors, or other ids."""
    wanted = {joint.name: joint.id for joint in joints}
    found = {name: motor.id for name, motor in calibration.items()}
    if wanted != found:
        todo = "pass the file of this arm"
        expected, got = (", ".join(f"{name} {i}" for name, i in each.items()) for each in (wanted, found))
        raise Refused(explain(f"{where} is of another arm", expected, got, todo))


def doubts(
    joints: Sequence[Joint],
    calibration: Mapping[str, MotorCalibration],
    turns: Mapping[str, tuple[int, int]],
    full_turn: Collection[str],
    counts_per_rad: float,
) -> list[str]:
    """What looks wrong in ranges that were measured, a sentence each. `turns`: see `Ranges`."""
    found = []
    for joint in joints:
        motor, (first, last) = calibration[joint.name], turns[joint.name]
        if joint.name in full_turn:
            continue
        ends = f"{joint.name}: {motor.range_min} .. {motor.range_max}"
        low, high = joint.device_range_rad
        moved, wanted = motor.range_max - motor.range_min, round((high - low) * counts_per_rad)
        if moved < _LITTLE * wanted:
            found.append(f"{ends} are {moved} counts, {moved / wanted:.0%} of the profile's {wanted}")
        middle = (first + last) // 2
        if min(middle - motor.range_min, motor.range_max - middle) < _END * moved:
            found.append(f"{ends}: the middle that was shown, {middle}, lies at or beyond its end")
    return found


def storable(
    joints: Sequence[Joint],
    calibration: Mapping[str, MotorCalibration],
    turn_of: Callable[[Joint], tuple[int, int]],
    offsets_of: Callable[[Joint], tuple[int, int]],
    where: str,
) -> None:
    """Raises BadInput for a number that the servo's register does not take. After `fitting`."""
    for joint in joints:
        motor, turn, offsets = calibration[joint.name], turn_of(joint), offsets_of(joint)
        for key, value, (low, high) in (
            ("homing_offset", motor.homing_offset, offsets),
            ("range_min", motor.range_min, turn),
            ("range_max", motor.range_max, turn),
        ):
            if not low <= value <= high:
                todo = "correct the file, or calibrate again without --from; nothing was changed"
                raise BadInput(explain(f"{where}: {joint.name}.{key}", f"{low} .. {high} counts", value, todo))
