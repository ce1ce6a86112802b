"""An arm profile from its table, every value checked."""

from __future__ import annotations

import math

from profiles.model import (
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
)
from profiles.strict import Table


def read_arm(table: Table) -> ArmProfile:
    """The arm that the table describes. Raises ProfileError."""
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
