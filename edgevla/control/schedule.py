"""Logical execution time: a chunk asked for at tick k acts from tick k + d, never earlier, never later.

Pure: ticks and answers in, decisions out. Order inside a tick: release, then (after the command of the tick
is known) freeze the prefix, sample, start. Action i of the chunk asked for at tick k belongs to tick k + i.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Schedule:
    """The four numbers of the timing contract, in ticks. Only what can hold can be built.

    Raises:
        ValueError: one of `H >= d + (m + 1) r`, `r >= d`, `d >= 1`, `m >= 0` does not hold, in numbers.
    """

    horizon: int  # H: actions in a chunk
    delay: int  # d: observation sampled -> chunk released
    replan: int  # r: between two inferences
    survive: int  # m: consecutive lost inferences that cost nothing

    def __post_init__(self) -> None:
        broken = broken_inequalities(self.horizon, self.delay, self.replan, self.survive)
        if broken:
            raise ValueError("; ".join(broken))


def broken_inequalities(horizon: int, delay: int, replan: int, survive: int) -> list[str]:
    """The inequalities of the schedule that do not hold, each in numbers; empty when it can hold."""
    needed = delay + (survive + 1) * replan
    rules = (
        (delay >= 1, f"d >= 1: {delay} >= 1"),
        (survive >= 0, f"m >= 0: {survive} >= 0"),
        (replan >= delay, f"r >= d: {replan} >= {delay}"),
        (
            horizon >= needed,
            f"H >= d + (m + 1) r: {horizon} >= {delay} + {survive + 1} * {replan} = {needed}",
        ),
    )
    return [text for kept, text in rules if not kept]


@dataclass(frozen=True)
class Answer:
    """What the policy process said about the inference of tick `asked`."""

    asked: int  # tick k
    done: int  # first tick whose deadline is not before the moment the chunk was visible
    valid: bool  # False: no usable chunk (stale frame, non-finite, process restarted)


@dataclass(frozen=True)
class Flight:
    """The one inference that is running, or whose chunk waits for its release."""

    asked: int
    instruction: int = 0  # epoch of the instruction it was asked under
    answer: Answer | None = None
    missed: bool = False  # its release tick has passed without it


@dataclass(frozen=True)
class Plan:
    """State of the schedule between two ticks."""

    due: int = 0  # tick of the next inference
    grid: int = 0  # next re-plan tick that counts as passed over while a flight is running
    flight: Flight | None = None
    chunk: int | None = None  # k of the released chunk
    instruction: int = 0  # epoch that the released chunk acts on
    lost_in_a_row: int = 0  # inferences lost since the last release
    released: int = 0
    release_misses: int = 0  # chunks absent at k + d
    passed_over: int = 0  # re-plan ticks at which an inference was still running


@dataclass(frozen=True)
class Decision:
    """What to do in this tick."""

    release: int | None  # k of the chunk that acts from this tick on
    start: bool  # freeze the prefix, sample, start an inference


def decide(
    schedule: Schedule, plan: Plan, tick: int, answer: Answer | None, instruction: int = 0
) -> tuple[Plan, Decision]:
    """One tick. Ticks only grow; a tick that the servo overslept is simply not asked about."""
    plan = _take_answer(plan, answer)
    plan, release = _release(schedule, plan, tick)
    plan = _count_passed_over(schedule, plan, tick)
    start = plan.flight is None and tick >= plan.due
    if start:
        next_due = tick + schedule.replan
        plan = replace(plan, flight=Flight(tick, instruction), due=next_due, grid=next_due)
    return plan, Decision(release, start)


def restart(plan: Plan, tick: int) -> Plan:
    """The plan of an arm that starts anew at `tick`: no chunk, the first inference due at once. Counts go on.

    An inference that still runs was asked for in another life: its answer names another tick and is not taken. The next
    request waits in its slot until the policy, which does one at a time, has come to its end.
    """
    return replace(plan, due=tick, grid=tick + 1, flight=None, chunk=None, lost_in_a_row=0)


def idle(plan: Plan, answer: Answer | None) -> Plan:
    """A tick of an arm that takes no chunks (disarmed, latched): only the end of an inference is noted."""
    plan = replace(_take_answer(plan, answer), chunk=None)
    ended = plan.flight is not None and plan.flight.answer is not None
    return replace(plan, flight=None) if ended else plan


def action_index(schedule: Schedule, plan: Plan, tick: int) -> int | None:
    """Row of the released chunk that belongs to `tick`; None when there is no chunk or it ran out."""
    if plan.chunk is None:
        return None
    index = tick - plan.chunk
    return index if index < schedule.horizon else None


def _take_answer(plan: Plan, answer: Answer | None) -> Plan:
    flight = plan.flight
    if answer is None or flight is None or answer.asked != flight.asked:
        return plan
    return replace(plan, flight=replace(flight, answer=answer))


def _release(schedule: Schedule, plan: Plan, tick: int) -> tuple[Plan, int | None]:
    flight = plan.flight
    if flight is None or tick < flight.asked + schedule.delay:
        return plan, None
    answer = flight.answer
    on_time = answer is not None and answer.valid and answer.done <= flight.asked + schedule.delay
    if on_time and not flight.missed:
        released = plan.released + 1
        plan = replace(plan, flight=None, chunk=flight.asked, instruction=flight.instruction, released=released)
        return replace(plan, lost_in_a_row=0), flight.asked
    if not flight.missed:
        plan = replace(plan, release_misses=plan.release_misses + 1, lost_in_a_row=plan.lost_in_a_row + 1)
    # An answer ends the flight; without one the inference still runs and blocks the next.
    return replace(plan, flight=None if answer is not None else replace(flight, missed=True)), None


def _count_passed_over(schedule: Schedule, plan: Plan, tick: int) -> Plan:
    if plan.flight is None or tick < plan.grid:
        return plan
    passed = (tick - plan.grid) // schedule.replan + 1
    return replace(
        plan,
        grid=plan.grid + passed * schedule.replan,
        passed_over=plan.passed_over + passed,
        lost_in_a_row=plan.lost_in_a_row + passed,
    )
