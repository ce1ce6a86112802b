"""The stop ladder: finish, decelerate, hold, latch; nothing resumes a latched arm."""

import numpy as np
import pytest

from edgevla.control.ladder import Control, Ladder, Phase, advance, ask_to_stop, ticks_to_rest
from edgevla.control.limiter import Limits, Motion

T = 0.0125  # s
LADDER = Ladder(hold_ticks=4, torque_ticks=6)
LIMITS = Limits(
    minimum=np.array([-0.5, -1.0]),
    maximum=np.array([0.5, 1.0]),
    max_velocity=np.array([0.8, 160.0]),
    max_acceleration=np.array([128.0, 25600.0]),
    max_jerk=np.array([20480.0, 4096000.0]),
    stop_deceleration=np.array([8.0, 25600.0]),
    step_s=0.0125,
)


def start(velocity=0.0):
    return Control(
        Motion(np.array([0.0, -1.0]), np.array([velocity, 0.0]), np.zeros(2)), Phase.TRACK if velocity else Phase.START
    )


def run(control, ticks, wanted=None, first=0):
    rows = []
    for tick in range(first, first + ticks):
        control, _ = advance(LIMITS, LADDER, control, wanted, tick, T)
        rows.append(control)
    return rows


def test_the_arm_holds_the_command_it_was_armed_with_until_the_first_release():
    rows = run(start(), 3)
    assert [c.phase for c in rows] == [Phase.START] * 3
    assert all((c.motion.setpoint == [0.0, -1.0]).all() for c in rows)


def test_an_arm_that_never_gets_a_chunk_latches_after_the_hold_time():
    assert [c.phase for c in run(start(), 6)] == [Phase.START] * 4 + [Phase.LATCHED] * 2


def test_a_chunk_that_runs_out_decelerates_to_rest_holds_latches_and_then_applies_the_torque_policy():
    phases = [c.phase for c in run(start(velocity=0.8), 24)]
    # 0.8 m/s at 8 m/s^2 and 12.5 ms a tick: 0.1 m/s less each tick, at rest after 8, no longer decelerating after 9
    assert phases == [Phase.SLOW] * 9 + [Phase.HOLD] * 4 + [Phase.LATCHED] * 6 + [Phase.TORQUE] * 5


def test_the_deceleration_stays_within_its_limit_and_never_reverses():
    positions = np.array([0.0] + [c.motion.setpoint[0] for c in run(start(velocity=0.8), 12)])
    speeds = np.diff(positions) / T
    assert (speeds >= -1e-6).all()
    assert np.abs(np.diff([0.8, *speeds]) / T).max() <= 8.0 + 1e-3
    assert positions[-1] == pytest.approx(0.035, abs=1e-6)  # T * (0.7 + 0.6 + ... + 0.1)


def test_a_chunk_within_the_hold_resumes():
    held = run(start(velocity=0.8), 10)[-1]
    assert held.phase is Phase.HOLD
    resumed, _ = advance(LIMITS, LADDER, held, held.motion.setpoint + np.array([0.01, 0.0]), 10, T)
    assert resumed.phase is Phase.TRACK
    assert resumed.motion.setpoint[0] == pytest.approx(held.motion.setpoint[0] + 0.01, abs=1e-6)


@pytest.mark.parametrize("ticks", [14, 18, 24])
def test_no_chunk_resumes_a_latched_arm(ticks):
    latched = run(start(velocity=0.8), ticks)[-1]
    assert latched.phase >= Phase.LATCHED
    for control in run(latched, 30, wanted=np.array([0.3, 1.0]), first=ticks):
        assert control.phase >= Phase.LATCHED
        assert (control.motion.setpoint == latched.motion.setpoint).all()


@pytest.mark.parametrize("velocity", [0.0, 0.1, 0.8])
def test_a_stop_that_was_asked_for_ignores_chunks_slows_down_and_latches(velocity):
    rows = run(ask_to_stop(start(velocity)), 12, wanted=np.array([0.3, 1.0]))
    assert all(c.phase is not Phase.TRACK for c in rows)
    assert any(c.phase is Phase.LATCHED for c in rows)
    assert np.abs(np.diff([c.motion.setpoint[0] for c in rows])).max() <= 0.8 * T


def test_the_hold_after_a_stop_is_commanded_at_least_once_at_rest():
    rows = run(ask_to_stop(start(velocity=0.8)), 12)
    first = next(c for c in rows if c.phase is Phase.LATCHED)
    assert first.motion.resting


def test_a_stop_near_the_end_of_the_range_stays_inside():
    control = Control(Motion(np.array([0.495, 0.0]), np.array([0.8, 0.0]), np.zeros(2)), Phase.TRACK)
    assert 0.4999 < max(c.motion.setpoint[0] for c in run(control, 12)) <= 0.5


def test_ticks_to_rest_covers_the_slowest_channel():
    """(128 + 8) / 20480 s of jerk, 0.8 / 8 s of deceleration, three ticks of 12.5 ms: 0.1441 s, 11.5 ticks."""
    assert ticks_to_rest(LIMITS, T) == 12
