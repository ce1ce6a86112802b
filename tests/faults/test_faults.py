"""The short selection of the fault suite, against real processes; all of it: make test-faults."""

from __future__ import annotations

import pytest

from tests.faults.faults import FAULTS, Fault
from tests.faults.judge import play, wrong

SHORT = [fault for fault in FAULTS if fault.short]


def named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_under_fault_no_command_is_late_or_beyond_limits_and_the_arm_stops_within_its_bound(fault):
    if reason := fault.skip():
        pytest.skip(reason)
    assert wrong(fault, play(fault)) == []


def test_a_servo_without_its_limiter_is_seen(monkeypatch):
    monkeypatch.setenv("EDGEVLA_BROKEN", "bypass")
    row = play(named("chunks that jump 0.9 m"), servo="tests.faults.broken_servo")
    assert row.out_of_limit_commands > 10


def test_one_command_written_after_its_expiry_is_seen(monkeypatch):
    monkeypatch.setenv("EDGEVLA_BROKEN", "late")
    row = play(named("one chunk of NaN"), servo="tests.faults.broken_servo")
    assert row.late_commands >= 1


def test_names_are_unique_and_every_fault_that_may_stop_has_a_bound():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.bound or fault.expect == {"survived"} for fault in FAULTS)
