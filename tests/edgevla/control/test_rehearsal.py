"""Before arming: does the host keep the declared rate?"""

import pytest

from edgevla.control import rehearsal
from edgevla.control.duty import Budget, RtLimits
from edgevla.control.rehearsal import Rehearsal
from edgevla.errors import Refused

STEP_NS = 12_500_000  # Ts at 80 Hz


def rehearsed(late=0, skipped=0, steps=100, busy_s=0.0001):
    found = Rehearsal(STEP_NS)
    for step in range(steps - skipped):
        found.note(STEP_NS // 2 + 1 if step < late else STEP_NS // 2, 0 if step else skipped, step * busy_s)
    return found


def test_forty_steps_are_half_a_second_at_80_hz_and_enough():
    assert not rehearsed(steps=39).long_enough
    assert rehearsed(steps=40).long_enough


def test_a_fast_servo_rehearses_for_half_a_second_too():
    found = Rehearsal(1_000_000)
    for _ in range(499):
        found.note(0, 0, 0.0)
    assert not found.long_enough
    found.note(0, 0, 0.0)
    assert found.long_enough


@pytest.mark.parametrize("kept", [{"late": 5}, {"skipped": 5}, {"late": 2, "skipped": 3}])
def test_a_twentieth_of_late_or_overslept_steps_is_granted(kept):
    found = rehearsed(**kept)
    found.require_rate()
    told = found.as_dict()
    assert (told["steps"], told["late"], told["kept"]) == (100, 5, True)


@pytest.mark.parametrize("busy", [{"late": 6}, {"skipped": 6}, {"late": 3, "skipped": 3}])
def test_one_more_is_refused_with_both_numbers_and_the_rate(busy):
    with pytest.raises(Refused, match="6 of 100 disarmed steps") as refused:
        rehearsed(**busy).require_rate()
    assert "80 Hz" in str(refused.value)


def test_a_servo_that_would_meet_the_kernels_throttle_is_refused(monkeypatch):
    limits = RtLimits((Budget(950_000, 1_000_000, "a file"),), ())
    monkeypatch.setattr(rehearsal, "read_rt_limits", lambda core=None: limits)
    rehearsed(busy_s=0.0094).require_rate()  # 0.76 of 12.5 ms is 9.5 ms
    with pytest.raises(Refused, match="real-time throttle"):
        rehearsed(busy_s=0.0097).require_rate()


def test_the_time_of_a_pause_is_no_part_of_the_servos_share():
    found = Rehearsal(STEP_NS)
    found.note(0, 0, 1.0)
    found.note(0, 0, 1.001)
    found.pause()
    found.note(0, 0, 9.0)
    found.note(0, 0, 9.001)
    assert found.as_dict()["busy_share"] == pytest.approx(0.002 / (4 * 0.0125), abs=1e-4)
