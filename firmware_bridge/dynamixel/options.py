"""The `[options]` of a Dynamixel arm's profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, NoReturn

from firmware_bridge.arm import Joint
from firmware_bridge.config import Option
from firmware_bridge.dynamixel.models import MODELS, Model
from firmware_bridge.errors import BridgeError, explain, suggest

READS = ("full", "motion", "position")


class Shadow(NamedTuple):
    """A servo that follows `leader` by its secondary id. `mirrored`: it turns against it, seen from its own case."""

    id: int
    leader: int
    mirrored: bool


@dataclass(frozen=True)
class Options:
    """All of them have a default; lists are texts with commas, because a profile's options are plain values."""

    read: str = "full"  # what a cycle reads of each servo: see driver.READS
    fast: bool = True  # fast sync read where the firmware of every servo has it
    return_delay_us: int = 0  # written into Return Delay Time(9)
    profile_velocity_rad_s: float = 0.0  # of the servo's own profile generator; 0: none, the host interpolates
    profile_acceleration_rad_s2: float = 0.0
    reverse: str = ""  # joints whose servo has the reverse bit set: "shoulder, elbow"
    current_based: str = ""  # joints in mode 5: their max_effort becomes the servo's current limit
    shadows: str = ""  # "3:-2, 5:-4": servo 3 follows servo 2, mirrored; without the sign in the same sense
    homing_offsets: str = ""  # counts, joints then shadows: of the calibration that the servos must have

    def names(self, text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())

    @property
    def shadow_list(self) -> tuple[Shadow, ...]:
        """Raises ValueError."""
        pairs = [part.split(":") for part in self.names(self.shadows)]
        return tuple(Shadow(int(own), abs(int(leader)), int(leader) < 0) for own, leader in pairs)

    @property
    def homing(self) -> tuple[int, ...]:
        """Homing offsets, joints then shadows; empty: not compared. Raises ValueError."""
        return tuple(int(part) for part in self.names(self.homing_offsets))


def parse(options: Mapping[str, Option], joints: Sequence[Joint]) -> Options:
    """Raises BridgeError for an unknown option, a value of another kind, or a joint or id that is not there."""
    known = {field.name: type(field.default) for field in fields(Options)}
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known:
            _refuse(key, f"one of {', '.join(known)}", "not known", suggest(key, known))
        if known[key] is float and type(value) is int:
            value = float(value)
        if type(value) is not known[key]:
            _refuse(key, known[key].__name__, repr(value))
        values[key] = value
    parsed = Options(**values)
    _check(parsed, joints)
    return parsed


def shadow_name(leader: str) -> str:
    """What calibration files call the shadow of that joint (LeRobot, robots/viperx: shoulder_shadow)."""
    return f"{leader}_shadow"


def model_of(joint: Joint) -> Model:
    """Raises BridgeError for a model that the table does not have."""
    if joint.model not in MODELS:
        todo = "correct the motor's model in the arm profile"
        raise BridgeError(explain(f"unknown Dynamixel of {joint.name}", ", ".join(MODELS), joint.model, todo))
    return MODELS[joint.model]


def _check(options: Options, joints: Sequence[Joint]) -> None:
    names, ids = {joint.name for joint in joints}, [joint.id for joint in joints]
    if options.read not in READS:
        _refuse("read", f"one of {', '.join(READS)}", options.read)
    if not 0 <= options.return_delay_us <= 508 or options.return_delay_us % 2:
        _refuse("return_delay_us", "an even number, 0..508", options.return_delay_us)
    for key in ("profile_velocity_rad_s", "profile_acceleration_rad_s2"):
        if not 0.0 <= getattr(options, key) <= 100.0:
            _refuse(key, "0..100", getattr(options, key))
    for key in ("reverse", "current_based"):
        strange = set(options.names(getattr(options, key))) - names
        if strange:
            _refuse(key, f"names of {', '.join(sorted(names))}", ", ".join(sorted(strange)))
    for joint in joints:
        if joint.name in options.names(options.current_based) and model_of(joint).current_ma is None:
            _refuse("current_based", "servos that measure their current", f"{joint.name}: {joint.model} does not")
    try:
        shadows = options.shadow_list
    except ValueError:
        _refuse("shadows", '"SHADOW:LEADER", the leader negative where mirrored', options.shadows)
    own = [shadow.id for shadow in shadows]
    try:
        homing = options.homing
    except ValueError:
        _refuse("homing_offsets", "whole numbers", options.homing_offsets)
    if homing and len(homing) != len(joints) + len(shadows):
        _refuse("homing_offsets", f"one for each of {len(joints) + len(shadows)} servos", options.homing_offsets)
    if len(set(own + ids)) != len(own) + len(ids) or not {s.leader for s in shadows} <= set(ids):
        _refuse("shadows", f"ids of their own, following one of {ids}", options.shadows)
    if not all(0 <= i <= 252 for i in own + ids):
        _refuse("ids", "0..252", own + ids)


def _refuse(key: str, expected: object, got: object, meant: str = "") -> NoReturn:
    todo = meant + "correct [options] in the arm profile"
    raise BridgeError(explain(f"option {key} of a Dynamixel arm", expected, got, todo))
