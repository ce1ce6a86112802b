"""What a profile may ask of Feetech servos in its `[options]`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from firmware_bridge.config import Option
from firmware_bridge.errors import BridgeError, explain, suggest
from firmware_bridge.feetech.codec import BLOCKS
from firmware_bridge.feetech.models import Register

OVERLOAD = ("stop", "report")


@dataclass(frozen=True)
class Options:
    """None: the servo's own value is left as it is. What is set acts until power-off; nothing is saved."""

    read: str = "motion"  # each cycle: motion (position, speed), effort (and load), all (and voltage, temperature)
    slow_every: int = 50  # cycles: then the torque switch and everything else is read too; 0: after a lost answer only
    overload: str = "stop"  # or report: the bit stands in `joint_faults`, the arm goes on with less torque
    acceleration: int | None = None  # of the servo's own ramp, 100 counts/s^2, 1..254
    goal_speed: int | None = None  # of the servo's own ramp, counts/s
    return_delay_us: int | None = None  # before each answer; the factory may have set up to 500
    p_gain: int | None = None
    i_gain: int | None = None
    d_gain: int | None = None
    overload_torque: int | None = None  # %, beyond it ...
    protection_ms: int | None = None  # ... for so long ...
    protective_torque: int | None = None  # ... the servo goes on with so much, %
    torque_limits: str = ""  # of each joint in channel order, %, "100,...,50"; max_effort of a joint limits it too
    homing_offsets: str = ""  # of the calibration, counts, "12,-3,..." in channel order: compared at connect

    @property
    def offsets(self) -> tuple[int, ...]:
        return _whole(self.homing_offsets)

    @property
    def limits(self) -> tuple[int, ...]:
        return _whole(self.torque_limits)


_RANGES = {
    "slow_every": (0, 1_000_000),
    "acceleration": (1, 254),
    "goal_speed": (1, 32_767),
    "return_delay_us": (0, 508),
    "p_gain": (0, 254),
    "i_gain": (0, 254),
    "d_gain": (0, 254),
    "overload_torque": (1, 100),
    "protection_ms": (0, 2_540),
    "protective_torque": (0, 100),
}
_LISTS = {"homing_offsets": (-2047, 2047), "torque_limits": (1, 100)}
_CHOICES = {"read": tuple(name for name in BLOCKS if name != "slow"), "overload": OVERLOAD}
_SETTINGS = {  # option -> register of one byte, unit of the register in units of the option
    "p_gain": (Register.P_GAIN, 1),
    "i_gain": (Register.I_GAIN, 1),
    "d_gain": (Register.D_GAIN, 1),
    "return_delay_us": (Register.RETURN_DELAY, 2),
    "overload_torque": (Register.OVERLOAD_TORQUE, 1),
    "protection_ms": (Register.PROTECTION_TIME, 10),
    "protective_torque": (Register.PROTECTIVE_TORQUE, 1),
}


def options_of(given: Mapping[str, Option], joints: int) -> Options:
    """Raises BridgeError for an option that is not known, of another type, or out of range."""
    known = [field.name for field in fields(Options)]
    for name, value in given.items():
        if name not in known:
            raise _wrong(f"unknown option {name!r} of feetech", ", ".join(known), name, suggest(name, known))
        _check(name, value, joints)
    return Options(**given)  # type: ignore[arg-type]  # each was checked above


def settings(options: Options) -> dict[Register, int]:
    """Registers of one byte below EEPROM_END and what they shall read."""
    asked = {name: getattr(options, name) for name in _SETTINGS}
    return {_SETTINGS[name][0]: value // _SETTINGS[name][1] for name, value in asked.items() if value is not None}


def _check(name: str, value: Option, joints: int) -> None:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise _wrong(f"option {name} of feetech", " or ".join(_CHOICES[name]), repr(value))
    elif name in _RANGES:
        low, high = _RANGES[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _wrong(f"option {name} of feetech", f"a whole number, {low}..{high}", repr(value))
    elif not isinstance(value, str) or not _one_each(value, joints, *_LISTS[name]):
        low, high = _LISTS[name]
        raise _wrong(f"option {name} of feetech", f"{joints} whole numbers {low}..{high}, commas between", repr(value))


def _one_each(text: str, joints: int, low: int, high: int) -> bool:
    """Whether it is empty, or one number per joint."""
    parts = text.split(",") if text else []
    if not all(re.fullmatch(r" *-?[0-9]{1,5} *", part) for part in parts):
        return False
    return len(parts) in (0, joints) and all(low <= value <= high for value in _whole(text))


def _whole(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",")) if text else ()


def _wrong(what: str, expected: str, got: str, meant: str = "") -> BridgeError:
    return BridgeError(explain(what, expected, got, meant + "correct [options] of the arm profile"))
