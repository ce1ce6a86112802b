"""What a profile may ask of Feetech servos in its `[options]`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from firmware_bridge.config import Option
from firmware_bridge.errors import BridgeError, explain
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
    homing_offsets: str = ""  # of the calibration, counts, "12,-3,..." in channel order: compared at connect

    @property
    def offsets(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.homing_offsets.split(",")) if self.homing_offsets else ()


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
            raise _wrong(f"unknown option {name!r} of feetech", ", ".join(known), name)
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
    elif not isinstance(value, str) or not _offsets(value, joints):
        raise _wrong(f"option {name} of feetech", f"{joints} whole numbers with commas between", repr(value))


def _offsets(text: str, joints: int) -> bool:
    """Whether it is empty, or one homing offset per joint."""
    parts = text.split(",") if text else []
    sound = all(part.strip().removeprefix("-").isdecimal() and abs(int(part)) < 1 << 11 for part in parts)
    return sound and len(parts) in (0, joints)


def _wrong(what: str, expected: str, got: str) -> BridgeError:
    return BridgeError(explain(what, expected, got, "correct [options] of the arm profile"))
