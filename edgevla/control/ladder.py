"""What the arm does when the chunk runs out, and how it stops. Pure.

finish the chunk -> decelerate within limits to rest -> hold with torque on (a valid chunk within `hold_s`
resumes) -> latched stop, still held -> after `torque_s` the torque policy. Stops latch: no chunk brings a
latched arm back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from edgevla.control.limiter import Limited, Limits, Motion, hold, seconds_to_rest, slow_down, track


class Phase(IntEnum):
    """Where on the ladder the arm is."""

    START = 0  # armed, holding until the first release
    TRACK = 1  # following the released chunk
    SLOW = 2  # decelerating to rest
    HOLD = 3  # at rest, torque on, a chunk resumes
    LATCHED = 4  # at rest, torque on, only arming again resumes
    TORQUE = 5  # latched for `torque_s`: the torque policy applies


@dataclass(frozen=True)
class Ladder:
    """How long the two waits last, in ticks."""

    hold_ticks: int
    torque_ticks: int


@dataclass(frozen=True)
class Control:
    """Everything that decides the next command."""

    motion: Motion
    phase: Phase = Phase.START
    since: int = 0  # tick at which the phase began
    stopping: bool = False  # a stop was asked for: no chunk resumes any more


def next_phase(ladder: Ladder, control: Control, has_action: bool, tick: int) -> Phase:
    """Phase of this tick. `has_action`: the released chunk has a row for it."""
    phase = control.phase
    waited = tick - control.since
    if phase is Phase.TORQUE:
        return Phase.TORQUE
    if phase is Phase.LATCHED:
        return Phase.TORQUE if waited >= ladder.torque_ticks else Phase.LATCHED
    if has_action and not control.stopping:
        return Phase.TRACK
    if phase in (Phase.TRACK, Phase.SLOW) and not control.motion.resting:
        return Phase.SLOW
    if phase in (Phase.TRACK, Phase.SLOW):
        return Phase.HOLD
    if control.stopping or waited >= ladder.hold_ticks:
        return Phase.LATCHED
    return phase  # START or HOLD


def advance(
    limits: Limits,
    ladder: Ladder,
    control: Control,
    wanted: NDArray[np.floating] | None,
    tick: int,
    elapsed_s: float,
) -> tuple[Control, Limited]:
    """Command of `tick`: the row `wanted` (n,) of the chunk, or None when it has none for this tick."""
    phase = next_phase(ladder, control, wanted is not None, tick)
    hit = Limited.NONE
    if phase is Phase.TRACK and wanted is not None:
        motion, hit = track(limits, control.motion, wanted, elapsed_s)
    elif phase is Phase.SLOW:
        motion, hit = slow_down(limits, control.motion, elapsed_s)
    else:
        motion = hold(control.motion)
    since = control.since if phase is control.phase else tick
    return Control(motion, phase, since, control.stopping), hit


def ask_to_stop(control: Control) -> Control:
    """From here on: decelerate, hold, latch."""
    return replace(control, stopping=True)


def ticks_to_rest(limits: Limits, period_s: float) -> int:
    """Ticks that the longest stop (from full speed, still accelerating) takes, at most."""
    return math.ceil(seconds_to_rest(limits) / period_s)
