"""Ways to drive an arm while the policy thinks for d ticks, all in lockstep: the simulator waits for nobody.

    ours    chunk released at k + d, asked with the d actions already committed as its prefix (`lockstep.Runner`)
    blend   the same for a policy that takes no prefix: none given, seams blended forward (`edgevla.policy.blend`)
    newest  naive asynchronous: no prefix, the newest chunk acts as soon as it is there, its first d rows skipped
    think   synchronous: the arm holds its set-point for d ticks while the policy thinks, then r rows are executed
    both, ensemble, lerobot   as in `bench.seams.joins`, in closed loop

The first four ask with the same r, see the same observations of tick k and go through the same limiter. With d = 0 they
are one and the same: the policy answers within the tick in which it is asked, and rows 0 .. r - 1 are executed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.seams.joins import Ensemble, LeRobot
from bench.seams.live import Joined
from edgevla.control.commands import normalise
from edgevla.control.limiter import Motion, limits_of, track
from edgevla.control.schedule import Schedule
from edgevla.policy.blend import Float32, blend, blend_ticks
from edgevla.sim.lockstep import Loop, Plant, Policy, Runner, Ticks

WAYS = ("ours", "newest", "think", "blend", "both", "ensemble", "lerobot")
BLENDED = ("blend", "both")  # ways that depend on b


def runner_of(way: str, delay: int, policy: Policy, plant: Plant, loop: Loop) -> Ticks:
    """The loop that drives in that way; `loop` gives H, r, m and the arm, its own delay does not count."""
    if delay == 0 or way == "think":
        return StopAndThink(policy, plant, loop, delay)
    if way in ("ensemble", "lerobot"):
        return Joined(policy, plant, loop, {"ensemble": Ensemble, "lerobot": LeRobot}[way], delay)
    h, r, m = loop.schedule.horizon, loop.schedule.replan, loop.schedule.survive
    loop = replace(loop, schedule=Schedule(h, delay, r, m))
    if way == "blend":
        return Runner(policy, plant, replace(loop, blend_ticks=blend_ticks(loop.period_s)))
    return {"ours": Runner, "newest": Newest, "both": Both}[way](policy, plant, loop)


class Newest(Runner):
    """Naive asynchronous switching. With a constant delay it differs from `Runner` in the missing prefix alone."""

    def setpoints(self, before: Float32, rows: Float32) -> Float32:
        """Deltas go on from the last command, absolute rows act as they are."""
        return self._policy.to_setpoints(self.infer(rows[:0]), rows[-1], len(rows))


class Both(Runner):
    """The prefix of ours, and the speed that is still missing at the seam faded out as in `blend`."""

    def setpoints(self, before: Float32, rows: Float32) -> Float32:
        chunk = self.infer(normalise(self._units, before, rows))
        own = self._policy.to_setpoints(chunk, before, 0)
        return blend(own, np.vstack([before[None], rows]), blend_ticks(self._loop.period_s))


class StopAndThink:
    """Look, hold the last set-point for `delay` ticks, execute rows 0 .. r - 1, look again.

    Without a delay it is the idealised loop that the others are compared with.
    """

    def __init__(self, policy: Policy, plant: Plant, loop: Loop, delay: int) -> None:
        self._policy, self._plant, self._loop, self._delay = policy, plant, loop, delay
        self._limits = limits_of(loop.arm)
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
