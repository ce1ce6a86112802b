"""Plays joins on recordings and measures the jumps where a chunk takes over. Pure but for the policy it may ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.seams.joins import Ensemble, Join, LeRobot, Plain, Said, blended, prefix, prefix_blended
from bench.seams.record import Recording
from edgevla.control.limiter import Limits, Motion, track

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trajectory:
    """What a join commanded in the n ticks of a recording."""

    commanded: Float32  # (n + 1, A), first the set-point held before tick 0
    seams: npt.NDArray[np.bool_]  # (n,) ticks in which a chunk began to act, without the first
    asked: int


@dataclass(frozen=True)
class Jumps:
    """Of one trajectory, at its seams; metres and seconds, norm over the moving channels."""

    velocity: Float64  # (k,) m/s
    acceleration: Float64  # (k,) m/s^2


def joins(blend_ticks: int, replan: int, with_prefix: bool) -> dict[str, Callable[[Said, int], Join]]:
    """The ways by name, each of a recorded policy and a delay."""
    ways: dict[str, Callable[[Said, int], Join]] = {
        "blend": lambda said, d: blended(said, d, replan, blend_ticks),
        "plain": lambda said, d: Plain(said, d, replan),
        "ensemble": Ensemble,
        "lerobot": LeRobot,
    }
    ours: dict[str, Callable[[Said, int], Join]] = {
        "prefix": lambda said, d: prefix(said, d, replan),
        "both": lambda said, d: prefix_blended(said, d, replan, blend_ticks),
    }
    return ours | ways if with_prefix else ways


def follow(join: Join, recording: Recording, limits: Limits | None, period_s: float) -> Trajectory:
    """The commands of a join on a recording, through the limiter or as they are wanted."""
    n = len(recording.commanded)
    commanded = np.repeat(recording.start[None], n + 1, 0)
    motion, seams, acting = Motion.at_rest(recording.start), np.zeros(n, bool), False
    for tick in range(n):
        wanted = join.wanted(tick, commanded[: tick + 1])
        commanded[tick + 1] = commanded[tick] if wanted is None else wanted
        if limits is not None:
            motion, _ = track(limits, motion, commanded[tick + 1], period_s)
            commanded[tick + 1] = motion.setpoint
        seams[tick] = join.seam and acting
        acting |= join.seam
    return Trajectory(commanded, seams, join.asked)


def between_seams(run: Trajectory) -> npt.NDArray[np.bool_]:
    """Ticks in which neither this nor the tick before was a seam, from the first seam on: (n,)."""
    near = run.seams.copy()
    near[1:] |= run.seams[:-1]
    return ~near & (np.cumsum(run.seams) > 0)


def jumps(commanded: Float32, at: npt.NDArray[np.bool_], moving: Sequence[int], period_s: float) -> Jumps:
    """Change of velocity and of acceleration in the ticks `at`, (n,), of which the first two have none."""
    velocity = np.diff(commanded[:, moving].astype(np.float64), axis=0) / period_s  # of tick t
    acceleration = np.diff(velocity, axis=0, prepend=velocity[:1]) / period_s
    change = np.diff(acceleration, axis=0, prepend=acceleration[:1])
    ticks = np.flatnonzero(at)
    ticks = ticks[ticks >= 2]
    norm = np.linalg.norm
    return Jumps(norm(acceleration[ticks], axis=1) * period_s, norm(change[ticks], axis=1))


def distance(commanded: Float32, recording: Recording, moving: Sequence[int], absolute: bool, period_s: float) -> float:
    """Root mean square to the commands at zero delay: of positions in m, or where displacements are summed without
    anything that pulls them back, of velocities in m/s."""
    zero = np.vstack([recording.start[None], recording.commanded])[:, moving].astype(np.float64)
    own = commanded[:, moving].astype(np.float64)
    if not absolute:
        zero, own = np.diff(zero, axis=0) / period_s, np.diff(own, axis=0) / period_s
    return float(np.sqrt(np.mean(np.sum((own - zero) ** 2, axis=1))))


def spread(values: Sequence[Float64]) -> dict[str, Any] | None:
    """Over all values: median, p95, largest; and the quartiles of the episodes' medians. None where there are none."""
    medians = [float(np.median(part)) for part in values if len(part)]
    if not medians:
        return None
    every = np.concatenate(list(values))
    low, high = np.percentile(medians, (25, 75))
    return {
        "p50": float(np.median(every)),
        "p95": float(np.percentile(every, 95)),
        "max": float(every.max()),
        "episodes_q25": float(low),
        "episodes_q75": float(high),
    }
