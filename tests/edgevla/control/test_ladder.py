"""The stop ladder: finish, decelerate, hold, latch; nothing but arming resumes a latched arm."""

import pytest

import profiles
from edgevla.control.ladder import Ladder, Phase, Rung, armed, latched, next_rung, stopping, ticks_to_rest
from edgevla.control.limiter import limits_of

LADDER = Ladder(hold_ticks=4, torque_ticks=6)


def climb(rung, ticks, has_action=False, rests_after=0, first=0):
    """Phases of `ticks` ticks; the arm rests from tick first + rests_after on."""
    rungs = []
    for tick in range(first, first + ticks):
        rung = next_rung(LADDER, rung, has_action, tick - first >= rests_after, tick)
        rungs.append(rung)
    return rungs


def phases(rungs):
    return [rung.phase for rung in rungs]


def test_a_disarmed_arm_stays_so_whatever_chunks_come():
    assert phases(climb(Rung(), 20, has_action=True)) == [Phase.DISARMED] * 20


def test_an_arm_that_never_gets_a_chunk_latches_after_the_hold_time():
    assert phases(climb(armed(0), 6)) == [Phase.START] * 4 + [Phase.LATCHED] * 2


def test_a_chunk_that_runs_out_decelerates_to_rest_holds_latches_and_then_applies_the_torque_policy():
    assert phases(climb(Rung(Phase.TRACK), 24, rests_after=8)) == (
        [Phase.SLOW] * 8 + [Phase.HOLD] * 4 + [Phase.LATCHED] * 6 + [Phase.TORQUE] * 6
    )


@pytest.mark.parametrize("phase", [Phase.START, Phase.TRACK, Phase.SLOW, Phase.HOLD])
def test_a_chunk_before_the_latch_is_tracked(phase):
    assert next_rung(LADDER, Rung(phase, 5), True, False, 6).phase is Phase.TRACK


@pytest.mark.parametrize("phase", [Phase.LATCHED, Phase.TORQUE])
def test_no_chunk_resumes_a_latched_arm(phase):
    assert all(p >= Phase.LATCHED for p in phases(climb(Rung(phase), 30, has_action=True)))


@pytest.mark.parametrize("rests_after", [0, 1, 8])
def test_a_stop_that_was_asked_for_ignores_chunks_slows_down_holds_once_and_latches(rests_after):
    seen = phases(climb(stopping(Rung(Phase.TRACK)), 12, has_action=True, rests_after=rests_after))
    whole = [Phase.SLOW] * rests_after + [Phase.HOLD] + [Phase.LATCHED] * 6 + [Phase.TORQUE] * 12
    assert seen == whole[:12]


def test_a_disarmed_or_latched_arm_has_nothing_to_stop():
    assert stopping(Rung()) == Rung()
    assert stopping(Rung(Phase.LATCHED, 3)) == Rung(Phase.LATCHED, 3)


def test_a_device_that_stopped_itself_is_latched_at_once_and_never_armed_by_it():
    assert latched(Rung(Phase.TRACK, 3), 9) == Rung(Phase.LATCHED, 9, stopping=True)
    assert latched(Rung(), 9) == Rung()
    assert latched(Rung(Phase.TORQUE, 3), 9).phase is Phase.TORQUE


def test_ticks_to_rest_covers_the_slowest_channel():
    # 0.8 m/s at 8 m/s^2 is 0.1 s, 8 ticks; the jerk to get there and back makes it 0.144 s
    assert ticks_to_rest(limits_of(profiles.load_arm("metaworld-sawyer"), 0.0125), 0.0125) == 12
