"""The joints behind virtual actuators: a torque moves a mass, gravity pulls, ends stop, without torque an arm falls.

Each joint on its own: inertia, viscous friction, a constant gravity torque towards its lower end. The actuator's law is

    torque = clip(kp (target - q) + kd (target_velocity - dq) + feed_forward, -limit, limit)     while torque is on

Semi-implicit Euler in steps of 0.5 ms; all values in the device's own frame, rad and N m, float64 (n,).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
STEP_US = 500
_MOST_STEPS = 400  # of one call: a device that nobody looked at for longer than 0.2 s is not moved faster for it


class JointPlant:
    """`low`, `high`: mechanical ends, rad. Starts at rest at `position`, torque off."""

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        position: Sequence[float],
        inertia: float = 0.01,
        friction: float = 0.05,
        gravity_nm: float = 0.2,
    ) -> None:
        self.low, self.high = np.array(low, float), np.array(high, float)
        self.position: Array = np.array(position, float)
        n = len(self.position)
        self.velocity: Array = np.zeros(n)
        self.effort: Array = np.zeros(n)
        self.inertia, self.friction, self.gravity_nm = inertia, friction, np.full(n, gravity_nm)
        self.torque_on = np.zeros(n, bool)
        self.target, self.target_velocity, self.feed_forward = self.position.copy(), np.zeros(n), np.zeros(n)
        self.kp, self.kd, self.limit = np.full(n, 60.0), np.full(n, 1.5), np.full(n, 3.0)
        self.stuck = np.zeros(n, bool)  # a joint that does not move, whatever pushes it
        self.steps = 0  # changes whenever a joint may have moved: what was measured before may be said again until then
        self._at_us: int | None = None

    def place(self, position: Sequence[float]) -> None:
        """Move the joints by hand, at rest. Raises ValueError outside their mechanical ends."""
        wanted = np.array(position, float)
        if wanted.shape != self.position.shape or not bool(((wanted >= self.low) & (wanted <= self.high)).all()):
            raise ValueError(f"positions between {self.low.tolist()} and {self.high.tolist()}, got {position}")
        self.position, self.velocity = wanted, np.zeros_like(wanted)
        self.steps += 1

    def run_to(self, now_us: int) -> None:
        """Advance to the device's time `now_us`."""
        if self._at_us is None:
            self._at_us = now_us
        self._at_us = max(self._at_us, now_us - _MOST_STEPS * STEP_US)
        while now_us - self._at_us >= STEP_US:
            self._at_us += STEP_US
            self._step(STEP_US * 1e-6)

    def _step(self, step_s: float) -> None:
        # Minimum of maximum and products with booleans: for few joints np.clip and np.where take three times as long.
        wanted = self.kp * (self.target - self.position) + self.kd * (self.target_velocity - self.velocity)
        effort = np.minimum(np.maximum(wanted + self.feed_forward, -self.limit), self.limit) * self.torque_on
        pushed = (effort - self.friction * self.velocity - self.gravity_nm) * (step_s / self.inertia)
        velocity = (self.velocity + pushed) * ~self.stuck
        moved = self.position + velocity * step_s
        self.effort, self.position = effort, np.minimum(np.maximum(moved, self.low), self.high)
        self.velocity = velocity * (moved == self.position)
        self.steps += 1
