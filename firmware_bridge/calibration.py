"""Calibration files of LeRobot, as they are, and what they mean for a joint. Pure but for reading and writing.

    {"shoulder_pan": {"id": 1, "drive_mode": 0, "homing_offset": -12, "range_min": 700, "range_max": 3400}, ...}

Counts are those that the servo reports with `homing_offset` written into it. LeRobot (0.4, `motors_bus.py`) makes of
a count c, with range lo..hi and a servo of R counts a turn:

    degrees          (c - (lo + hi) / 2) * 360 / (R - 1)          drive_mode is not looked at
    range_m100_100   (c - lo) / (hi - lo) * 200 - 100             negated for drive_mode 1, Feetech only
    range_0_100      (c - lo) / (hi - lo) * 100                   100 - that for drive_mode 1, Feetech only

A channel here counts rad from the middle of the range, or, for unit "1" (a gripper), 0 .. 1 over it.
`lerobot_units` is the straight line between the two, for policies trained on LeRobot's numbers.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from firmware_bridge.arm import Joint
from firmware_bridge.errors import BadCalibration, explain

MODES = ("degrees", "range_m100_100", "range_0_100")
_MAX_BYTES = 256 * 1024
_TODO = "pass the file that LeRobot or `edgevla arm calibrate` wrote for this arm"


@dataclass(frozen=True)
class MotorCalibration:
    """One motor, as in the file; all whole numbers."""

    id: int
    drive_mode: int  # 1: counts backwards
    homing_offset: int  # counts
    range_min: int  # counts
    range_max: int  # counts, more than range_min


@dataclass(frozen=True)
class Scale:
    """How a family of servos counts, and what LeRobot makes of it."""

    counts_per_rad: float
    turn: int  # LeRobot's resolution R
    drive_mode_counts: bool = True  # whether LeRobot heeds drive_mode


FEETECH_STS = Scale(4096 / (2 * math.pi), 4096)
FEETECH_SCS = Scale(1024 / math.radians(300.0), 1024)
DYNAMIXEL = Scale(4096 / (2 * math.pi), 4096, drive_mode_counts=False)

Calibration = Mapping[str, MotorCalibration]


# --- the file -----------------------------------------------------------------------------------------------------


def read_calibration(path: Path) -> dict[str, MotorCalibration]:
    """Motors in the order of the file. Raises BadCalibration."""
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):  # a pipe would be waited for
            raise _bad(f"{path} is no calibration", "a regular file", "a device, pipe or socket")
        if found.st_size > _MAX_BYTES:
            raise _bad(f"{path} is no calibration", f"at most {_MAX_BYTES} bytes", found.st_size)
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise _bad(f"{path} cannot be read", "a readable file", error.strerror) from None
    except UnicodeDecodeError as error:
        raise _bad(f"{path} is no calibration", "UTF-8 text", error) from None


def parse(text: str, where: str) -> dict[str, MotorCalibration]:
    """Raises BadCalibration that names motor and key."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"{where} is no calibration", "JSON", error) from None
    if not isinstance(data, dict) or not data:
        raise _bad(f"{where} is no calibration", "an object of motors", type(data).__name__)
    found = {name: _motor(name, row, where) for name, row in data.items()}
    ids = [motor.id for motor in found.values()]
    if len(set(ids)) != len(ids):
        raise _bad(f"{where}: motors with one id", "each id once", ids)
    return found


def text_of(calibration: Calibration) -> str:
    """Byte for byte as LeRobot writes it: its keys in its order, four spaces, no newline at the end."""
    return json.dumps({name: asdict(motor) for name, motor in calibration.items()}, indent=4)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Whole or not at all; an older file is replaced: ask before. Raises BadCalibration."""
    parse(text_of(calibration), str(path))
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text_of(calibration), encoding="utf-8")
        os.replace(fresh, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise _bad(f"{path} cannot be written", "a folder that may be written", error.strerror) from None


def _motor(name: str, row: Any, where: str) -> MotorCalibration:
    keys = [field.name for field in fields(MotorCalibration)]
    if not isinstance(row, dict) or set(row) != set(keys):
        raise _bad(f"{where}: {name}", ", ".join(keys), ", ".join(row) if isinstance(row, dict) else row)
    for key in keys:
        if isinstance(row[key], bool) or not isinstance(row[key], int):
            raise _bad(f"{where}: {name}.{key}", "a whole number", row[key])
    motor = MotorCalibration(**row)
    rules = [
        (0 <= motor.id <= 253, "id", "0..253"),
        (motor.drive_mode in (0, 1), "drive_mode", "0 or 1"),
        (abs(motor.homing_offset) <= 1 << 20, "homing_offset", f"-{1 << 20}..{1 << 20} counts"),
        (abs(motor.range_min) <= 1 << 20, "range_min", f"-{1 << 20}..{1 << 20} counts"),
        (motor.range_min < motor.range_max <= 1 << 20, "range_max", f"more than range_min, {motor.range_min}"),
    ]
    for kept, key, expected in rules:
        if not kept:
            raise _bad(f"{where}: {name}.{key}", expected, row[key])
    return motor


# --- what it means ------------------------------------------------------------------------------------------------


def calibrated(joint: Joint, motor: MotorCalibration, scale: Scale, mode: str = "degrees") -> Joint:
    """`joint` as it is on this arm: its zero, its direction, and the part of its range that the calibration allows.

    `mode`: LeRobot's, of the policies that will drive it; it decides whether drive_mode turns the channel round.
    Raises BadCalibration for another id, or ranges that do not meet.
    """
    if joint.id != motor.id:
        raise _bad(f"calibration of {joint.name}", f"id {joint.id}", motor.id)
    low, high = motor.range_min / scale.counts_per_rad, motor.range_max / scale.counts_per_rad
    direction = -1 if _turned(motor, scale, mode, joint.unit) else 1
    if joint.unit == "1":
        zero = low if direction == 1 else high
        return replace(joint, direction=direction, zero_rad=zero, ratio=1 / (high - low), minimum=0.0, maximum=1.0)
    half = 0.5 * (high - low) * joint.ratio
    minimum, maximum = max(joint.minimum, -half), min(joint.maximum, half)
    if not minimum < maximum:
        ends = f"{-half:.3f}..{half:.3f} {joint.unit}"
        raise _bad(f"calibration of {joint.name}", f"a range that meets {joint.minimum:g}..{joint.maximum:g}", ends)
    return replace(joint, direction=direction, zero_rad=0.5 * (low + high), minimum=minimum, maximum=maximum)


def calibrated_joints(
    joints: Sequence[Joint], calibration: Calibration, scale: Scale, mode: str = "degrees"
) -> tuple[Joint, ...]:
    """Every joint by its name. Raises BadCalibration when the names differ."""
    names = [joint.name for joint in joints]
    if set(names) != set(calibration):
        raise _bad("the motors of the calibration", ", ".join(names), ", ".join(calibration))
    return tuple(calibrated(joint, calibration[joint.name], scale, mode) for joint in joints)


def lerobot_units(joint: Joint, motor: MotorCalibration, scale: Scale, mode: str) -> tuple[float, float]:
    """(gain, offset): LeRobot's number = gain * channel value + offset, for a joint that `calibrated` made."""
    per_unit = joint.direction * scale.counts_per_rad / joint.ratio  # counts
    at_zero = joint.zero_rad * scale.counts_per_rad
    span = motor.range_max - motor.range_min
    if mode == "degrees":
        gain = 360 / (scale.turn - 1)
        return gain * per_unit, gain * (at_zero - 0.5 * (motor.range_min + motor.range_max))
    if mode not in MODES:
        raise _bad("the unit of a motor", " or ".join(MODES), mode)
    full, floor = (200.0, -100.0) if mode == "range_m100_100" else (100.0, 0.0)
    gain, offset = full * per_unit / span, full * (at_zero - motor.range_min) / span + floor
    if not (scale.drive_mode_counts and motor.drive_mode):
        return gain, offset
    return (-gain, -offset) if mode == "range_m100_100" else (-gain, 100.0 - offset)


def _turned(motor: MotorCalibration, scale: Scale, mode: str, unit: str) -> bool:
    return bool(motor.drive_mode) and scale.drive_mode_counts and (unit == "1" or mode != "degrees")


def _bad(what: str, expected: object, got: object) -> BadCalibration:
    return BadCalibration(explain(what, expected, got, _TODO))
