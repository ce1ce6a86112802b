"""One whole cycle for callers without a loop: how it waits for its answer."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from firmware_bridge.arm import AWAKE_NS, exchange
from firmware_bridge.errors import Expired, NoAnswer

GOAL = np.zeros(2, np.float32)
MS = 1_000_000


class Slow:
    """An arm whose answer is there `takes_ns` after the command. It notes how long it was allowed to sleep."""

    def __init__(self, takes_ns):
        self.takes_ns, self.last_asked, self.sleeps = takes_ns, 0, []

    def send(self, setpoint, expiry_ns):
        self.sent_ns = time.monotonic_ns()
        self.last_asked += 1
        return self.sent_ns if self.sent_ns < expiry_ns else 0

    def wait_readable(self, deadline_ns):
        now_ns, there_ns = time.monotonic_ns(), self.sent_ns + self.takes_ns
        self.sleeps.append(deadline_ns - now_ns)
        until_ns = min(deadline_ns, there_ns)
        if until_ns > now_ns:
            time.sleep((until_ns - now_ns) * 1e-9)
        self.there = max(deadline_ns, now_ns) >= there_ns  # as asked, not as slept: a busy machine oversleeps
        return self.there

    def poll(self):
        return SimpleNamespace(last_seq=self.last_asked) if self.there else None

    def silence(self):
        return NoAnswer("nothing came")


def soon(ns=200 * MS):
    return time.monotonic_ns() + ns


def test_without_a_wire_time_it_sleeps_until_the_answer_or_the_deadline():
    arm = Slow(5 * MS)
    exchange(arm, GOAL, soon())
    assert len(arm.sleeps) == 1
    assert arm.sleeps[0] > 100 * MS


def test_it_is_awake_when_the_wire_is_done():
    arm = Slow(20 * MS)
    exchange(arm, GOAL, soon(), wire_ns=20 * MS)
    assert arm.sleeps[0] < 20 * MS - AWAKE_NS  # until shortly before, and no longer
    assert arm.sleeps[1] <= 0  # then it looks


def test_an_answer_before_the_wire_could_be_done_is_taken_at_once():
    arm = Slow(2 * MS)
    began_ns = time.monotonic_ns()
    exchange(arm, GOAL, soon(), wire_ns=150 * MS)
    assert time.monotonic_ns() - began_ns < 100 * MS
    assert len(arm.sleeps) == 1


def test_an_answer_that_is_late_is_waited_for_asleep():
    arm = Slow(30 * MS)
    exchange(arm, GOAL, soon(), wire_ns=1 * MS)
    assert arm.sleeps[-1] > 100 * MS
    assert all(sleep <= 1 * MS for sleep in arm.sleeps[:-1])


@pytest.mark.parametrize("wire_ns", [0, 5 * MS, 20 * MS, 500 * MS])
def test_the_deadline_ends_it_whatever_the_wire_time(wire_ns):
    arm, deadline_ns = Slow(1000 * MS), soon(20 * MS)
    with pytest.raises(NoAnswer):
        exchange(arm, GOAL, deadline_ns, wire_ns)
    assert deadline_ns <= time.monotonic_ns() < deadline_ns + 100 * MS


def test_a_command_that_has_expired_is_not_waited_for():
    arm = Slow(1 * MS)
    with pytest.raises(Expired):
        exchange(arm, GOAL, time.monotonic_ns() - 1, wire_ns=1 * MS)
    assert arm.sleeps == []
