"""Limits on absolute set-points: range, velocity, acceleration, jerk, Cartesian. Pure, per channel, float64 inside.

The limiter is the last judge before the codec. With h the time since the last command, a step gives

    v' = (s' - s) / h      a' = (v' - v) / h      j = (a' - a) / h

and every step obeys low <= s' <= high, |v'| <= max_velocity, |a'| <= max_acceleration, |j| <= max_jerk. A command from
which the arm could no longer brake before the end of its range is not made: of the accelerations between the wanted
one and full braking, the nearest to the wanted one that can still brake is taken. This holds for commands at any
distance of `step_s` or more, so also after skipped periods.

Precedence where a start state leaves no choice: range, jerk, acceleration, velocity, then Cartesian limits, which only
ever choose among steps that the others allow. Three starts leave none, and each is led back within the rest:
outside the range (no further out than a stop takes it), faster than max_velocity, or with more than max_acceleration.

On the wire a set-point is float32. Ends of ranges are float32 numbers, so rounding never leaves the range;
max_velocity is lowered by one float32 spacing per step, so that rounded set-points keep it too. Acceleration and
jerk are those of the float64 motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgevla.control.braking import Axis, axis_of, travel_up
from edgevla.control.channel import Row, slow_channel, stepped, track_channel
from edgevla.control.kinematics import Tool, tool_of
from profiles.model import ArmProfile

Array = NDArray[np.float64]

_MIXES = 6  # halvings between the wanted step and full braking, for the tool


class Limited(IntFlag):
    """What the limiter changed."""

    NONE = 0
    ACCELERATION = 1
    VELOCITY = 2
    RANGE = 4
    NOT_FINITE = 8  # the wanted set-point was rejected, the arm slows down
    JERK = 16
    CARTESIAN = 32


_CARTESIAN = 32


@dataclass(frozen=True)
class Limits:
    """One value per channel, float64 (n,), in the channel's unit and seconds."""

    minimum: Array
    maximum: Array
    max_velocity: Array
    max_acceleration: Array
    max_jerk: Array
    stop_deceleration: Array  # <= max_acceleration
    step_s: float  # the shortest time between two commands (Ts)
    tool: Tool | None = None  # Cartesian limits

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The channels one by one, max_velocity lowered by what float32 rounding may add."""
        ends = np.maximum(np.abs(self.minimum), np.abs(self.maximum)).astype(np.float32)
        velocity = np.maximum(self.max_velocity - np.spacing(ends) / self.step_s, 0.0)
        columns = (self.minimum, self.maximum, velocity, self.max_acceleration, self.max_jerk, self.stop_deceleration)
        return tuple(axis_of(row, self.step_s) for row in np.stack(columns, axis=1).tolist())

    @cached_property
    def hurried(self) -> tuple[Axis, ...]:
        """`axes` of a stop that spares nothing."""
        return tuple(axis._replace(deceleration=axis.acceleration) for axis in self.axes)

    @cached_property
    def reaches(self) -> tuple[float, ...]:
        """Per channel: nearer to an end than this (and one step), braking must be looked at."""
        return tuple(travel_up(axis, axis.velocity, axis.acceleration) for axis in self.axes)


@dataclass(frozen=True)
class Motion:
    """The last command and its rates, each float64 (n,): channel units, per second, per second squared."""

    setpoint: Array
    velocity: Array
    acceleration: Array
    wanted: Array | None = None  # (2, n) what was asked for last, and its velocity; None after a stop

    @staticmethod
    def at_rest(setpoint: NDArray[np.floating]) -> Motion:
        return Motion(np.array(setpoint, np.float64), np.zeros(len(setpoint)), np.zeros(len(setpoint)))

    @property
    def resting(self) -> bool:
        return not self.velocity.any() and not self.acceleration.any()


def limits_of(arm: ArmProfile, step_s: float) -> Limits:
    """Limits of an arm profile for commands `step_s` apart or more (Ts); ranges as float32, like the wire."""

    def column(name: str) -> Array:
        return np.array([getattr(channel, name) for channel in arm.channels], np.float64)

    minimum, maximum = column("minimum"), column("maximum")
    if arm.cartesian is not None and arm.cartesian.channels:  # the box is a range: kept as ranges are
        box = [[channel.name for channel in arm.channels].index(name) for name in arm.cartesian.channels]
        minimum[box] = np.maximum(minimum[box], arm.cartesian.minimum)
        maximum[box] = np.minimum(maximum[box], arm.cartesian.maximum)
    return Limits(
        minimum=minimum.astype(np.float32).astype(np.float64),
        maximum=maximum.astype(np.float32).astype(np.float64),
        max_velocity=column("max_velocity"),
        max_acceleration=column("max_acceleration"),
        max_jerk=column("max_jerk"),
        stop_deceleration=column("stop_deceleration"),
        step_s=step_s,
        tool=tool_of(arm),
    )


def track(limits: Limits, motion: Motion, wanted: NDArray[np.floating], elapsed_s: float) -> tuple[Motion, Limited]:
    """Towards `wanted` (n,) as far as the limits allow in `elapsed_s` since the last command.

    A target that cannot be reached in this step is approached so that the arm stops on it, seen from the target's own
    speed and acceleration. A wanted set-point that is not finite or has another shape is rejected: the arm slows down.
    """
    target = np.asarray(wanted, np.float64)
    if target.shape != motion.setpoint.shape or not np.isfinite(target).all():
        slower, hit = slow_down(limits, motion, elapsed_s)
        return slower, hit | Limited.NOT_FINITE
    aims = target.tolist()
    before, before_v = (aims, [0.0] * len(aims)) if motion.wanted is None else motion.wanted.tolist()
    aims_v = [(aim - last) / elapsed_s for aim, last in zip(aims, before, strict=True)]
    bits = 0
    rows = []
    for axis, reach, s, v, a, aim, aim_v, last_v in zip(
        limits.axes, limits.reaches, *_columns(motion), aims, aims_v, before_v, strict=True
    ):
        row, bit = track_channel(axis, reach, s, v, a, (aim, aim_v, (aim_v - last_v) / elapsed_s), elapsed_s)
        rows.append(row)
        bits |= bit
    rows, cut = _kept_by_tool(limits, motion, rows, elapsed_s)
    return _motion(rows, np.array((aims, aims_v))), Limited(bits | cut)


def slow_down(limits: Limits, motion: Motion, elapsed_s: float) -> tuple[Motion, Limited]:
    """One step of the stop: `stop_deceleration`, jerk-limited at both ends of it; harder only before a range's end."""
    bits = 0
    rows = []
    for axis, reach, s, v, a in zip(limits.axes, limits.reaches, *_columns(motion), strict=True):
        row, bit = slow_channel(axis, reach, s, v, a, elapsed_s)
        rows.append(row)
        bits |= bit
    rows, cut = _kept_by_tool(limits, motion, rows, elapsed_s)
    return _motion(rows, None), Limited(bits | cut)


def hold(motion: Motion) -> Motion:
    """The last commanded position, at rest."""
    return Motion.at_rest(motion.setpoint)


def seconds_to_rest(limits: Limits) -> float:
    """No stop by `slow_down` takes longer: bring the acceleration down, decelerate from full speed, let go."""
    jerks = (limits.max_acceleration + limits.stop_deceleration) / limits.max_jerk
    return float(np.max(jerks + limits.max_velocity / limits.stop_deceleration)) + 3.0 * limits.step_s


def _columns(motion: Motion) -> tuple[list[float], list[float], list[float]]:
    return motion.setpoint.tolist(), motion.velocity.tolist(), motion.acceleration.tolist()


def _motion(rows: list[Row], wanted: Array | None) -> Motion:
    setpoint, velocity, acceleration = np.array(rows).T
    return Motion(setpoint, velocity, acceleration, wanted)


def _kept_by_tool(limits: Limits, motion: Motion, rows: list[Row], h: float) -> tuple[list[Row], int]:
    """`rows`, or as much of them, the rest being full braking, as speed and box of the tool allow.

    Every mix of two steps that the other limits allow is allowed by them. Where even full braking is too much, that.
    """
    tool = limits.tool
    before, v, a = _columns(motion)
    if tool is None or tool.keeps(limits.axes, before, rows, h):
        return rows, 0
    channels = zip(limits.hurried, limits.reaches, before, v, a, strict=True)
    braked = [slow_channel(*channel, h)[0] for channel in channels]
    good, bad = 0.0, 1.0
    kept = braked
    for _ in range(_MIXES):
        share = 0.5 * (good + bad)
        mixed = [
            stepped(axis, s, speed, slow[2] + share * (fast[2] - slow[2]), h)
            for axis, s, speed, slow, fast in zip(limits.axes, before, v, braked, rows, strict=True)
        ]
        if tool.keeps(limits.axes, before, mixed, h):
            good, kept = share, mixed
        else:
            bad = share
    return kept, _CARTESIAN
