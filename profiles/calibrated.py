"""An arm profile with the calibration of one arm: what `--calibration FILE` means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from firmware_bridge.arm import Joint
from firmware_bridge.calibration import (
    DYNAMIXEL,
    FEETECH_SCS,
    FEETECH_STS,
    Calibration,
    Scale,
    calibrated_joints,
    lerobot_units,
    read_calibration,
)
from firmware_bridge.dynamixel.options import parse, shadow_name
from firmware_bridge.errors import explain
from firmware_bridge.feetech.models import MODELS
from profiles.bridge import joints_of
from profiles.errors import ProfileError
from profiles.loader import load_arm
from profiles.model import ArmProfile


def load_calibrated(name_or_path: str, calibration: Path | None) -> ArmProfile:
    """The arm of that name or file, with the calibration where one is given. Raises ProfileError, BadCalibration."""
    arm = load_arm(name_or_path)
    return arm if calibration is None else with_calibration(arm, read_calibration(calibration))


def with_calibration(arm: ArmProfile, calibration: Calibration, mode: str = "degrees") -> ArmProfile:
    """Zero, direction and range of each joint from the file; the servos are held to its homing offsets.

    `mode`: see `firmware_bridge.calibration`. Raises BadCalibration for a file of another arm, ProfileError for an arm
    that LeRobot does not calibrate or whose start range lies outside.
    """
    joints = {joint.name: joint for joint in _calibrated(arm, calibration, mode)}
    channels = tuple(
        replace(
            channel,
            minimum=joint.minimum,
            maximum=joint.maximum,
            motor=replace(channel.motor, direction=joint.direction, zero_rad=joint.zero_rad, ratio=joint.ratio)
            if channel.motor is not None
            else None,
        )
        for channel, joint in ((channel, joints[channel.name]) for channel in arm.channels)
    )
    low = tuple(max(at, c.minimum) for at, c in zip(arm.start_low, channels, strict=True))
    high = tuple(min(at, c.maximum) for at, c in zip(arm.start_high, channels, strict=True))
    _require_start(arm, low, high)
    names = [channel.name for channel in channels] + [motor.name for motor in _shadows(arm)]
    options = {**arm.options, "homing_offsets": ",".join(str(calibration[name].homing_offset) for name in names)}
    return replace(arm, channels=channels, start_low=low, start_high=high, options=options)


def lerobot_lines(arm: ArmProfile, calibration: Calibration, mode: str = "degrees") -> dict[str, tuple[float, float]]:
    """Per channel (gain, offset): LeRobot's number = gain * channel + offset. Grippers: range_0_100, as there."""
    scale = scale_of(arm)
    joints = _calibrated(arm, calibration, mode)
    modes = {j.name: "range_0_100" if j.unit == "1" or j.name == "gripper" else mode for j in joints}
    return {j.name: lerobot_units(j, calibration[j.name], scale, modes[j.name]) for j in joints}


def scale_of(arm: ArmProfile) -> Scale:
    """How the servos of this arm count. Raises ProfileError for those that LeRobot does not calibrate."""
    if arm.protocol == "dynamixel":
        return DYNAMIXEL
    models = {channel.motor.model for channel in arm.channels if channel.motor is not None}
    if arm.protocol != "feetech" or not models <= MODELS.keys():
        todo = "leave --calibration out: this arm's zero is in its own firmware or profile"
        got = f"{arm.protocol} {', '.join(sorted(models))}"
        raise ProfileError(explain(f"no LeRobot calibration fits {arm.name}", "feetech or dynamixel", got, todo))
    series = {MODELS[model].series.name for model in models}
    return FEETECH_SCS if series == {"SCS"} else FEETECH_STS


def _calibrated(arm: ArmProfile, calibration: Calibration, mode: str) -> tuple[Joint, ...]:
    """The joints of the channels; shadows must be in the file too, where they are."""
    joints, shadows = [j for bus in arm.buses for j in joints_of(arm, bus)], _shadows(arm)
    every = calibrated_joints([*joints, *shadows], calibration, scale_of(arm), mode)
    return every[: len(joints)]


def _shadows(arm: ArmProfile) -> list[Joint]:
    """Servos that follow a joint's own, by the names that calibration files give them."""
    if arm.protocol != "dynamixel":
        return []
    joints = {joint.id: joint for bus in arm.buses for joint in joints_of(arm, bus)}
    found = parse(arm.options, tuple(joints.values())).shadow_list
    return [replace(joints[s.leader], name=shadow_name(joints[s.leader].name), id=s.id) for s in found]


def _require_start(arm: ArmProfile, low: tuple[float, ...], high: tuple[float, ...]) -> None:
    outside = [c.name for c, bottom, top in zip(arm.channels, low, high, strict=True) if bottom > top]
    if outside:
        todo = "calibrate again, or correct start_low and start_high of the profile"
        what = f"the calibrated range of {', '.join(outside)} holds nothing of the start range of {arm.name}"
        raise ProfileError(explain(what, "ranges that meet", "ranges apart", todo))
