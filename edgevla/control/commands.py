"""From chunk rows to commands, and back to the prefix the next inference is told. Pure.

The prefix of a request at tick k is what will have been commanded in ticks k .. k + d - 1, after the limiter,
in the policy's own normalised units. Nothing can change in those ticks: one inference is in flight, `r >= d`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevla.control.ladder import Control, Ladder, advance
from edgevla.control.limiter import Limits
from edgevla.control.schedule import Plan, Schedule, action_index

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Units:
    """How the policy counts: normalised action = (value - offset) / scale."""

    kinds: tuple[str, ...]  # per channel: absolute | delta | velocity
    scale: NDArray[np.float64]  # (n,)
    offset: NDArray[np.float64]  # (n,)
    period_s: float


def wanted_row(schedule: Schedule, plan: Plan, chunk: Float32 | None, tick: int) -> Float32 | None:
    """Set-point (n,) that the released chunk (H, n) holds for `tick`, or None."""
    index = action_index(schedule, plan, tick)
    return None if index is None or chunk is None else chunk[index]


def committed(
    schedule: Schedule,
    limits: Limits,
    ladder: Ladder,
    control: Control,
    plan: Plan,
    chunk: Float32 | None,
    tick: int,
    period_s: float,
) -> Float32:
    """Commands of ticks tick .. tick + d - 1, (d, n); `control` has already made that of `tick`."""
    rows = [control.motion.setpoint]
    for ahead in range(1, schedule.delay):
        wanted = wanted_row(schedule, plan, chunk, tick + ahead)
        control, _ = advance(limits, ladder, control, wanted, tick + ahead, period_s)
        rows.append(control.motion.setpoint)
    return np.array(rows, np.float32)


def normalise(units: Units, before: NDArray[np.floating], setpoints: NDArray[np.floating]) -> Float32:
    """Set-points (d, n) -> normalised actions (d, n); `before` (n,) is the command of the tick before."""
    rows = np.asarray(setpoints, np.float64)
    change = np.diff(rows, axis=0, prepend=np.asarray(before, np.float64)[None])
    columns = {"absolute": rows, "delta": change, "velocity": change / units.period_s}
    picked = [columns[kind][:, i] for i, kind in enumerate(units.kinds)]
    return ((np.stack(picked, axis=1) - units.offset) / units.scale).astype(np.float32)


def interpolate(before: Float32, after: Float32, step: int, ratio: int) -> Float32:
    """Servo step `step` (0 .. ratio - 1) of a tick on the straight line; the last step is `after` exactly."""
    if step + 1 >= ratio:
        return after
    return (before + (after - before) * np.float32((step + 1) / ratio)).astype(np.float32)
