"""From chunk rows to commands, and back to the prefix the next inference is told. Pure.

The prefix of a request at tick k is what will have been commanded in ticks k .. k + d - 1, after the limiter,
in the policy's own normalised units. Nothing can change in those ticks: one inference is in flight, `r >= d`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevla.control.ladder import Ladder, Phase
from edgevla.control.limiter import Limited, Limits, Motion, hold, slow_down, track
from edgevla.control.machine import Machine, coast
from edgevla.control.schedule import Schedule

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """How the policy counts: normalised action = (value - offset) / scale."""

    kinds: tuple[str, ...]  # per channel: absolute | delta | velocity
    scale: NDArray[np.float64]  # (n,)
    offset: NDArray[np.float64]  # (n,)
    period_s: float


@dataclass(frozen=True)
class Setup:
    """What stays the same for a whole run."""

    schedule: Schedule
    ladder: Ladder
    limits: Limits
    units: Units
    servo_ratio: int = 1  # n: servo steps in a control tick

    @property
    def step_s(self) -> float:
        """Ts, the servo period."""
        return self.units.period_s / self.servo_ratio


def ladder_of(hold_s: float, torque_s: float, period_s: float) -> Ladder:
    """The two waits of an arm in ticks of `period_s`."""
    return Ladder(hold_ticks=round(hold_s / period_s), torque_ticks=round(torque_s / period_s))


def advance(
    limits: Limits, phase: Phase, motion: Motion, wanted: NDArray[np.floating] | None, elapsed_s: float
) -> tuple[Motion, Limited]:
    """One servo step of a phase, `elapsed_s` after the last command; `wanted` (n,) is the set-point to track."""
    if phase is Phase.TRACK and wanted is not None:
        return track(limits, motion, wanted, elapsed_s)
    if phase is Phase.SLOW:
        return slow_down(limits, motion, elapsed_s)
    return hold(motion), Limited.NONE


def goal(setup: Setup, before: Motion, chunk: Float32 | None, row: int | None, part: int) -> Float64 | None:
    """Set-point of servo step `part` (0 .. ratio - 1) of a tick; the last is row `row` of the chunk (H, n).

    `before`: the motion of the last command of the tick before. None when the chunk has no row for this tick.
    """
    if row is None or chunk is None:
        return None
    after = chunk[row].astype(np.float64)
    if part + 1 >= setup.servo_ratio:
        return after
    beyond = chunk[row + 1] if row + 1 < len(chunk) else None
    return interpolate(before, after, beyond, (part + 1) / setup.servo_ratio, setup.units.period_s)


def interpolate(before: Motion, after: Float64, beyond: Float32 | None, share: float, period_s: float) -> Float64:
    """Cubic from the last command, with its velocity, to `after` (n,), `share` (0..1) of the way.

    The slope at `after` is that of a monotone cubic (harmonic mean of the steps to it and `beyond` it, 0 at a turn:
    Fritsch and Carlson, 1980), so that rows without overshoot stay so; straight lines would break a jerk limit at each.
    """
    step = after - before.setpoint
    ahead = step if beyond is None else beyond - after
    same = step * ahead
    slope = np.where(same > 0.0, 2.0 * same / np.where(same > 0.0, step + ahead, 1.0), 0.0)
    u2, u3 = share * share, share**3
    eased = (3 * u2 - 2 * u3) * step + (u3 - u2) * slope
    smooth: Float64 = before.setpoint + eased + (u3 - 2 * u2 + share) * before.velocity * period_s
    return smooth


def committed(
    setup: Setup, machine: Machine, motion: Motion, before: Motion, chunk: Float32 | None, tick: int
) -> Float32:
    """Commands of ticks tick .. tick + d - 1, (d, n): of each tick its last servo step.

    `motion` has already made the first servo step of `tick`; `before` is that of the tick before.
    """
    row = None if machine.phase is not Phase.TRACK else tick - (machine.plan.chunk or 0)
    first, rows = 1, []
    for ahead in range(setup.schedule.delay):
        if ahead:
            machine, row = coast(setup.schedule, setup.ladder, machine, tick + ahead, motion.resting)
            before, first = motion, 0
        for part in range(first, setup.servo_ratio):
            wanted = goal(setup, before, chunk, row, part)
            motion, _ = advance(setup.limits, machine.phase, motion, wanted, setup.step_s)
        rows.append(motion.setpoint)
    return np.array(rows, np.float32)


def normalise(units: Units, before: NDArray[np.floating], setpoints: NDArray[np.floating]) -> Float32:
    """Set-points (d, n) -> normalised actions (d, n); `before` (n,) is the command of the tick before."""
    rows = np.asarray(setpoints, np.float64)
    change = np.diff(rows, axis=0, prepend=np.asarray(before, np.float64)[None])
    columns = {"absolute": rows, "delta": change, "velocity": change / units.period_s}
    picked = [columns[kind][:, i] for i, kind in enumerate(units.kinds)]
    return ((np.stack(picked, axis=1) - units.offset) / units.scale).astype(np.float32)
