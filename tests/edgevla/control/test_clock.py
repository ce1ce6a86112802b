"""Deadlines are absolute; overslept periods are skipped and never made up."""

import time

import pytest

from edgevla.control.clock import Grid, sleep_until

GRID = Grid(epoch_ns=1_000, period_ns=100)


def test_deadlines_never_drift():
    assert [GRID.deadline_ns(step) for step in (0, 1, 1_000_000)] == [1_000, 1_100, 100_001_000]


@pytest.mark.parametrize(
    ("now", "step"),
    [(1_500, 5), (1_599, 5), (1_600, 6), (1_799, 7), (1_400, 5)],  # woken for step 5, deadline 1_500
)
def test_an_overslept_period_is_skipped_and_the_phase_kept(now, step):
    assert GRID.current_step(5, now) == step


@pytest.mark.parametrize(("time_ns", "step"), [(1_000, 0), (1_001, 1), (1_100, 1), (1_101, 2), (900, -1)])
def test_the_first_step_at_or_after_a_time(time_ns, step):
    assert GRID.first_step_at_or_after(time_ns) == step


def test_sleeping_ends_at_or_after_the_deadline():
    deadline = time.monotonic_ns() + 3_000_000
    assert sleep_until(deadline) >= deadline


def test_a_deadline_in_the_past_returns_at_once():
    now = time.monotonic_ns()
    assert sleep_until(now - 1_000_000) >= now
