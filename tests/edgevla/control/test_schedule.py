"""Logical execution time, checked over every accepted small schedule and every pattern of lost inferences."""

import itertools
import random

import pytest

from edgevla.control.schedule import Answer, Plan, Schedule, action_index, broken_inequalities, decide

SMALL = [
    Schedule(h, d, r, m)
    for h, d, r, m in itertools.product(range(2, 15), range(1, 5), range(1, 7), range(3))
    if not broken_inequalities(h, d, r, m)
]


def simulate(schedule, lost, ticks, took=None):
    """Run `ticks` ticks. Inference i is answered after took[i] ticks (d), without a chunk when lost[i].

    Returns (tick, decision, row of the chunk, lost in a row) per tick, and the last plan.
    """
    plan, answer, number, rows = Plan(), None, 0, []
    for tick in range(ticks):
        plan, decision = decide(schedule, plan, tick, answer)
        if decision.start:
            done = tick + (took[number] if number < len(took or ()) else schedule.delay)
            pending = Answer(tick, done, valid=not (number < len(lost) and lost[number]))
            answer, number = None, number + 1
        if plan.flight is not None and pending.done <= tick + 1:
            answer = pending  # visible before the next tick
        rows.append((tick, decision, action_index(schedule, plan, tick), plan.lost_in_a_row))
    return rows, plan


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((25, 2, 8, 2), "H >= d + (m + 1) r: 25 >= 2 + 3 * 8 = 26"),
        ((40, 9, 8, 2), "r >= d: 8 >= 9"),
        ((40, 0, 8, 2), "d >= 1: 0 >= 1"),
        ((40, 2, 8, -1), "m >= 0: -1 >= 0"),
    ],
)
def test_a_schedule_that_cannot_hold_is_refused_with_its_inequality_in_numbers(numbers, text):
    with pytest.raises(ValueError) as error:
        Schedule(*numbers)
    assert text in str(error.value)


def test_the_reference_schedule_is_accepted():
    assert broken_inequalities(32, 2, 8, 2) == []


def test_every_chunk_is_released_exactly_d_ticks_after_it_was_asked_for():
    for schedule in SMALL:
        rows, plan = simulate(schedule, [], 40)
        asked = [tick for tick, decision, *_ in rows if decision.start]
        released = {decision.release: tick for tick, decision, *_ in rows if decision.release is not None}
        assert asked == list(range(0, 40, schedule.replan))
        assert all(tick == k + schedule.delay for k, tick in released.items())
        assert plan.release_misses == plan.passed_over == 0


def test_m_lost_inferences_in_a_row_never_run_the_chunk_out():
    """Every pattern over 8 inferences whose runs of losses are at most m (the first must arrive)."""
    for schedule in SMALL:
        for pattern in itertools.product((False, True), repeat=7):
            runs = [len(list(g)) for value, g in itertools.groupby(pattern) if value]
            if max(runs, default=0) > schedule.survive:
                continue
            lost = (False, *pattern)
            ticks = 8 * schedule.replan
            rows, _ = simulate(schedule, lost, ticks)
            assert all(index is not None for tick, _, index, _ in rows if tick >= schedule.delay), pattern


def test_whatever_the_inferences_take_a_chunk_runs_out_only_after_more_than_m_losses_were_counted():
    rng = random.Random(1)
    for schedule in SMALL:
        for _ in range(10):
            took = [0] + [rng.choice([1, schedule.delay, schedule.delay + 1, rng.randint(1, 20)]) for _ in range(30)]
            lost = [False] + [rng.random() < 0.3 for _ in range(30)]
            rows, _ = simulate(schedule, lost, 80, took)
            for tick, _, index, lost_in_a_row in rows:
                assert index is not None or tick < schedule.delay or lost_in_a_row > schedule.survive


def test_the_horizon_is_tight_one_more_loss_runs_it_out_when_h_has_no_slack():
    for schedule in SMALL:
        needed = schedule.delay + (schedule.survive + 1) * schedule.replan
        if schedule.horizon != needed:
            continue  # this horizon has slack
        lost = [False] + [True] * (schedule.survive + 1)
        rows, _ = simulate(schedule, lost, 8 * schedule.replan)
        assert any(index is None for tick, _, index, _ in rows if tick >= schedule.delay)


def test_a_hung_inference_counts_each_replan_tick_it_passes_and_the_next_starts_when_it_ends():
    for schedule in SMALL:
        hang = 2 * schedule.replan + 1
        rows, plan = simulate(schedule, [], hang + 1, took=[hang])
        assert [tick for tick, decision, *_ in rows if decision.start][:2] == [0, hang]
        assert (plan.release_misses, plan.passed_over) == (1, 2)
        assert all(decision.release is None for _, decision, *_ in rows)


def test_at_most_one_inference_is_in_flight():
    schedule = Schedule(32, 2, 8, 2)
    plan, running = Plan(), 0
    for tick in range(30):
        plan, decision = decide(schedule, plan, tick, None)  # the policy never answers
        running += decision.start
    assert running == 1


def test_a_chunk_that_is_ready_sooner_waits():
    schedule = Schedule(32, 4, 8, 2)
    plan, _ = decide(schedule, Plan(), 0, None)
    for tick in (1, 2, 3):
        plan, decision = decide(schedule, plan, tick, Answer(0, 1, True))
        assert decision.release is None
    assert decide(schedule, plan, 4, None)[1].release == 0


@pytest.mark.parametrize("answer", [Answer(0, 5, True), Answer(0, 4, False), Answer(0, 1, False)])
def test_a_late_or_invalid_chunk_is_discarded_and_counted_once(answer):
    schedule = Schedule(32, 4, 8, 2)
    plan, _ = decide(schedule, Plan(), 0, None)
    for tick in range(1, 8):
        plan, decision = decide(schedule, plan, tick, answer if tick >= answer.done else None)
        assert decision.release is None
    assert plan.release_misses == 1
    assert decide(schedule, plan, 8, None)[1].start


def test_a_chunk_that_claims_to_be_in_time_but_was_not_visible_at_its_release_stays_discarded():
    schedule = Schedule(32, 2, 8, 2)
    plan, _ = decide(schedule, Plan(), 0, None)
    plan, _ = decide(schedule, plan, 2, None)
    plan, decision = decide(schedule, plan, 3, Answer(0, 2, True))
    assert decision.release is None
    assert plan.release_misses == 1


def test_an_overslept_release_tick_still_releases_what_was_in_time():
    schedule = Schedule(32, 2, 8, 2)
    plan, _ = decide(schedule, Plan(), 0, None)
    plan, decision = decide(schedule, plan, 4, Answer(0, 2, True))  # ticks 1 to 3 were skipped
    assert decision.release == 0
    assert action_index(schedule, plan, 4) == 4


def test_an_answer_to_an_older_request_is_ignored():
    schedule = Schedule(32, 2, 8, 2)
    plan, _ = decide(schedule, Plan(), 8, None)
    plan, _ = decide(schedule, plan, 9, Answer(0, 9, True))
    assert plan.flight is not None
    assert plan.flight.answer is None


def test_a_chunk_has_no_action_past_its_horizon():
    schedule = Schedule(32, 2, 8, 2)
    plan = Plan(chunk=10)
    assert action_index(schedule, plan, 41) == 31
    assert action_index(schedule, plan, 42) is None
    assert action_index(schedule, Plan(), 0) is None
