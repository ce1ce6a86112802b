"""Explicit-state search of `machine.step`: every outcome of every inference, every order, to a fixpoint.

A state is the machine with ticks counted from now and counters that no decision reads taken out, whether the arm moves,
and what the properties remember. The environment chooses in every tick: what becomes of the inference in
flight (nothing yet, a chunk seen in time, one that became visible just after this deadline, one that is not finite or
lost for good), and one event (none, arm, stop, protective stop, device stop, another instruction, an overslept tick).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgevla.control import machine as machines
from edgevla.control.ladder import MOVABLE, Ladder, Phase, Rung
from edgevla.control.machine import Inputs, Machine, Order, Trip
from edgevla.control.schedule import Answer, Flight, Plan, Schedule

TORQUE_TICKS = 2
FASTEST = 1  # levels of speed: moving, at rest
ORDERS = ("", "arm", "stop", "device")  # what may happen in a tick, besides what becomes of the inference
WORDS = ("", "arm", "words")
REST = ("", "arm", "stop", "rest")  # "rest" begins a rest or ends it
SLEEP = ("", "arm", "overslept")  # a servo that oversleeps a control tick keeps every property but the count of m
NOW = 1_000  # the tick of every canonical state: time is relative

_NEXT = {  # phases that may follow, besides staying: the ladder goes down, and up only by a chunk or by arming
    Phase.DISARMED: {Phase.START},
    Phase.START: {Phase.TRACK, Phase.LATCHED},
    Phase.TRACK: {Phase.SLOW, Phase.HOLD, Phase.LATCHED},
    Phase.SLOW: {Phase.TRACK, Phase.HOLD, Phase.LATCHED},
    Phase.HOLD: {Phase.TRACK, Phase.LATCHED},
    Phase.LATCHED: {Phase.TORQUE, Phase.START},
    Phase.TORQUE: {Phase.START},
}


@dataclass(frozen=True)
class State:
    """Between two ticks."""

    machine: Machine = field(default_factory=Machine)
    speed: int = 0
    resting: bool = False  # the operator wants it so
    slept: bool = False  # a control tick was overslept before
    foreign: bool = False  # the inference in flight was asked for before the last arming
    stopping_for: int = 0  # ticks since a stop was asked for, while movable
    words: int = 0  # epoch, 0 or 1
    words_for: int = -1  # ticks since the words changed, -1: they act, or an inference was lost since


def ladder(schedule: Schedule) -> Ladder:
    """The shortest hold in which a first chunk can arrive (`check` refuses a shorter one)."""
    return Ladder(hold_ticks=schedule.delay + 1, torque_ticks=TORQUE_TICKS)


class Violation(AssertionError):
    """A property that does not hold, and the way there."""


def canonical(schedule: Schedule, state: State, tick: int) -> State:
    """`state` before `tick` with all ticks moved to NOW and everything that no decision reads made equal."""
    plan, rung, shift = state.machine.plan, state.machine.rung, NOW - tick
    flight = plan.flight
    grid = plan.grid + shift if flight is not None else 0
    if flight is not None:
        oldest = NOW - schedule.delay - 1
        waits = flight.missed or rung.phase not in MOVABLE  # its age decides nothing any more
        asked = max(flight.asked + shift, oldest) if waits else flight.asked + shift
        answer = flight.answer and replace(flight.answer, asked=asked, done=flight.answer.done + shift)
        flight = replace(flight, asked=asked, answer=answer)
    chunk = None if plan.chunk is None else max(plan.chunk + shift, NOW - schedule.horizon)
    plan = Plan(
        due=max(plan.due + shift, NOW),
        grid=max(grid, NOW) if grid else 0,
        flight=flight,
        chunk=chunk,
        instruction=plan.instruction,
        lost_in_a_row=min(plan.lost_in_a_row, schedule.survive + 1),
    )
    longest = max(schedule.delay + 1, TORQUE_TICKS)
    rung = replace(rung, since=max(rung.since + shift, NOW - longest))
    return replace(state, machine=Machine(plan, rung), foreign=state.foreign and flight is not None)


def explore(schedule: Schedule, events: tuple[str, ...] = ORDERS) -> tuple[int, int]:
    """States and transitions reachable from a disarmed machine. Raises Violation."""
    first = canonical(schedule, State(), NOW)
    seen, frontier, transitions = {first}, [first], 0
    while frontier:
        state = frontier.pop()
        for event in events:
            for answer in _answers(state):
                for follower in _after(schedule, state, event, answer):
                    transitions += 1
                    if follower not in seen:
                        seen.add(follower)
                        frontier.append(follower)
    return len(seen), transitions


def _answers(state: State) -> list[Answer | None]:
    """What the servo may read at this tick of the inference in flight."""
    flight = state.machine.plan.flight
    if flight is None or flight.answer is not None:
        return [flight.answer if flight else None]
    k = flight.asked
    return [None, Answer(k, NOW, True), Answer(k, NOW + 1, True), Answer(k, NOW, False)]


def _after(schedule: Schedule, state: State, event: str, answer: Answer | None) -> list[State]:
    """States after the tick NOW (or the one after it, when NOW was overslept)."""
    tick = NOW + (event == "overslept")
    words = 1 - state.words if event == "words" and state.words_for < 0 else state.words
    inputs = Inputs(
        answer,
        {"arm": Order.ARM, "stop": Order.STOP}.get(event, Order.NONE),
        state.speed == 0,
        words,
        {"protective": Trip.STOP, "device": Trip.DEVICE}.get(event, Trip.NONE),
        state.resting != (event == "rest"),
    )
    machine, decision = machines.step(schedule, ladder(schedule), state.machine, tick, inputs)
    _judge(schedule, state, event, tick, inputs, machine, decision)
    speeds = {Phase.TRACK: (FASTEST, 0), Phase.SLOW: (max(0, state.speed - 1),)}.get(machine.phase, (0,))
    armed = machine.phase is Phase.START and state.machine.phase not in MOVABLE
    moved = replace(
        state,
        machine=machine,
        resting=inputs.rest,
        slept=state.slept or event == "overslept",
        foreign=machine.plan.flight is not None and (armed or inputs.rest or state.foreign) and not decision.start,
        stopping_for=state.stopping_for + 1 if machine.rung.stopping and machine.phase in MOVABLE else 0,
        words=words,
        words_for=_words_for(state, event, machine, decision, words, tick),
    )
    return [canonical(schedule, replace(moved, speed=speed), tick + 1) for speed in speeds]


def _words_for(state: State, event: str, machine: Machine, decision: object, words: int, tick: int) -> int:
    """Ticks since words changed that must act within r + d; -1 once they do, or when a chunk was lost since."""
    steady = machine.phase in MOVABLE and not machine.rung.stopping and event != "overslept"
    lost = machine.plan.lost_in_a_row > state.machine.plan.lost_in_a_row
    acts = machine.plan.chunk is not None and machine.plan.instruction == words
    if not steady or lost or acts:
        return -1
    if words != state.words:
        clean = state.machine.plan.flight is None or not state.machine.plan.flight.missed
        return 1 if clean and state.machine.plan.chunk is not None else -1
    return state.words_for + 1 if state.words_for >= 0 else -1


def _judge(schedule, state, event, tick, inputs, machine, decision) -> None:
    """Every property of the contract, at one transition."""
    answer = inputs.answer
    before, after, plan = state.machine.phase, machine.phase, machine.plan

    def must(holds: bool, text: str) -> None:
        if not holds:
            raise Violation(f"{text}: {schedule} {event!r} {answer} {state} -> {machine} {decision}")

    must(after is before or after in _NEXT[before], "the ladder goes down; up only by a chunk or by arming")
    must(before in MOVABLE or after not in MOVABLE or event == "arm", "only arming leads out of a latch")
    if after not in MOVABLE:
        must(decision.row is None and decision.release is None and not decision.start, "a latched arm takes nothing")
        return
    if inputs.rest and not machine.rung.stopping:
        must(after is not Phase.TRACK and not decision.start, "at rest no chunk moves the arm and none is asked for")
        return
    flight = state.machine.plan.flight
    if decision.release is not None:
        due = decision.release + schedule.delay
        must(flight is not None and flight.asked == decision.release, "only the chunk in flight is released")
        must(tick == due or (event == "overslept" and tick - 1 == due), "a chunk acts from k + d on, exactly")
        must(answer is not None and answer.valid and answer.done <= due, "a late or unsound chunk is discarded")
        must(not state.foreign, "no chunk from before the arming")
    elif flight is not None and answer is not None and answer.valid and answer.done <= flight.asked + schedule.delay:
        kept = tick < flight.asked + schedule.delay or flight.missed or before not in MOVABLE
        must(kept, "a chunk that is there in time is released")
    if after is Phase.TRACK:
        must(not machine.rung.stopping, "a stop is not undone by a chunk")
        must(decision.row is not None, "no command is missing")
        must(schedule.delay <= decision.row < schedule.horizon, "no command is older than H ticks, none before k + d")
    else:
        must(decision.row is None, "off the chunk the arm slows down or holds")
    ran_out = before is Phase.TRACK and after is not Phase.TRACK and not machine.rung.stopping
    counted = plan.lost_in_a_row > schedule.survive or state.slept or event == "overslept"
    must(not ran_out or counted, "m lost inferences cost nothing")
    asked_to = event in ("stop", "protective") and before in MOVABLE
    must(not asked_to or machine.rung.stopping, "a stop is heeded in its tick")
    must(state.stopping_for <= FASTEST + 3, "a stop ends in the latch in bounded time")
    must(state.words_for <= schedule.replan + schedule.delay, "new words act within r + d ticks")
    in_flight = plan.flight is None or tick - plan.flight.asked <= schedule.delay or plan.flight.missed
    must(in_flight, "an inference past k + d is a miss")


__all__ = ["ORDERS", "REST", "SLEEP", "WORDS", "Flight", "Rung", "Violation", "explore"]
