"""From a chunk of actions to the absolute set-points that schedule, limiter and arm see. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def integrate(
    steps: Float32, anchor: Float32, d: int, delta: npt.NDArray[np.bool_], low: Float32, high: Float32
) -> Float32:
    """Absolute set-points (H, A).

    Deltas are summed from the anchor within [low, high] at every tick, so the sum never winds up past a limit;
    absolute channels pass through, clipped. Rows before d repeat the anchor: they are already committed.

    Args:
        steps: (H, A) actions in channel units (per tick where delta).
        anchor: (A,) the set-point commanded at tick k + d - 1.
        d: rows already committed.
        delta: (A,) which channels are displacements.
        low, high: (A,) limits of the set-points.
    """
    setpoints = np.clip(steps, low, high)
    setpoints[:d] = anchor
    current = anchor[delta]
    for row in range(d, len(steps)):
        current = np.clip(current + steps[row, delta], low[delta], high[delta])
        setpoints[row, delta] = current
    return setpoints.astype(np.float32)
