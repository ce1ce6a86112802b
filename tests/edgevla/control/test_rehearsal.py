"""Before arming: does the host keep the declared rate?"""

import pytest

from edgevla.control.rehearsal import Rehearsal
from edgevla.errors import Refused

STEP_NS = 12_500_000  # Ts at 80 Hz


def rehearsed(late=0, skipped=0, steps=100):
    found = Rehearsal(STEP_NS)
    for step in range(steps - skipped):
        found.note(STEP_NS // 2 + 1 if step < late else STEP_NS // 2, 0 if step else skipped)
    return found


def test_forty_steps_are_half_a_second_at_80_hz_and_enough():
    assert not rehearsed(steps=39).long_enough
    assert rehearsed(steps=40).long_enough


def test_a_fast_servo_rehearses_for_half_a_second_too():
    found = Rehearsal(1_000_000)
    for _ in range(499):
        found.note(0, 0)
    assert not found.long_enough
    found.note(0, 0)
    assert found.long_enough


@pytest.mark.parametrize("kept", [{"late": 5}, {"skipped": 5}, {"late": 2, "skipped": 3}])
def test_a_twentieth_of_late_or_overslept_steps_is_granted(kept):
    found = rehearsed(**kept)
    found.require_rate()
    assert found.as_dict() == {"steps": 100, "late": 5}


@pytest.mark.parametrize("busy", [{"late": 6}, {"skipped": 6}, {"late": 3, "skipped": 3}])
def test_one_more_is_refused_with_both_numbers_and_the_rate(busy):
    with pytest.raises(Refused, match="6 of 100 disarmed steps") as refused:
        rehearsed(**busy).require_rate()
    assert "80 Hz" in str(refused.value)
