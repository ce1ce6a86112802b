"""What the arm does when the chunk runs out, and how it stops. Pure.

finish the chunk -> decelerate within limits to rest -> hold with torque on (a valid chunk within `hold_s`
resumes) -> latched stop, still held -> after `torque_s` the torque policy. Stops latch: no chunk brings a
latched arm back, only arming does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum

from edgevla.control.limiter import Limits, seconds_to_rest


class Phase(IntEnum):
    """Where on the ladder the arm is."""

    DISARMED = 0  # takes no commands; only arming leads out
    START = 1  # armed, holding until the first release
    TRACK = 2  # following the released chunk
    SLOW = 3  # decelerating to rest
    HOLD = 4  # at rest, torque on, a chunk resumes
    LATCHED = 5  # at rest, torque on, only arming again resumes
    TORQUE = 6  # latched for `torque_s`: the torque policy applies


MOVABLE = frozenset((Phase.START, Phase.TRACK, Phase.SLOW, Phase.HOLD))  # phases that send commands


@dataclass(frozen=True)
class Ladder:
    """How long the two waits last, in ticks."""

    hold_ticks: int
    torque_ticks: int


@dataclass(frozen=True)
class Rung:
    """Where the arm is on the ladder."""

    phase: Phase = Phase.DISARMED
    since: int = 0  # tick at which the phase began
    stopping: bool = False  # a stop was asked for: no chunk resumes any more


def next_rung(ladder: Ladder, rung: Rung, has_action: bool, resting: bool, tick: int) -> Rung:
    """Rung of this tick. `has_action`: the released chunk has a row for it; `resting`: the last command is at rest."""
    phase = _next_phase(ladder, rung, has_action, resting, tick - rung.since)
    return rung if phase is rung.phase else replace(rung, phase=phase, since=tick)


def _next_phase(ladder: Ladder, rung: Rung, has_action: bool, resting: bool, waited: int) -> Phase:
    phase = rung.phase
    if phase in (Phase.DISARMED, Phase.TORQUE):
        return phase
    if phase is Phase.LATCHED:
        return Phase.TORQUE if waited >= ladder.torque_ticks else Phase.LATCHED
    if has_action and not rung.stopping:
        return Phase.TRACK
    if phase in (Phase.TRACK, Phase.SLOW):
        return Phase.HOLD if resting else Phase.SLOW
    if rung.stopping or waited >= ladder.hold_ticks:
        return Phase.LATCHED
    return phase  # START or HOLD


def armed(tick: int) -> Rung:
    """The first rung after arming."""
    return Rung(Phase.START, tick)


def stopping(rung: Rung) -> Rung:
    """From here on: decelerate, hold, latch. A disarmed arm has nothing to stop."""
    return replace(rung, stopping=True) if rung.phase in MOVABLE else rung


def latched(rung: Rung, tick: int) -> Rung:
    """The device has stopped itself: nothing to decelerate any more."""
    return Rung(Phase.LATCHED, tick, stopping=True) if rung.phase in MOVABLE else rung


def ticks_to_rest(limits: Limits, period_s: float) -> int:
    """Ticks that the longest stop (from full speed, still accelerating) takes, at most."""
    return math.ceil(seconds_to_rest(limits) / period_s)
