"""The synchronous loop: the arm waits for the policy. Without a delay it is the idealised loop of the comparison."""

from __future__ import annotations

import numpy as np

from edgevla.control.limiter import Motion, limits_of, track
from edgevla.policy.blend import Float32
from edgevla.sim.lockstep import Loop, Plant, Policy


class StopAndThink:
    """Look, hold the last set-point for `delay` ticks, execute rows 0 .. r - 1, look again.

    Without a delay it is the idealised loop that the others are compared with.
    """

    def __init__(self, policy: Policy, plant: Plant, loop: Loop, delay: int) -> None:
        self._policy, self._plant, self._loop, self._delay = policy, plant, loop, delay
        self._limits = limits_of(loop.arm, loop.period_s)
        self._motion = Motion.at_rest(plant.setpoint0)
        self._rows: Float32 | None = None
        self.inferences = 0

    def tick(self, tick: int) -> None:
        part = tick % (self._delay + self._loop.schedule.replan)
        if part == 0:
            self._look()
        if part < self._delay:
            self._motion = Motion.at_rest(self._motion.setpoint)
        elif self._rows is not None:
            wanted = self._rows[part - self._delay]
            self._motion, _ = track(self._limits, self._motion, wanted, self._loop.period_s)
        self._plant.step(self._motion.setpoint)

    def _look(self) -> None:
        held = self._motion.setpoint.astype(np.float32)
        chunk = self._policy.infer(self._plant.render(), self._plant.position(), held[None][:0])
        self._rows = self._policy.to_setpoints(chunk, held, 0)
        self.inferences += 1
