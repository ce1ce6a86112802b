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

from bench.delay.think import StopAndThink
from bench.seams.joins import Ensemble, LeRobot
from bench.seams.live import Joined
from edgevla.control.commands import normalise
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
        chunk = self.infer(normalise(self._setup.units, before, rows))
        own = self._policy.to_setpoints(chunk, before, 0)
        return blend(own, np.vstack([before[None], rows]), blend_ticks(self._loop.period_s))
