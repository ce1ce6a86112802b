"""A join in closed loop: the arm really goes where the join leads it, and the policy sees where it went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.seams.joins import Float32, Join, Said
from bench.seams.measure import Trajectory
from edgevla.control.commands import Units
from edgevla.control.limiter import Motion, limits_of, track
from edgevla.sim.lockstep import Loop, Plant, Policy


class Live:
    """What has been seen so far, by tick; a chunk is asked for when it is first read (see `joins.Seen`)."""

    def __init__(self, policy: Policy, start: Float32) -> None:
        self._policy, self._said = policy, dict[int, Float32]()
        self.start = start
        self.images: list[Any] = []
        self.states: list[Float32] = []
        self.commanded: list[Float32] = []

    @property
    def chunks(self) -> Live:
        return self

    def __getitem__(self, tick: int) -> Float32:
        """The chunk (H, A) on what was seen at `tick`, without a prefix."""
        if tick not in self._said:
            none = np.zeros((0, len(self.start)), np.float32)
            self._said[tick] = self._policy.infer(self.images[tick], self.states[tick], none)
        return self._said[tick]

    def __len__(self) -> int:
        return len(self.images)


class Joined:
    """One way to join, called one tick at a time (see `edgevla.sim.lockstep.Ticks`)."""

    def __init__(self, policy: Policy, plant: Plant, loop: Loop, way: Callable[[Said, int], Join], delay: int) -> None:
        self._plant, self._loop, self._limits = plant, loop, limits_of(loop.arm, loop.period_s)
        units = Units(loop.kinds, np.array(loop.scale), np.array(loop.offset), loop.period_s)
        self._live = Live(policy, np.asarray(plant.setpoint0, np.float32))
        self._join = way(Said(self._live, policy, units, loop.schedule.horizon, False), delay)  # type: ignore[arg-type]
        self._motion = Motion.at_rest(plant.setpoint0)
        self._seams: list[bool] = []

    @property
    def inferences(self) -> int:
        return self._join.asked

    def trajectory(self) -> Trajectory:
        """What was commanded so far, and where a chunk took over from another."""
        seams = np.array(self._seams, bool)
        if seams.any():
            seams[seams.argmax()] = False  # the first chunk of all follows nothing
        return Trajectory(np.stack([self._live.start, *self._live.commanded]), seams, self._join.asked)

    def tick(self, tick: int) -> None:
        live = self._live
        live.images.append(self._plant.render())
        live.states.append(self._plant.position())
        wanted = self._join.wanted(tick, np.stack([live.start, *live.commanded]))
        self._seams.append(self._join.seam)
        if wanted is None:
            self._motion = Motion.at_rest(self._motion.setpoint)
        else:
            self._motion, _ = track(self._limits, self._motion, wanted, self._loop.period_s)
        live.commanded.append(self._motion.setpoint.astype(np.float32))
        self._plant.step(self._motion.setpoint)
