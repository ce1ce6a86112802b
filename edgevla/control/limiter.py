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

from edgevla.control.braking import Axis, axis_of, can_stay, largest_acceleration, travel_up
from edgevla.control.kinematics import Tool, tool_of
from profiles.model import ArmProfile

Array = NDArray[np.float64]

_TRIALS = 12  # of the search for the last acceleration that can brake; 4 to 6 are the rule
_MIXES = 6  # halvings between the wanted step and full braking, for the tool
_REST = 1e-9  # channel units per second: rounding left of a stop, not a motion


class Limited(IntFlag):
    """What the limiter changed."""

    NONE = 0
    ACCELERATION = 1
    VELOCITY = 2
    RANGE = 4
    NOT_FINITE = 8  # the wanted set-point was rejected, the arm slows down
    JERK = 16
    CARTESIAN = 32


_JERK, _ACCELERATION, _VELOCITY, _RANGE, _CARTESIAN = (
    16,
    1,
    2,
    4,
    32,
)  # IntFlag arithmetic costs a microsecond an operation


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
        row, bit = _track(axis, reach, s, v, a, (aim, aim_v, (aim_v - last_v) / elapsed_s), elapsed_s)
        rows.append(row)
        bits |= bit
    rows, cut = _kept_by_tool(limits, motion, rows, elapsed_s)
    return _motion(rows, np.array((aims, aims_v))), Limited(bits | cut)


def slow_down(limits: Limits, motion: Motion, elapsed_s: float) -> tuple[Motion, Limited]:
    """One step of the stop: `stop_deceleration`, jerk-limited at both ends of it; harder only before a range's end."""
    bits = 0
    rows = []
    for axis, reach, s, v, a in zip(limits.axes, limits.reaches, *_columns(motion), strict=True):
        row, bit = _slow_down(axis, reach, s, v, a, elapsed_s)
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


Row = tuple[float, float, float]  # set-point, velocity, acceleration
Frame = tuple[float, float]  # velocity, acceleration
_STILL = (0.0, 0.0)


def _columns(motion: Motion) -> tuple[list[float], list[float], list[float]]:
    return motion.setpoint.tolist(), motion.velocity.tolist(), motion.acceleration.tolist()


def _motion(rows: list[Row], wanted: Array | None) -> Motion:
    setpoint, velocity, acceleration = np.array(rows).T
    return Motion(setpoint, velocity, acceleration, wanted)


def _track(axis: Axis, reach: float, s: float, v: float, a: float, wanted: Row, h: float) -> tuple[Row, int]:
    """One channel's step towards `wanted`: a set-point, its velocity and its acceleration."""
    aim = wanted[0]
    target = axis.low if aim < axis.low else axis.high if aim > axis.high else aim
    bits = 0 if target == aim else _RANGE
    speed = (target - s) / h
    free = (speed - v) / h
    if _plainly_allowed(axis, reach, s, speed, a, free, h):
        return (target, speed, free), bits
    slack = 1e-6 * max(1.0, abs(s)) / (h * h)  # what float32 rounding of a set-point can explain is no limit
    low, high = _window(axis, a, h)
    chosen = low if free < low else high if free > high else free
    if abs(chosen - free) > slack:
        bits |= _ACCELERATION if abs(chosen) == axis.acceleration else _JERK
    bounded = _bounded_in_speed(axis, v, chosen, low, high, h)
    if abs(bounded - chosen) > slack + 1e-3 * axis.velocity / h:
        bits |= _VELOCITY
    if axis.nimble:
        return _stepped(axis, s, v, bounded, h), bits
    if bounded != free:
        eased = _approach(axis, s, v, bounded, (target, *wanted[1:]), low, high, h)
        bounded = _bounded_in_speed(axis, v, eased, low, high, h)
    braking = _bounded_in_range(axis, reach, s, v, a, bounded, low, high, h)
    if abs(braking - bounded) > slack:
        bits |= _RANGE
    if braking == free:
        return (target, speed, free), bits
    return _stepped(axis, s, v, braking, h), bits


def _plainly_allowed(axis: Axis, reach: float, s: float, v: float, a: float, free: float, h: float) -> bool:
    """The common case, at a glance: the step to the target, velocity `v` and acceleration `free`, breaks nothing."""
    if abs(free) > axis.acceleration or abs(free - a) > axis.jerk * h:
        return False
    if axis.nimble:
        return abs(v) <= axis.velocity
    near = reach + axis.velocity * h
    if not axis.low + near <= s <= axis.high - near:
        return False
    return abs(v) + 0.5 * free * free / axis.jerk <= axis.velocity


def _slow_down(axis: Axis, reach: float, s: float, v: float, a: float, h: float) -> tuple[Row, int]:
    low, high = _window(axis, a, h)
    hardest = min(largest_acceleration(axis, abs(v), h), axis.deceleration)
    chosen = min(max(-hardest if v > 0.0 else hardest, low), high)
    braking = _bounded_in_range(axis, reach, s, v, a, chosen, low, high, h)
    if abs(v + braking * h) < _REST:
        return (s, 0.0, -v / h if abs(v) >= _REST else 0.0), 0
    return _stepped(axis, s, v, braking, h), _RANGE if braking != chosen else 0


def _window(axis: Axis, a: float, h: float) -> tuple[float, float]:
    """The accelerations that jerk and acceleration limits leave; one alone when `a` itself is beyond its limit."""
    change = axis.jerk * h
    low, high, most = a - change, a + change, axis.acceleration
    if low < -most:
        low = -most
    if high > most:
        high = most
    if low > high:
        low = high = a - change if a > 0.0 else a + change
    return low, high


def _bounded_in_speed(axis: Axis, v: float, a: float, low: float, high: float, h: float) -> float:
    """`a`, unless it or the way back from it to zero goes beyond max_velocity."""
    if abs(v) + abs(a) * h + 0.5 * a * a / axis.jerk <= axis.velocity:
        return a  # at a glance: steps of any length gain no more than this
    above, below = axis.velocity - v, axis.velocity + v
    if a > 0.0 or above < 0.0:
        most = largest_acceleration(axis, above, h) if above >= 0.0 else above / h
        a = max(min(a, most), low)
    if a < 0.0 or below < 0.0:
        most = largest_acceleration(axis, below, h) if below >= 0.0 else below / h
        a = min(max(a, -most), high)
    return a


def _approach(axis: Axis, s: float, v: float, a: float, wanted: Row, low: float, high: float, h: float) -> float:
    """`a`, or less, so that seen from the moving target the arm stops on it and not behind it."""
    target, speed, rise = wanted
    fastest, most = axis.velocity, 0.5 * axis.acceleration
    speed = -fastest if speed < -fastest else fastest if speed > fastest else speed
    rise = -most if rise < -most else most if rise > most else rise
    if target >= s:
        return _last_that_brakes(axis, target - s, v, (speed, rise), a, low, h)
    return -_last_that_brakes(axis, s - target, -v, (-speed, -rise), -a, -high, h)


def _bounded_in_range(
    axis: Axis, reach: float, s: float, v: float, a: float, chosen: float, low: float, high: float, h: float
) -> float:
    """`chosen`, or the nearest acceleration from which both ends of the range can still be kept."""
    above, below = axis.high - s, s - axis.low
    near = reach + axis.velocity * h
    if above >= near and below >= near:
        return chosen
    if above < 0.0:
        above = travel_up(axis, v, a)  # outside, after a re-arm: no further out than a stop takes it
    if below < 0.0:
        below = travel_up(axis, -v, -a)
    found = chosen
    if above < near:
        found = _last_that_brakes(axis, above, v, _STILL, found, low, h)
    if below < near:
        found = -_last_that_brakes(axis, below, -v, _STILL, -found, -high, h)
    if found == chosen or not can_stay(axis, v, a):
        return found
    brakes = _spare(axis, above, v, _STILL, found, h) >= 0.0 and _spare(axis, below, -v, _STILL, -found, h) >= 0.0
    return found if brakes else -v / h


def _last_that_brakes(axis: Axis, room: float, v: float, frame: Frame, a: float, least: float, h: float) -> float:
    """The largest acceleration between `least` and `a` after which `room` above is enough to stop in.

    Seen from `frame`, which moves and accelerates. False position: the spare room is monotonic in the
    acceleration. What is returned has room, or is `least`.
    """
    if a <= least or (bad_spare := _spare(axis, room, v, frame, a, h)) >= 0.0:
        return a
    good, bad, enough = least, a, 1e-3 * axis.jerk * h * h * h
    good_spare = _spare(axis, room, v, frame, least, h)
    if good_spare <= 0.0:
        return least
    last = 0  # which end moved last: one that stays twice weighs half as much (Illinois)
    for _ in range(_TRIALS):
        middle = good + (bad - good) * (good_spare / (good_spare - bad_spare))
        spare = _spare(axis, room, v, frame, middle, h)
        if spare >= 0.0:
            good, good_spare = middle, spare
            if spare <= enough:
                break
            bad_spare, last = 0.5 * bad_spare if last > 0 else bad_spare, 1
        else:
            bad, bad_spare = middle, spare
            good_spare, last = 0.5 * good_spare if last < 0 else good_spare, -1
    return good


def _spare(axis: Axis, room: float, v: float, frame: Frame, a: float, h: float) -> float:
    """The room that is left where the arm stops after a step with `a`; negative: too little."""
    after = v + a * h
    return room - after * h - travel_up(axis, after - frame[0], a - frame[1])


def _stepped(axis: Axis, s: float, v: float, a: float, h: float) -> Row:
    speed = v + a * h
    moved = s + speed * h
    if s <= axis.high < moved or s >= axis.low > moved:  # by rounding only: the last bit
        moved = min(max(moved, axis.low), axis.high)
        speed = (moved - s) / h
        a = (speed - v) / h
    return moved, speed, a


def _kept_by_tool(limits: Limits, motion: Motion, rows: list[Row], h: float) -> tuple[list[Row], int]:
    """`rows`, or as much of them, the rest being full braking, as speed and box of the tool allow.

    Every mix of two steps that the other limits allow is allowed by them. Where even full braking is too much, that.
    """
    tool = limits.tool
    before, v, a = _columns(motion)
    if tool is None or tool.keeps(limits.axes, before, rows, h):
        return rows, 0
    braked = [_slow_down(*channel, h)[0] for channel in zip(limits.hurried, limits.reaches, before, v, a, strict=True)]
    good, bad = 0.0, 1.0
    kept = braked
    for _ in range(_MIXES):
        share = 0.5 * (good + bad)
        mixed = [
            _stepped(axis, s, speed, slow[2] + share * (fast[2] - slow[2]), h)
            for axis, s, speed, slow, fast in zip(limits.axes, before, v, braked, rows, strict=True)
        ]
        if tool.keeps(limits.axes, before, mixed, h):
            good, kept = share, mixed
        else:
            bad = share
    return kept, _CARTESIAN
