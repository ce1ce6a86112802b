"""Read and check a profile. `name_or_path` is a shipped name ("host") or a path to your own TOML file."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from firmware_bridge.errors import explain, suggest
from profiles.errors import ProfileError
from profiles.keys import ARM, TARGET, Keys, kind_of, line_of, place, unknown
from profiles.model import (
    ARTIFACTS,
    FASTEST,
    FASTEST_OTHER,
    JOINT_KINDS,
    ON_EXPIRY,
    PROTOCOLS,
    TORQUE_POLICIES,
    ArmProfile,
    CameraSpec,
    Cartesian,
    ChainJoint,
    Channel,
    Motor,
    StateChannel,
    Target,
)
from profiles.strict import Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HERE = Path(__file__).parent
_MAX_BYTES = 256 * 1024  # a profile is a page of text
_CHOOSE = "check the path, or take a shipped one: `edgevla profiles list`"
_T = TypeVar("_T")


def list_targets() -> list[str]:
    """Names of the shipped targets, sorted."""
    return sorted(path.stem for path in (_HERE / "targets").glob("*.toml"))


def list_arms() -> list[str]:
    """Names of the shipped arms, sorted."""
    return sorted(path.stem for path in (_HERE / "arms").glob("*.toml"))


def load_target(name_or_path: str | Path) -> Target:
    """The target of that name or file. Raises ProfileError."""
    return _load("target", name_or_path, list_targets(), TARGET, _target)


def load_arm(name_or_path: str | Path) -> ArmProfile:
    """The arm of that name or file. Raises ProfileError."""
    return _load("arm", name_or_path, list_arms(), ARM, _arm)


def load_file(path: str | Path) -> Target | ArmProfile:
    """A target or an arm, told apart by its keys. Raises ProfileError."""
    text, data = _read(Path(path))
    kind = kind_of(data)
    if not kind:
        expected = "`channels`, `protocol` and more of an arm, or `arch`, `latency_budget_s` and more of a target"
        _refuse(f"{path} is neither a target nor an arm", expected, f"only {', '.join(data)}", Table.todo)
    return _build(path, text, data, ARM, _arm) if kind == "arm" else _build(path, text, data, TARGET, _target)


def _load(kind: str, name_or_path: str | Path, known: list[str], keys: Keys, build: Callable[[Table], _T]) -> _T:
    path = _find(kind, str(name_or_path), known)
    text, data = _read(path)
    if kind_of(data) not in (kind, ""):
        _refuse(f"{path} is the profile of another kind", f"of kind {kind}", f"of kind {kind_of(data)}", _CHOOSE)
    return _build(path, text, data, keys, build)


def _build(path: str | Path, text: str, data: dict[str, Any], keys: Keys, build: Callable[[Table], _T]) -> _T:
    for at, key, missing in unknown(data, keys):
        line = line_of(text, at, key)
        what = f"{path}{'' if line is None else f', line {line}'}: unknown key `{key}`"
        expected = f"only known keys; {place(at) or 'the profile'} may also have: {', '.join(missing) or 'nothing'}"
        _refuse(what, expected, f"`{key}`", suggest(key, missing) + Table.todo)
    table = Table(str(path), data)
    value = build(table)
    table.nothing_left()
    return value


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of the file and what it says."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            _refuse(f"{path} is no profile", f"a page of TOML, {_MAX_BYTES} bytes at most", f"{size} bytes", _CHOOSE)
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        _refuse(f"{path} cannot be read", "a readable TOML file", error.strerror, _CHOOSE)
    except UnicodeDecodeError as error:
        _refuse(f"{path} is not valid TOML", "UTF-8 text", error, _CHOOSE)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        _refuse(f"{path} is not valid TOML", "TOML", error, Table.todo)  # the error names line and column
    if not data:
        _refuse(f"{path} is empty", "the keys of a target or an arm", f"{size} bytes without a key", Table.todo)
    return text, data


def _refuse(what: str, expected: str, got: object, todo: str) -> NoReturn:
    raise ProfileError(explain(what, expected, got, todo))


def _find(kind: str, name: str, known: list[str]) -> Path:
    if name in known:
        return _HERE / f"{kind}s" / f"{name}.toml"
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    expected = f"one of {', '.join(known)}, or a path to a .toml file"
    _refuse(f"unknown {kind} {name!r}", expected, repr(name), "see `edgevla profiles list`")


def _target(table: Table) -> Target:
    return Target(
        name=table.text("name"),
        description=table.text("description"),
        arch=table.text("arch"),
        providers=table.texts("providers"),
        artifact=table.text("artifact", ARTIFACTS),
        latency_budget_s=table.number("latency_budget_s", 1e-4, 10.0),
        replan_ticks=table.whole("replan_ticks", 1, 10_000),
        survive_misses=table.whole("survive_misses", 0, 1_000),
        servo_ratio=table.whole("servo_ratio", 1, 100),
        servo_core=_core(table, "servo_core"),
        policy_core=_core(table, "policy_core"),
        servo_priority=table.whole("servo_priority", 1, 99),
        policy_threads=table.whole("policy_threads", 1, 64),
        memory_mb=table.whole("memory_mb", 16, 1_048_576),
        hang_s=table.number("hang_s", 0.01, 60.0),
        measured=table.truth("measured"),
    )


def _core(table: Table, key: str) -> int | None:
    """A core number, or -1 for not pinned (TOML has no null)."""
    core = table.whole(key, -1, 1023)
    return None if core == -1 else core


def _arm(table: Table) -> ArmProfile:
    channels = table.each("channels", _channel)
    buses = table.texts("buses") if table.has("buses") else ("main",)
    arm = ArmProfile(
        name=table.text("name"),
        description=table.text("description"),
        protocol=table.text("protocol", PROTOCOLS),
        baud=table.whole("baud", 1_200, 10_000_000),
        channels=channels,
        state=table.each("state", _state),
        cameras=table.each("cameras", _camera),
        watchdog_s=_watchdog(table),
        hold_s=table.number("hold_s", 0.0, 60.0),
        torque_s=table.number("torque_s", 0.0, 86_400.0),
        torque_policy=table.text("torque_policy", TORQUE_POLICIES),
        on_expiry=table.text("on_expiry", ON_EXPIRY),
        falls_on_loss=table.truth("falls_on_loss"),
        command_ttl_s=table.number("command_ttl_s", 1e-4, 1.0),
        max_state_age_s=table.number("max_state_age_s", 1e-4, 10.0),
        max_skew_s=table.number("max_skew_s", 1e-4, 10.0),
        return_delay_s=table.number("return_delay_s", 0.0, 0.1),
        start_low=table.numbers("start_low", len(channels)),
        start_high=table.numbers("start_high", len(channels)),
        cartesian=table.one("cartesian", lambda inside: _cartesian(inside, channels))
        if table.has("cartesian")
        else None,
        buses=buses,
        data_baud=table.whole("data_baud", 1_200, 10_000_000) if table.has("data_baud") else None,
        usb_turnaround_s=table.number("usb_turnaround_s", 0.0, 0.1) if table.has("usb_turnaround_s") else 0.0,
        options=table.one("options", _options) if table.has("options") else {},
    )
    _check_start(table, arm)
    _check_motors(table, arm)
    return arm


def _channel(table: Table) -> Channel:
    minimum, unit = table.number("minimum"), table.text("unit")
    velocity, acceleration, jerk = FASTEST.get(unit, FASTEST_OTHER)
    max_acceleration = table.number("max_acceleration", 1e-9, acceleration)
    max_effort = _positive_or_none(table, "max_effort")
    max_following_error = _positive_or_none(table, "max_following_error")
    watched = max_effort is not None or max_following_error is not None
    if table.has("effort_s") and not watched:
        table.fail("effort_s", "max_effort or max_following_error beside it", "neither of them")
    return Channel(
        name=table.text("name"),
        unit=unit,
        minimum=minimum,
        maximum=table.number("maximum", math.nextafter(minimum, math.inf)),
        max_velocity=table.number("max_velocity", 1e-9, velocity),
        max_acceleration=max_acceleration,
        max_jerk=table.number("max_jerk", 1e-9, jerk),
        stop_deceleration=table.number("stop_deceleration", 1e-9, max_acceleration),
        max_effort=max_effort,
        max_following_error=max_following_error,
        effort_s=table.number("effort_s", 0.0, 10.0) if watched else 0.0,
        motor=table.one("motor", _motor) if table.has("motor") else None,
    )


def _motor(table: Table) -> Motor:
    direction = table.whole("direction", -1, 1) if table.has("direction") else 1
    if direction == 0:
        table.fail("direction", "1 or -1", direction)
    return Motor(
        id=table.whole("id", 0, 0x1FFF_FFFF),
        model=table.text("model"),
        bus=table.text("bus") if table.has("bus") else "main",
        direction=direction,
        zero_rad=table.number("zero_rad") if table.has("zero_rad") else 0.0,
        ratio=table.number("ratio", 1e-9) if table.has("ratio") else 1.0,
        kp=table.number("kp", 0.0) if table.has("kp") else None,
        kd=table.number("kd", 0.0) if table.has("kd") else None,
        torque_ff=table.number("torque_ff") if table.has("torque_ff") else 0.0,
        reply_id=table.whole("reply_id", 0, 0x1FFF_FFFF) if table.has("reply_id") else None,
    )


def _options(table: Table) -> dict[str, float | int | str | bool]:
    """Whatever the protocol knows: its driver refuses the rest, and values of another kind."""
    return {key: table.plain(key) for key in table.names()}


def _check_motors(table: Table, arm: ArmProfile) -> None:
    """All channels have a motor or none; ids once per bus; each bus is one that is listed."""
    motors = [channel.motor for channel in arm.channels if channel.motor is not None]
    if arm.protocol != "edgelink" and len(motors) != len(arm.channels):
        missing = [channel.name for channel in arm.channels if channel.motor is None]
        table.fail(
            "channels", f"a motor for each: {arm.protocol} has one per channel", f"none for {', '.join(missing)}"
        )
    places = [(motor.bus, motor.id) for motor in motors]
    if len(set(places)) != len(places):
        table.fail("channels", "each motor id once per bus", [f"{bus}:{motor_id}" for bus, motor_id in places])
    strange = {motor.bus for motor in motors} - set(arm.buses)
    if strange:
        table.fail("buses", "every bus that a motor names", f"{arm.buses}, without {', '.join(sorted(strange))}")


def _positive_or_none(table: Table, key: str) -> float | None:
    return table.number(key, 1e-9) if table.has(key) else None


def _cartesian(table: Table, channels: tuple[Channel, ...]) -> Cartesian:
    minimum, maximum = _three(table, "minimum"), _three(table, "maximum")
    if not all(low < high for low, high in zip(minimum, maximum, strict=True)):
        table.fail("maximum", f"more than minimum {minimum} on each axis", maximum)
    units = {channel.name: channel.unit for channel in channels}
    named = table.texts("channels") if table.has("channels") else ()
    if named and (len(set(named)) != 3 or any(units.get(name) != "m" for name in named)):
        table.fail("channels", "three different channels of unit m: x, y, z", named)
    if named:
        _check_box(table, channels, named, minimum, maximum)
    joints = () if named else table.each("joints", lambda inside: _joint(inside, units))
    used = [joint.channel for joint in joints]
    if len(set(used)) != len(used):
        table.fail("joints", "each channel once", used)
    tip = (0.0, 0.0, 0.0) if named else _three(table, "tip_xyz")
    return Cartesian(table.number("max_speed", 1e-6, FASTEST["m"][0]), minimum, maximum, named, joints, tip)


def _check_box(
    table: Table,
    channels: tuple[Channel, ...],
    named: tuple[str, ...],
    minimum: tuple[float, ...],
    maximum: tuple[float, ...],
) -> None:
    """The box and the ranges of x, y, z must overlap: together they are the range."""
    ranges = {channel.name: (channel.minimum, channel.maximum) for channel in channels}
    for name, low, high in zip(named, minimum, maximum, strict=True):
        if not max(low, ranges[name][0]) < min(high, ranges[name][1]):
            table.fail("minimum", f"{name}: a box that overlaps its range {ranges[name]}", (low, high))


def _joint(table: Table, units: dict[str, str]) -> ChainJoint:
    channel = table.text("channel", tuple(units))
    kind = table.text("kind", JOINT_KINDS)
    unit = "rad" if kind == "revolute" else "m"
    if units[channel] != unit:
        table.fail("kind", f"a {kind} joint's channel in {unit}", f"{channel} is in {units[channel]}")
    axis = _three(table, "axis")
    if math.hypot(*axis) < 1e-6:
        table.fail("axis", "a direction", axis)
    return ChainJoint(channel, kind, _three(table, "xyz"), _three(table, "rpy"), axis)


def _three(table: Table, key: str) -> tuple[float, float, float]:
    x, y, z = table.numbers(key, 3)
    return x, y, z


def _state(table: Table) -> StateChannel:
    return StateChannel(name=table.text("name"), unit=table.text("unit"))


def _camera(table: Table) -> CameraSpec:
    return CameraSpec(
        name=table.text("name"),
        width=table.whole("width", 1, 8_192),
        height=table.whole("height", 1, 8_192),
        rate_hz=table.number("rate_hz", 0.1, 1_000.0),
        max_age_s=table.number("max_age_s", 1e-3, 10.0),
    )


def _watchdog(table: Table) -> float | None:
    if table.raw("watchdog_s", 'seconds, or "none"') == "none":
        return None
    return table.number("watchdog_s", 1e-3, 10.0)


def _check_start(table: Table, arm: ArmProfile) -> None:
    for channel, low, high in zip(arm.channels, arm.start_low, arm.start_high, strict=True):
        if not channel.minimum <= low <= high <= channel.maximum:
            bounds = f"{channel.minimum:g} <= start_low <= start_high <= {channel.maximum:g}"
            table.fail("start_low", f"{channel.name}: {bounds}", (low, high))
