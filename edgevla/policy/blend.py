"""Seams of a policy that takes no prefix: a blend that only looks forward. Pure.

A chunk asked for at tick k is released at k + d. A policy trained with a prefix goes on from what was commanded until
then; one without does not know it, so its chunk begins somewhere else and at another speed. Here the difference in
position and velocity at tick k + d - 1 is added to the chunk and faded out over the next b ticks. Nothing that was
commanded is changed, and the chunk before is not asked. The blend has to be over when the next observation is taken,
d + b <= r: displacements say nothing of what is still to be made up for, so the next chunk would undo it.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgevla.bundle.manifest import Manifest

Float32 = npt.NDArray[np.float32]

BLEND_S = 0.05  # s: longest of 25, 50 and 100 ms that d + b <= r allows on the host; longer is smoother (docs/seams.md)


class Integrates(Protocol):
    """What is needed of a policy; see `edgevla.policy.engine.PolicyEngine`."""

    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32: ...


def takes_prefix(manifest: Manifest) -> bool:
    """Whether any graph of the bundle is given the actions already committed."""
    return any(tensor.name == "prefix" for stage in manifest.stages for tensor in stage.inputs)


def blend_ticks(period_s: float) -> int:
    """Ticks b over which a seam is blended: `BLEND_S`, rounded up."""
    return max(1, math.ceil(BLEND_S / period_s - 1e-9))


def blend_ticks_of(manifest: Manifest) -> int | None:
    """b of a bundle without a prefix, None for one that was trained with it."""
    return None if takes_prefix(manifest) else blend_ticks(manifest.timing.period_s)


def setpoints_to_release(policy: Integrates, chunk: Float32, commanded: Float32, ticks: int | None) -> Float32:
    """Absolute set-points (H, A) of a chunk (H, A) in normalised units, its first d rows those already committed.

    Args:
        policy: whose chunk it is.
        commanded: (d + 1, A) set-points of ticks k - 1 .. k + d - 1.
        ticks: b, see `blend_ticks_of`; None for a policy that was given the prefix.
    """
    if ticks is None:
        return policy.to_setpoints(chunk, commanded[-1], len(commanded) - 1)
    return blend(policy.to_setpoints(chunk, commanded[0], 0), commanded, ticks)


def blend(own: Float32, commanded: Float32, ticks: int) -> Float32:
    """The chunk's own set-points, led from what was commanded onto themselves within `ticks`.

    Row d - 1 is the last command, row d - 1 + ticks and all after it are the chunk's own. The offset between them and
    its speed start as they are at the seam and end at 0, both with no acceleration of their own (a quintic).

    Args:
        own: (H, A) absolute set-points as the policy said them, row i for tick k + i. Deltas summed from tick k - 1.
        commanded: (d + 1, A) set-points of ticks k - 1 .. k + d - 1, 1 <= d < H.
        ticks: b >= 1. With 1 the chunk is taken as it is.

    Raises:
        ValueError: d or b outside these bounds, or another number of channels.
    """
    d = len(commanded) - 1
    if not 1 <= d < len(own) or ticks < 1 or own.shape[1:] != commanded.shape[1:]:
        raise ValueError(f"blend of {own.shape} after {commanded.shape} over {ticks}: expected 1 <= d < H, b >= 1")
    setpoints = own.astype(np.float64)
    gap = commanded[-1] - setpoints[d - 1]
    gap_speed = (commanded[-1] - commanded[-2]) - (setpoints[d] - setpoints[d - 1])  # per tick
    last = min(len(own), d + ticks)
    u = (np.arange(d, last) - (d - 1))[:, None] / ticks
    setpoints[d:last] += gap * _place(u) + gap_speed * ticks * _speed(u)
    setpoints[:d] = commanded[1:]
    return setpoints.astype(np.float32)


def _place(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 -> 0 over u in [0, 1], first and second derivative 0 at both ends."""
    return 1 - u**3 * (10 - 15 * u + 6 * u**2)


def _speed(u: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 -> 0 with slope 1 -> 0, second derivative 0 at both ends."""
    return u - u**3 * (6 - 8 * u + 3 * u**2)
