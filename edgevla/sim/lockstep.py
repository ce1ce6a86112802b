"""An episode in lockstep: the schedule, ladder and limiter of the real loop, with simulated time.

Used to compare policies on the same seeds: every policy answers within its budget here, so that only what it says
differs, and a released chunk acts exactly d ticks after its observation, as on the robot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgevla.control.commands import Setup, Units, advance, committed, ladder_of, normalise
from edgevla.control.limiter import Motion, limits_of
from edgevla.control.machine import Inputs, Machine, Order, step
from edgevla.control.schedule import Answer, Schedule
from edgevla.policy.blend import setpoints_to_release
from edgevla.sim.metaworld import MetaworldPlant
from edgevla.sim.view import CORNER, View
from profiles.model import ArmProfile

Float32 = npt.NDArray[np.float32]
MAX_TICKS = 400  # 5 s: the scripted experts need 55-110 ticks, with disturbances up to 220
HALF_WAY_TICKS = 200
HALF_WAY_MOVED_M = 0.05  # of travel, more than twice what the start positions spread


class Policy(Protocol):
    """What an episode needs of a policy; see `edgevla.policy.engine.PolicyEngine`."""

    def set_instruction(self, text: str) -> None: ...
    def infer(self, image: npt.NDArray[np.uint8], state: Float32, prefix: Float32) -> Float32: ...
    def to_setpoints(self, chunk: Float32, anchor: Float32, d: int) -> Float32: ...


class Plant(Protocol):
    """What the loop needs of an arm and its camera: a simulated one, or a record that does not react."""

    @property
    def setpoint0(self) -> npt.NDArray[np.float32]: ...
    def render(self) -> npt.NDArray[np.uint8]: ...
    def position(self) -> Float32: ...
    def step(self, setpoint: npt.NDArray[np.floating]) -> object: ...


@dataclass(frozen=True)
class Loop:
    """The loop a policy is evaluated in: the schedule in ticks, the arm, and the meaning of its actions."""

    schedule: Schedule
    arm: ArmProfile
    period_s: float
    kinds: tuple[str, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    blend_ticks: int | None = None  # b of a policy that takes no prefix, see `edgevla.policy.blend`
    view: View = CORNER  # what the simulated camera sees
    max_ticks: int = MAX_TICKS  # of an episode in the task's own scene


@dataclass(frozen=True)
class Episode:
    """What to play: a scene, the words, and for half-way scenes which way the mechanism shall go."""

    task: str
    seed: int
    instruction: str
    half_way: bool = False


@dataclass(frozen=True)
class Outcome:
    """What happened. `success`: the simulator's own criterion, or (half-way) the joint moved its own way."""

    success: bool
    ticks: int
    inferences: int
    opened_m: float


class Ticks(Protocol):
    """A control loop that is called one tick at a time, from tick 0 on."""

    @property
    def inferences(self) -> int: ...
    def tick(self, tick: int) -> None: ...


def play(
    policy: Policy,
    episode: Episode,
    loop: Loop,
    reuse: MetaworldPlant | None = None,
    run: Callable[[Policy, Plant, Loop], Ticks] | None = None,
) -> tuple[Outcome, MetaworldPlant]:
    """Plays one episode to success or to the last tick; also returns the plant, to be reused.

    Args:
        run: the control loop to play it in; None for ours, `Runner`.
    """
    scene = episode.task.replace("-close-", "-open-") if episode.half_way else episode.task
    plant = MetaworldPlant(scene, episode.seed, episode.half_way, reuse, loop.view)
    policy.set_instruction(episode.instruction)
    runner = (run or Runner)(policy, plant, loop)
    limit = HALF_WAY_TICKS if episode.half_way else loop.max_ticks
    tick = 0
    while tick < limit and not _reached(plant, episode):
        runner.tick(tick)
        tick += 1
    opened = plant.opened_by() if episode.half_way else 0.0
    return Outcome(_reached(plant, episode), tick, runner.inferences, opened), plant


def _reached(plant: MetaworldPlant, episode: Episode) -> bool:
    if not episode.half_way:
        return plant.success
    moved = plant.opened_by() if "open" in episode.task else -plant.opened_by()
    return moved >= HALF_WAY_MOVED_M


class Runner:
    """Servo and policy of the real loop, called one tick at a time, from tick 0 on."""

    def __init__(self, policy: Policy, plant: Plant, loop: Loop) -> None:
        self._policy, self._plant, self._loop = policy, plant, loop
        units = Units(loop.kinds, np.array(loop.scale), np.array(loop.offset), loop.period_s)
        waits = ladder_of(loop.arm.hold_s, loop.arm.torque_s, loop.period_s)
        self._setup = Setup(loop.schedule, waits, limits_of(loop.arm, loop.period_s), units)
        self._machine, self._motion = Machine(), Motion.at_rest(plant.setpoint0)
        self._chunk: Float32 | None = None
        self._coming: Float32 | None = None
        self._answer: Answer | None = None
        self.inferences = 0

    def tick(self, tick: int) -> None:
        setup, before = self._setup, self._motion
        inputs = Inputs(self._answer, Order.NONE if tick else Order.ARM, self._motion.resting)
        self._machine, decision = step(setup.schedule, setup.ladder, self._machine, tick, inputs)
        if decision.release is not None:
            self._chunk = self._coming
        wanted = None if decision.row is None or self._chunk is None else self._chunk[decision.row]
        self._motion, _ = advance(setup.limits, self._machine.phase, self._motion, wanted, setup.step_s)
        if decision.start:
            self._ask(tick, before)
        self._plant.step(self._motion.setpoint)

    def _ask(self, tick: int, before: Motion) -> None:
        rows = committed(self._setup, self._machine, self._motion, before, self._chunk, tick)
        self._coming = self.setpoints(before.setpoint.astype(np.float32), rows)
        self._answer = Answer(tick, tick, valid=bool(np.isfinite(self._coming).all()))
        self.inferences += 1

    def setpoints(self, before: Float32, rows: Float32) -> Float32:
        """The set-points (H, n) that follow `before` (n,), commanded at tick k - 1, and the committed `rows` (d, n)."""
        blend_ticks = self._loop.blend_ticks
        prefix = normalise(self._setup.units, before, rows)
        chunk = self.infer(prefix if blend_ticks is None else prefix[:0])
        return setpoints_to_release(self._policy, chunk, np.vstack([before[None], rows]), blend_ticks)

    def infer(self, prefix: Float32) -> Float32:
        """A chunk (H, n) of the policy, on what there is to see now."""
        return self._policy.infer(self._plant.render(), self._plant.position(), prefix)
