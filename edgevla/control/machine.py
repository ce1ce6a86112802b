"""The loop as one state machine: everything discrete that a control tick decides, in one pure function.

The servo process, the lockstep episodes, the replay of a flight record and the model check of the tests all call
`step`; motion (interpolation, limits) lies in `edgevla.control.commands`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

from edgevla.control.ladder import MOVABLE, Ladder, Phase, Rung, armed, latched, next_rung, stopping
from edgevla.control.schedule import Answer, Plan, Schedule, action_index, decide, idle, restart


class Order(IntEnum):
    """What the operator asks for, once."""

    NONE = 0
    ARM = 1  # explicit, and only from DISARMED, LATCHED or TORQUE
    STOP = 2  # decelerate, hold, latch
    QUIT = 3  # the same, and the servo process ends when the arm is latched


class Trip(IntEnum):
    """A reason to stop that nobody asked for."""

    NONE = 0
    STOP = 1  # protective stop (effort, following error): the ladder stops the arm
    DEVICE = 2  # the device has stopped itself: latched at once


@dataclass(frozen=True)
class Inputs:
    """What one tick is told."""

    answer: Answer | None = None  # newest answer of the policy process
    order: Order = Order.NONE
    resting: bool = True  # the last command moves no channel
    instruction: int = 0  # epoch of the newest instruction
    trip: Trip = Trip.NONE


@dataclass(frozen=True)
class Machine:
    """State between two ticks. A new one is disarmed."""

    plan: Plan = field(default_factory=Plan)
    rung: Rung = field(default_factory=Rung)

    @property
    def phase(self) -> Phase:
        return self.rung.phase


@dataclass(frozen=True)
class Decision:
    """What to do in this tick."""

    release: int | None  # k of the chunk that acts from this tick on
    start: bool  # freeze the prefix, sample, start an inference
    row: int | None  # of the released chunk that is this tick's set-point; None: slow down or hold
    first: bool = False  # the inference is the first since arming: the policy forgets what it saw before


def step(schedule: Schedule, ladder: Ladder, machine: Machine, tick: int, inputs: Inputs) -> tuple[Machine, Decision]:
    """One tick. Ticks only grow; a tick that was overslept is simply not asked about."""
    machine = _obey(machine, inputs, tick)
    if machine.phase not in MOVABLE:
        rung = next_rung(ladder, machine.rung, False, True, tick)
        return Machine(idle(machine.plan, inputs.answer), rung), Decision(None, False, None)
    plan, decided = decide(schedule, machine.plan, tick, inputs.answer, inputs.instruction)
    row = action_index(schedule, plan, tick)
    rung = next_rung(ladder, machine.rung, row is not None, inputs.resting, tick)
    start = decided.start and rung.phase in MOVABLE and not rung.stopping
    if decided.start and not start:
        plan = replace(plan, flight=None)
    first = start and plan.chunk is None
    return Machine(plan, rung), Decision(decided.release, start, row if rung.phase is Phase.TRACK else None, first)


def coast(schedule: Schedule, ladder: Ladder, machine: Machine, tick: int, resting: bool) -> tuple[Machine, int | None]:
    """Machine and row of a later tick if nothing new happens: what the committed prefix is made of."""
    row = action_index(schedule, machine.plan, tick)
    rung = next_rung(ladder, machine.rung, row is not None, resting, tick)
    return replace(machine, rung=rung), row if rung.phase is Phase.TRACK else None


def _obey(machine: Machine, inputs: Inputs, tick: int) -> Machine:
    """Trips before orders; arming only from where nothing moves, and never in the tick of a trip."""
    if inputs.trip is Trip.DEVICE:
        return replace(machine, rung=latched(machine.rung, tick))
    if inputs.trip is Trip.STOP or inputs.order in (Order.STOP, Order.QUIT):
        return replace(machine, rung=stopping(machine.rung))
    if inputs.order is Order.ARM and machine.phase not in MOVABLE:
        return Machine(restart(machine.plan, tick), armed(tick))
    return machine
