"""One channel's step within its limits. Pure floats, in the order written: to be ported to C bit by bit.

`s`, `v`, `a`: set-point, velocity, acceleration of the last command; `h`: seconds since; `low`, `high`: the
accelerations that jerk and acceleration limits leave. Flags are the values of `limiter.Limited`.
"""

from __future__ import annotations

from edgevla.control.braking import Axis, can_stay, largest_acceleration, travel_up

_TRIALS = 12  # of the search for the last acceleration that can brake; 4 to 9 are the rule
_REST = 1e-9  # channel units per second: rounding left of a stop, not a motion
_JERK, _ACCELERATION, _VELOCITY, _RANGE = 16, 1, 2, 4  # IntFlag arithmetic costs a microsecond an operation

Row = tuple[float, float, float]  # set-point, velocity, acceleration
Frame = tuple[float, float]  # velocity, acceleration
_STILL = (0.0, 0.0)


def track_channel(axis: Axis, reach: float, s: float, v: float, a: float, wanted: Row, h: float) -> tuple[Row, int]:
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
        return stepped(axis, s, v, bounded, h), bits
    if bounded != free:
        eased = _approach(axis, s, v, bounded, (target, *wanted[1:]), low, high, h)
        bounded = _bounded_in_speed(axis, v, eased, low, high, h)
    braking = _bounded_in_range(axis, reach, s, v, a, bounded, low, high, h)
    if abs(braking - bounded) > slack:
        bits |= _RANGE
    if braking == free:
        return (target, speed, free), bits
    return stepped(axis, s, v, braking, h), bits


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


def slow_channel(axis: Axis, reach: float, s: float, v: float, a: float, h: float) -> tuple[Row, int]:
    low, high = _window(axis, a, h)
    hardest = min(largest_acceleration(axis, abs(v), h), axis.deceleration)
    chosen = min(max(-hardest if v > 0.0 else hardest, low), high)
    braking = _bounded_in_range(axis, reach, s, v, a, chosen, low, high, h)
    if abs(v + braking * h) < _REST:
        return (s, 0.0, -v / h if abs(v) >= _REST else 0.0), 0
    return stepped(axis, s, v, braking, h), _RANGE if braking != chosen else 0


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


def stepped(axis: Axis, s: float, v: float, a: float, h: float) -> Row:
    speed = v + a * h
    moved = s + speed * h
    if s <= axis.high < moved or s >= axis.low > moved:  # by rounding only: the last bit
        moved = min(max(moved, axis.low), axis.high)
        speed = (moved - s) / h
        a = (speed - v) / h
    return moved, speed, a
