"""Steps of one channel that stand exactly on a border of its arithmetic, each with what must come of it.

For the limiter in Python, and for its port to C bit by bit. Most numbers are binary fractions, so that they meet their
border without rounding. `limits`: low, high, max_velocity, max_acceleration, max_jerk, stop_deceleration.
"""

from __future__ import annotations

from math import copysign, inf, nextafter
from typing import NamedTuple

from edgevla.control.braking import axis_of, travel_up
from edgevla.control.channel import Row

STEP_S = 2.0**-6
HALF_S = 0.5
FLOAT32 = 2.0**-17  # spacing of float32 at 64: max_velocity is lowered by this much per step
_ACCELERATION, _VELOCITY, _RANGE, _JERK = 1, 2, 4, 16
_ANY = (0.0, 0.0, 0.0)


class Border(NamedTuple):
    name: str
    limits: tuple[float, ...]
    step_s: float
    now: Row
    wanted: Row | None  # None: a step of the stop
    row: Row | None  # what must come of it; None: any, and the same in C
    bits: int


# --- Steps that just keep the limits. The jerk is 57600 only after rounding: whoever takes the long way through the
# limits instead of the glance loses the last bit of these 500 m/s^2, and misses the target by as much.

_JERK_LIMIT, _BEFORE = 57_600.0, -400.0  # 900 m/s^2 more in a step, as the nearest double
_FREE = 500.0 + 2.0**-44
_LANDED = (_FREE * STEP_S * STEP_S, _FREE * STEP_S, _FREE)
_TOP = _FREE * STEP_S + 0.5 * _FREE * _FREE / _JERK_LIMIT  # the speed that letting go of the acceleration leads to
_REACH = travel_up(axis_of([-64.0, 64.0, 20.0, 600.0, _JERK_LIMIT, 600.0], STEP_S), 20.0, 600.0)
_NEAR = _REACH + 20.0 * STEP_S  # no nearer to an end than this, nobody needs to look at it


def _lands(name: str, low: float, high: float, velocity: float, acceleration: float) -> Border:
    limits = (low, high, velocity + FLOAT32 / STEP_S, acceleration, _JERK_LIMIT, 1.0)
    return Border(name, limits, STEP_S, (0.0, 0.0, _BEFORE), (_LANDED[0], 0.0, 0.0), _LANDED, 0)


LANDING = [
    _lands("with room to spare", -64.0, 64.0, 20.0, 600.0),
    _lands("with max_acceleration", -64.0, 64.0, 20.0, _FREE),
    _lands("with a way back from the acceleration that ends at max_velocity", -64.0, 64.0, _TOP, 600.0),
    _lands("as near to the upper end as nobody needs to look at it", -64.0, _NEAR, 20.0, 600.0),
    _lands("as near to the lower end as nobody needs to look at it", -_NEAR, 64.0, 20.0, 600.0),
    Border("at max_velocity, where a stop takes one step", (-0.5, 0.5, 0.24 + 80 * 2.0**-24, 128.0, 20480.0, 8.0),
           0.0125, (0.0, -0.3, 0.0), (0.003, 0.0, 0.0), (0.003, 0.24, (0.24 + 0.3) / 0.0125), 0),
    Border("on -0.0, the lower end of its range", (0.0, 64.0, 20.0, 600.0, _JERK_LIMIT, 1.0), STEP_S, _ANY,
           (-0.0, 0.0, 0.0), (-0.0, -0.0, -0.0), 0),
    Border("on -0.0, the upper end of its range", (-64.0, 0.0, 20.0, 600.0, _JERK_LIMIT, 1.0), STEP_S, _ANY,
           (-0.0, 0.0, 0.0), (-0.0, -0.0, -0.0), 0),
]  # fmt: skip

# --- What float32 rounding of a set-point can explain is not told as a limit, and one bit more is.

_SLACK = 1e-6 / (HALF_S * HALF_S)  # m/s^2
_SLOW = 2.0**-20  # m/s
_LOWERED = FLOAT32 / HALF_S
_JERKED = 2.0 * _SLACK * HALF_S * HALF_S  # asks for twice the slack, where the jerk limit leaves one
_SPED = (_SLOW / HALF_S + (_SLACK + 1e-3 * _SLOW / HALF_S)) * HALF_S * HALF_S


def _explained(name: str, limits: tuple[float, ...], now: Row, aim: float, bits: int) -> Border:
    low, high, velocity, *rest = limits
    return Border(name, (low, high, velocity + _LOWERED, *rest), HALF_S, now, (aim, 0.0, 0.0), None, bits)


def _braked(name: str, jerk: float, bits: int) -> Border:
    """At 1 m/s towards an end that no braking keeps: all that the jerk limit leaves is done."""
    return _explained(name, (-64.0, 0.5, 2.0, 1.0, jerk, 1.0), (0.0, 1.0, 0.0), 0.5, bits)


EXPLAINED = [
    _explained("jerk, by just that", (-64.0, 64.0, 1.0, 1.0, _SLACK / HALF_S, 1.0), _ANY, _JERKED, 0),
    _explained(
        "jerk, by a bit more", (-64.0, 64.0, 1.0, 1.0, _SLACK / HALF_S, 1.0), _ANY, nextafter(_JERKED, inf), _JERK
    ),
    _explained("velocity, by just that", (-64.0, 64.0, _SLOW, 1.0, 1.0, 1.0), _ANY, _SPED, 0),
    _explained("velocity, by a bit more", (-64.0, 64.0, _SLOW, 1.0, 1.0, 1.0), _ANY, nextafter(_SPED, inf), _VELOCITY),
    _braked("braking, by just that", _SLACK / HALF_S, 0),
    _braked("braking, by a bit more", nextafter(_SLACK / HALF_S, inf), _RANGE),
]

# --- A stop: below 1e-9 m/s, and not at it, the arm is at rest.

_REST = 1e-9


def _stop(name: str, deceleration: float, velocity: float, row: Row) -> Border:
    limits = (-64.0, 64.0, 1.0, 1.0, 1.0, deceleration)
    return Border(name, limits, HALF_S, (0.0, velocity, 0.0), None, row, 0)


_LESS, _LEAST = nextafter(2.0 * _REST, 0.0), nextafter(_REST, 0.0)
STOPS = [
    _stop("1e-9 is left", 2.0 * _REST, 2.0 * _REST, (_REST * HALF_S, _REST, -2.0 * _REST)),
    _stop("one bit less than 1e-9 is left", 2.0 * _REST, _LESS, (0.0, 0.0, -_LESS / HALF_S)),
    _stop("from 1e-9", 1.0, _REST, (0.0, 0.0, -_REST / HALF_S)),
    _stop("from one bit less than 1e-9", 1.0, _LEAST, (0.0, 0.0, 0.0)),
]

# --- Ends of the range.

_PAST = nextafter(2.0**-18, inf)
_SHORT = (-(2.0**-18), 2.0**-18, 36.0, 350.0, 4096.0, 350.0)  # a range much shorter than a step of the jerk, 2^-6
_EIGHTH_S = 0.125
_END = travel_up(axis_of([-64.0, 64.0, 1.0, 4.0, 16.0, 0.5], _EIGHTH_S), 1.0, 4.0) + 1.0 * _EIGHTH_S
_SEARCHED = float.fromhex("0x1.5a1c8ca1c9b76p-4")  # from here the fourth trial leaves just what ends the search


def _ending(low: float, high: float, velocity: float) -> Border:
    """Three times too fast, from where no sound motion asks for braking yet: the end is looked at one step later."""
    limits = (low, high, 1.0 + 2.0**-24 / _EIGHTH_S, 4.0, 16.0, 0.5)
    slower = velocity - copysign(0.5, velocity) * _EIGHTH_S  # by the stop's own deceleration
    row = (slower * _EIGHTH_S, slower, copysign(0.5, -velocity))
    return Border(f"too fast, {_END:.3g} from an end", limits, _EIGHTH_S, (0.0, velocity, 0.0), None, row, 0)


ENDS = [
    Border("past the upper end, at the most that stops in a step", _SHORT, STEP_S, (_PAST, 1.0, -9.0),
           (-0.06, 0.0, 0.0), (_PAST, 0.0, -64.0), _RANGE),
    Border("past the lower end, at the most that stops in a step", _SHORT, STEP_S, (-_PAST, -1.0, 9.0),
           (0.06, 0.0, 0.0), (-_PAST, 0.0, 64.0), _RANGE),
    _ending(-0.5, _END, 3.0),
    _ending(-_END, 0.5, -3.0),
    Border("a search that ends on its border", (-64.0, _SEARCHED, 5.0 + FLOAT32 / STEP_S, 25.0, 4000.0, 25.0), STEP_S,
           (0.0, 1.5625, 0.0), (1.0, 0.0, 0.0), None, _RANGE | _ACCELERATION),
]  # fmt: skip
BORDERS = [*LANDING, *EXPLAINED, *STOPS, *ENDS]
