"""How far one channel still travels, and how hard it may accelerate, under a jerk limit. Pure floats, closed forms.

Model of a step of `h` seconds, h >= `step`: a' = a + j h, v' = v + a' h, s' = s + v' h. Only + - * / and sqrt, in
the order written, so that a port to C gives the same bits.

The stop that every bound below believes in: bring the acceleration to the deceleration, hold it, bring it back to
zero as the speed reaches zero. Its distance in continuous time is never less than that of its discrete steps
of any length (checked by tests), so an arm that may stop now may also stop after skipped periods.
"""

from __future__ import annotations

from math import floor, sqrt
from typing import NamedTuple


class Axis(NamedTuple):
    """Limits of one channel, in its unit and seconds."""

    low: float
    high: float
    velocity: float
    acceleration: float
    jerk: float
    deceleration: float  # of a stop that nothing hurries
    step: float  # s, the shortest time between two commands
    nimble: bool  # may stop within one step from any motion: a target in range needs no look ahead


def axis_of(row: list[float], step: float) -> Axis:
    """`row`: low .. deceleration. `nimble`: every motion they allow may rest after one step."""
    low, high, velocity, acceleration, jerk, deceleration = row
    fastest = velocity / step  # acceleration of a stop from full speed within one step
    nimble = fastest <= acceleration and fastest + acceleration <= jerk * step
    return Axis(low, high, velocity, acceleration, jerk, deceleration, step, nimble)


def largest_acceleration(axis: Axis, room: float, h: float) -> float:
    """Largest a' >= 0 whose step of `h` and whose way back to zero in steps of `axis.step` gain at most `room` >= 0.

    The gain a' h + step * sum(a' - i jerk step) is piecewise linear in a'; whole steps m give the piece.
    """
    per_step = axis.jerk * axis.step
    p = h / axis.step - 0.5
    m = floor(sqrt(p * p + 2.0 * room / (per_step * axis.step)) - p)
    if m < 1:
        return room / h
    at_knot = per_step * (m * h + axis.step * (0.5 * m * (m - 1.0)))
    return m * per_step + (room - at_knot) / (h + m * axis.step)


def travel_up(axis: Axis, v: float, a: float) -> float:
    """How far up (>= 0) the channel still gets from velocity `v`, acceleration `a` when it stops."""
    if can_stay(axis, v, a):
        return 0.0
    turning = a * a / (2.0 * axis.jerk)
    if v > 0.0 and a < 0.0 and v < turning:
        # It turns round before the deceleration can be taken back: it climbs only until then.
        t = (-a - sqrt(a * a - 2.0 * axis.jerk * v)) / axis.jerk
        return t * (v + t * (0.5 * a + t * axis.jerk / 6.0))
    if v <= 0.0 and (a <= 0.0 or v + turning <= 0.0):
        return 0.0
    from_zero = v + turning  # the same stop, seen from the moment at which the acceleration is or was zero
    if from_zero * axis.jerk <= axis.acceleration * axis.acceleration:
        distance = from_zero * sqrt(from_zero / axis.jerk)
    else:
        distance = 0.5 * from_zero * (from_zero / axis.acceleration + axis.acceleration / axis.jerk)
    rest = distance + a * (from_zero - turning / 3.0) / axis.jerk
    return rest if rest > 0.0 else 0.0


def can_stay(axis: Axis, v: float, a: float) -> bool:
    """Whether the next step, however long, may repeat the set-point, and the one after it too."""
    per_step = axis.jerk * axis.step
    most = axis.acceleration if axis.acceleration < per_step else per_step
    return abs(v) <= most * axis.step and abs(v + a * axis.step) <= per_step * axis.step
