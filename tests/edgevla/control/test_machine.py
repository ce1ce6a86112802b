"""The state machine of a tick, model-checked over every accepted schedule of H <= 12, and mutants that must die.

`make model-check` goes to H <= 16, `make model-check-all` with every kind of event over every schedule.
"""

import itertools
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgevla.control import machine as machines
from edgevla.control import schedule as schedules
from edgevla.control.ladder import Ladder, Phase, Rung
from edgevla.control.machine import Inputs, Machine, Order, Trip, coast, step
from edgevla.control.schedule import Answer, Schedule, broken_inequalities

sys.path.insert(0, str(Path(__file__).parent))

from model import ORDERS, REST, SLEEP, WORDS, Violation, explore

LADDER = Ladder(hold_ticks=4, torque_ticks=6)
SCHEDULE = Schedule(32, 2, 8, 2)
ASKED = os.environ.get("EDGEVLA_MODEL_CHECK")
H_MAX, ALL = (16 if ASKED else 12), ASKED == "all"


def unchecked(h, d, r, m):
    """A schedule that the inequalities did not see."""
    schedule = object.__new__(Schedule)
    for name, value in zip(("horizon", "delay", "replan", "survive"), (h, d, r, m), strict=True):
        object.__setattr__(schedule, name, value)
    return schedule


def accepted(broken=broken_inequalities, least_only=False):
    """Every (H, d, r, m) with H <= H_MAX that the inequalities accept; or the least H of each (d, r, m) only."""
    found = []
    for d, r, m in itertools.product(range(1, H_MAX), range(1, H_MAX), range(H_MAX)):
        horizons = [h for h in range(2, H_MAX + 1) if not broken(h, d, r, m)]
        found += [(h, d, r, m) for h in (horizons[:1] if least_only else horizons)]
    return found


# Orders over every accepted schedule; words and oversleeping over the tightest of each, or over every one on request.
SEARCHES = {
    "orders": (ORDERS, accepted()),
    "words": (WORDS, accepted(least_only=not ALL)),
    "rest": (REST, accepted(least_only=not ALL)),
    "sleep": (SLEEP, accepted(least_only=not ALL)),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_every_accepted_schedule_keeps_the_contract_in_every_reachable_state(kind, capsys):
    events, every = SEARCHES[kind]
    with multiprocessing.get_context("fork").Pool() as pool:  # a search a core
        found = pool.starmap(explore, [(Schedule(*numbers), events) for numbers in every], chunksize=4)
    states, transitions = (sum(column) for column in zip(*found, strict=True))
    with capsys.disabled():
        print(f"\nmodel check, {kind}: {len(every)} schedules, {states} states, {transitions} transitions", end=" ")
    assert states > 50 * len(every)


def test_the_reference_schedule_keeps_the_contract_with_every_event(capsys):
    states, transitions = explore(SCHEDULE, (*ORDERS, "protective", "words"))
    with capsys.disabled():
        print(f"\nmodel check, reference schedule: {states} states, {transitions} transitions", end=" ")


def dies(schedule, events=ORDERS):
    try:
        explore(schedule, events)
    except Violation:
        return True
    return False


def test_the_mutant_r_plus_m_for_m_plus_1_times_r_is_killed():
    def mutant(h, d, r, m):
        return [] if r >= d and h >= d + r + m else ["mutant"]

    wrongly = [numbers for numbers in accepted(mutant) if broken_inequalities(*numbers)]
    assert len(wrongly) > 100
    assert any(dies(unchecked(*numbers)) for numbers in wrongly[:20])


@pytest.mark.parametrize("off", [-1, 1])
def test_the_mutants_that_release_a_tick_early_or_late_are_killed(monkeypatch, off):
    right = schedules._release
    monkeypatch.setattr(
        schedules,
        "_release",
        lambda s, plan, tick: right(unchecked(s.horizon, s.delay + off, s.replan, s.survive), plan, tick),
    )
    assert dies(Schedule(12, 2, 4, 1))


def test_the_mutant_that_takes_late_chunks_is_killed(monkeypatch):
    right = schedules._take_answer

    def early(plan, answer):
        return right(plan, answer and replace(answer, done=0))

    monkeypatch.setattr(schedules, "_take_answer", early)
    assert dies(Schedule(12, 2, 4, 1))


def test_the_mutant_that_lets_a_chunk_unlatch_is_killed(monkeypatch):
    right = machines.next_rung

    def unlatch(ladder, rung, has_action, resting, tick):
        unlatched = has_action and rung.phase is Phase.LATCHED
        return Rung(Phase.TRACK, tick) if unlatched else right(ladder, rung, has_action, resting, tick)

    monkeypatch.setattr(machines, "next_rung", unlatch)
    assert dies(Schedule(12, 2, 4, 1))


def test_the_mutant_that_forgets_a_stop_is_killed(monkeypatch):
    monkeypatch.setattr(machines, "stopping", lambda rung: rung)
    assert dies(Schedule(12, 2, 4, 1))


def test_the_mutant_that_releases_a_chunk_from_before_the_arming_is_killed(monkeypatch):
    right = machines.restart

    def remember(plan, tick):
        return replace(right(plan, tick), flight=plan.flight)

    monkeypatch.setattr(machines, "restart", remember)
    assert dies(Schedule(12, 2, 4, 1))


def armed_machine():
    machine, _ = step(SCHEDULE, LADDER, Machine(), 0, Inputs(order=Order.ARM))
    return machine


def test_a_new_machine_is_disarmed_and_asks_for_nothing():
    machine, decision = step(SCHEDULE, LADDER, Machine(), 0, Inputs())
    assert machine.phase is Phase.DISARMED
    assert not decision.start


def test_arming_starts_the_first_inference_in_its_tick_with_no_past():
    machine, decision = step(SCHEDULE, LADDER, Machine(), 7, Inputs(order=Order.ARM))
    assert machine.phase is Phase.START
    assert (decision.start, decision.first, decision.row) == (True, True, None)


def test_the_released_chunk_gives_row_d_at_its_release():
    machine = armed_machine()
    for tick in (1, 2):
        machine, decision = step(SCHEDULE, LADDER, machine, tick, Inputs(Answer(0, 1, True)))
    assert (machine.phase, decision.release, decision.row) == (Phase.TRACK, 0, 2)


def test_a_device_that_stops_itself_latches_at_once_and_only_arming_resumes():
    machine, _ = step(SCHEDULE, LADDER, armed_machine(), 1, Inputs(trip=Trip.DEVICE))
    assert machine.phase is Phase.LATCHED
    machine, _ = step(SCHEDULE, LADDER, machine, 2, Inputs(Answer(0, 1, True)))
    assert machine.phase is Phase.LATCHED
    machine, decision = step(SCHEDULE, LADDER, machine, 3, Inputs(order=Order.ARM))
    assert (machine.phase, decision.start) == (Phase.START, True)


def test_an_order_to_arm_in_the_tick_of_a_trip_is_not_heeded():
    machine, _ = step(SCHEDULE, LADDER, Machine(), 0, Inputs(order=Order.ARM, trip=Trip.STOP))
    assert machine.phase is Phase.DISARMED


def test_a_chunk_acts_on_the_words_it_was_asked_under():
    machine = armed_machine()
    machine, _ = step(SCHEDULE, LADDER, machine, 1, Inputs(instruction=5))
    machine, decision = step(SCHEDULE, LADDER, machine, 2, Inputs(Answer(0, 1, True), instruction=5))
    assert (decision.release, machine.plan.instruction) == (0, 0)
    for tick in range(3, 11):
        machine, decision = step(SCHEDULE, LADDER, machine, tick, Inputs(Answer(8, 9, True), instruction=5))
    assert (decision.release, machine.plan.instruction) == (8, 5)


def test_a_rest_outlasts_the_hold_and_ends_with_a_fresh_inference():
    machine = armed_machine()
    for tick in range(1, 20):
        machine, decision = step(SCHEDULE, LADDER, machine, tick, Inputs(Answer(0, 1, True), rest=True))
        assert machine.phase is Phase.START
        assert not decision.start
    machine, decision = step(SCHEDULE, LADDER, machine, 20, Inputs(Answer(0, 1, True), instruction=1))
    assert (decision.start, decision.first) == (True, True)


def test_coasting_keeps_the_plan_and_follows_the_ladder():
    machine = armed_machine()
    for tick in (1, 2):
        machine, _ = step(SCHEDULE, LADDER, machine, tick, Inputs(Answer(0, 1, True)))
    later, row = coast(SCHEDULE, LADDER, machine, 31, False)
    assert (later.phase, row, later.plan) == (Phase.TRACK, 31, machine.plan)
    later, row = coast(SCHEDULE, LADDER, machine, 32, False)
    assert (later.phase, row) == (Phase.SLOW, None)
