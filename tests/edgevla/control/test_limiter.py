"""What leaves the limiter is finite, in range, and no faster than the profile allows."""

import numpy as np
import pytest

import profiles
from edgevla.control.limiter import Limited, Motion, hold, limits_of, track

T = 0.0125  # s
LIMITS = limits_of(profiles.load_arm("metaworld-sawyer"))
START = np.array([0.0, 0.6, 0.2, -1.0])


def test_a_full_speed_step_of_the_reference_policy_passes_untouched():
    """0.01 m in one tick of 12.5 ms is 0.8 m/s, the profile's limit; the gripper closes in one tick."""
    wanted = np.array([0.01, 0.59, 0.21, 1.0], np.float32)
    motion, hit = track(LIMITS, Motion.at_rest(START), wanted, T)
    assert hit == Limited.NONE
    assert np.allclose(motion.setpoint, wanted, atol=1e-6)


def test_a_full_reversal_in_one_tick_passes_untouched():
    moving = Motion(START, np.array([0.8, 0.8, -0.8, 0.0]))
    _, hit = track(LIMITS, moving, START + np.array([-0.01, -0.01, 0.01, 0.0]), T)
    assert hit == Limited.NONE


def test_a_jump_is_cut_to_the_maximum_velocity():
    motion, hit = track(LIMITS, Motion.at_rest(START), START + np.array([0.2, 0.0, 0.0, 0.0]), T)
    assert hit & Limited.VELOCITY
    assert motion.setpoint[0] == pytest.approx(0.01, abs=1e-7)


def test_after_skipped_periods_the_velocity_counts_over_the_time_that_passed():
    motion, hit = track(LIMITS, Motion.at_rest(START), START + np.array([0.02, 0.0, 0.0, 0.0]), 2 * T)
    assert hit == Limited.NONE
    assert motion.setpoint[0] == pytest.approx(0.02, abs=1e-7)


def test_a_target_outside_the_workspace_is_clipped_and_flagged():
    near = Motion.at_rest(np.array([0.495, 0.6, 0.2, -1.0]))
    motion, hit = track(LIMITS, near, np.array([0.6, 0.6, 0.2, -1.0]), T)
    assert hit & Limited.RANGE
    assert motion.setpoint[0] == 0.5
    assert motion.velocity[0] == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", range(4))
def test_a_non_finite_target_repeats_the_last_command(bad, channel):
    wanted = START.copy()
    wanted[channel] = bad
    motion, hit = track(LIMITS, Motion.at_rest(START), wanted, T)
    assert hit == Limited.NOT_FINITE
    assert (motion.setpoint == START).all()


def test_a_target_of_the_wrong_shape_repeats_the_last_command():
    motion, hit = track(LIMITS, Motion.at_rest(START), np.zeros(3), T)
    assert hit == Limited.NOT_FINITE
    assert (motion.setpoint == START).all()


def test_whatever_is_asked_the_command_obeys_every_limit():
    rng = np.random.default_rng(0)
    motion = Motion.at_rest(START)
    for _ in range(3000):
        wanted = motion.setpoint + rng.normal(0, [0.05, 0.05, 0.05, 1.0]) * rng.choice([0.1, 1.0, 10.0])
        after, _ = track(LIMITS, motion, wanted, T)
        speed = (after.setpoint - motion.setpoint) / T
        assert (after.setpoint >= LIMITS.minimum).all()
        assert (after.setpoint <= LIMITS.maximum).all()
        assert (np.abs(speed) <= LIMITS.max_velocity * (1 + 1e-4)).all()
        assert (after.setpoint == after.setpoint.astype(np.float32)).all()
        motion = after


def test_hold_keeps_the_position_and_drops_the_speed():
    held = hold(Motion(START, np.ones(4)))
    assert held.resting
    assert (held.setpoint == START).all()
