"""What leaves the limiter is finite, in range, and no faster, harder or more sudden than the profile allows."""

from dataclasses import replace

import numpy as np
import pytest

import profiles
from edgevla.control.braking import axis_of, largest_acceleration, travel_up
from edgevla.control.limiter import Limited, Limits, Motion, hold, limits_of, seconds_to_rest, slow_down, track

T = 0.0125  # s
LIMITS = limits_of(profiles.load_arm("metaworld-sawyer"), T)
START = np.array([0.0, 0.6, 0.2, -1.0])
# max_velocity, max_acceleration, max_jerk, stop_deceleration, half range, step_s
SHAPES = {
    "joint at 1 kHz": (2.0, 10.0, 100.0, 5.0, 2.9, 0.001),
    "joint at 100 Hz": (2.0, 10.0, 100.0, 5.0, 2.9, 0.01),
    "range shorter than a stop from full speed": (2.0, 10.0, 50.0, 10.0, 0.02, 0.005),
    "never at full acceleration": (1.0, 1000.0, 300.0, 1000.0, 1.0, 0.01),
    "slow everything": (3.0, 3.0, 3.0, 3.0, 1.0, 0.05),
    "nearly nimble": (10.0, 100.0, 1e5, 50.0, 0.3, 0.01),
    "a telescope, every two seconds": (0.1, 0.02, 0.01, 0.02, 1.0, 2.0),
    "Sawyer's x": (0.8, 128.0, 20480.0, 8.0, 0.5, 0.0125),
    "Sawyer's gripper": (160.0, 25600.0, 4096000.0, 25600.0, 1.0, 0.0125),
}


def one_channel(velocity, acceleration, jerk, deceleration, half_range, step_s):
    ends = np.array([np.float32(half_range)], np.float64)
    columns = (np.array([x]) for x in (velocity, acceleration, jerk, deceleration))
    return Limits(-ends, ends, *columns, step_s)


def moving(setpoint, velocity, acceleration=0.0):
    return Motion(*(np.atleast_1d(np.array(x, np.float64)) for x in (setpoint, velocity, acceleration)))


def require_limits(limits, before, after, elapsed_s):
    """Judged by the set-points alone, not by what the limiter says of itself; and again as float32, on the wire."""
    velocity = (after.setpoint - before.setpoint) / elapsed_s
    acceleration = (velocity - before.velocity) / elapsed_s
    jerk = (acceleration - before.acceleration) / elapsed_s
    assert (after.setpoint >= limits.minimum).all()
    assert (after.setpoint <= limits.maximum).all()
    assert (np.abs(velocity) <= limits.max_velocity).all()
    assert (np.abs(acceleration) <= limits.max_acceleration * (1 + 1e-7)).all()
    assert (np.abs(jerk) <= limits.max_jerk * (1 + 1e-6)).all()
    sent, last = after.setpoint.astype(np.float32), before.setpoint.astype(np.float32)
    assert (sent >= limits.minimum).all()
    assert (sent <= limits.maximum).all()
    assert (np.abs(sent.astype(np.float64) - last) <= limits.max_velocity * elapsed_s).all()


def can_still_stop(limits, motion):
    """Before both ends of the range, and before max_velocity. 1e-9 for rounding."""
    axis = limits.axes[0]
    s, v, a = (float(x[0]) for x in (motion.setpoint, motion.velocity, motion.acceleration))
    slack = 1e-9 * (axis.high - axis.low)
    above = travel_up(axis, v, a) <= axis.high - s + slack
    below = travel_up(axis, -v, -a) <= s - axis.low + slack
    return above and below and speeding(axis, v, a) <= axis.velocity * (1 + 1e-9)


def speeding(axis, v, a):
    """The highest speed that v and a lead to when a is brought to zero at full jerk, step by step."""
    a, v, per_step = (a, v, axis.jerk * axis.step) if a > 0 else (-a, -v, axis.jerk * axis.step)
    while a > per_step:
        a -= per_step
        v += a * axis.step
    return max(v, abs(v))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_whatever_is_asked_and_however_late_every_limit_holds(shape):
    limits, rng = one_channel(*shape), np.random.default_rng(0)
    motion, target, slowing = Motion.at_rest(np.zeros(1)), 0.0, 0
    for _ in range(1500):
        elapsed_s = int(rng.choice([1, 1, 1, 2, 3, 4, 5])) * limits.step_s
        half = shape[4]
        if rng.random() < 0.1:
            target = rng.choice([rng.uniform(-2, 2) * half, half, -9 * half, motion.setpoint[0] + rng.normal() * 0.01])
        if rng.random() < 0.3:  # an adversary: always to where it is going
            target = np.copysign(9 * half, motion.velocity[0])
        slowing = int(rng.integers(1, 60)) if rng.random() < 0.01 else max(0, slowing - 1)
        step = slow_down(limits, motion, elapsed_s) if slowing else track(limits, motion, [target], elapsed_s)
        require_limits(limits, motion, step[0], elapsed_s)
        motion = step[0]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_from_any_motion_that_can_still_stop_the_next_one_can_too(shape):
    """Random motions put against the ends of the range as close as they can stop; elapsed 1 .. 5 steps."""
    limits, rng = one_channel(*shape), np.random.default_rng(1)
    axis, tried = limits.axes[0], 0
    while tried < 400:
        v = rng.uniform(-1, 1) * axis.velocity * 10.0 ** -rng.integers(3)
        a = rng.uniform(-1, 1) * axis.acceleration * 10.0 ** -rng.integers(3)
        top, bottom = axis.high - travel_up(axis, v, a), axis.low + travel_up(axis, -v, -a)
        motion = moving(rng.choice([top, bottom, rng.uniform(-1, 1) * axis.high]), v, a)
        if not (axis.low <= motion.setpoint[0] <= axis.high and can_still_stop(limits, motion)):
            continue
        tried += 1
        elapsed_s = int(rng.integers(1, 6)) * limits.step_s
        wanted = [rng.choice([9 * axis.high, 9 * axis.low, motion.setpoint[0]])]
        after = (
            track(limits, motion, wanted, elapsed_s) if rng.random() < 0.7 else slow_down(limits, motion, elapsed_s)
        )[0]
        require_limits(limits, motion, after, elapsed_s)
        assert can_still_stop(limits, after)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_believed_way_to_rest_is_never_shorter_than_the_real_one(shape):
    limits, rng = one_channel(*shape), np.random.default_rng(2)
    axis = limits.axes[0]
    hard = replace(
        limits, minimum=-1e3 * np.ones(1), maximum=1e3 * np.ones(1), stop_deceleration=limits.max_acceleration
    )
    for _ in range(20):
        motion = moving(0.0, rng.uniform(0, 1) * axis.velocity)
        believed = travel_up(axis, motion.velocity[0], 0.0)
        while not motion.resting:
            motion = slow_down(hard, motion, int(rng.integers(1, 6)) * limits.step_s)[0]
        assert motion.setpoint[0] <= believed + 1e-9


def test_the_distance_of_a_stop_is_that_of_the_textbook():
    """Jerk 2, no acceleration limit in reach: from 2 m/s, 1 s down and 1 s back, half the speed on average: 2 m."""
    axis = axis_of([-9.0, 9.0, 5.0, 10.0, 2.0, 10.0], 1e-6)
    assert travel_up(axis, 2.0, 0.0) == pytest.approx(2.0)
    # with a limit of 1 m/s^2: 0.5 s to it, 1.5 s at it, 0.5 s back: 2.5 s at 1 m/s on average
    slower = axis_of([-9.0, 9.0, 5.0, 1.0, 2.0, 1.0], 1e-6)
    assert travel_up(slower, 2.0, 0.0) == pytest.approx(2.5)
    # accelerating at 2 m/s^2 still: 1 s to zero at 2 t - t^2 = +1 m/s and 2 + 2/3 m, then 3 sqrt(3 / 2) m
    assert travel_up(axis, 2.0, 2.0) == pytest.approx(2 + 2 / 3 + 3 * np.sqrt(1.5))
    assert travel_up(axis, -2.0, -1.0) == 0.0


def test_the_largest_acceleration_spends_its_room_exactly():
    """step 0.1 s, jerk 10: 1 m/s^2 a step. 2.5 m/s^2 gains 0.25 now, then 0.15 and 0.05 on the way back: 0.45 m/s."""
    axis = axis_of([-9.0, 9.0, 5.0, 10.0, 10.0, 10.0], 0.1)
    assert largest_acceleration(axis, 0.45, 0.1) == pytest.approx(2.5)
    assert largest_acceleration(axis, 0.05, 0.1) == pytest.approx(0.5)
    assert largest_acceleration(axis, 0.0, 0.1) == 0.0
    assert largest_acceleration(axis, 0.70, 0.2) == pytest.approx(2.5)


def test_a_full_speed_step_of_the_reference_policy_passes_untouched():
    """0.01 m in one tick of 12.5 ms is 0.8 m/s, the profile's limit; the gripper closes in one tick."""
    wanted = np.array([0.01, 0.59, 0.21, 1.0], np.float32)
    motion, hit = track(LIMITS, Motion.at_rest(START), wanted, T)
    assert hit == Limited.NONE
    assert np.allclose(motion.setpoint, wanted, atol=1e-6)


def test_a_full_reversal_in_one_tick_passes_untouched():
    fast = Motion(START, np.array([0.8, 0.8, -0.8, 0.0]), np.array([64.0, -64.0, 0.0, 0.0]))
    _, hit = track(LIMITS, fast, START + np.array([-0.01, -0.01, 0.01, 0.0]), T)
    assert hit == Limited.NONE


def test_the_sawyer_follows_any_path_of_meta_worlds_own_steps():
    """Its tracking is not altered: steps of up to 0.01 m in any direction, each tick another, gripper at will."""
    rng, motion, aim = np.random.default_rng(0), Motion.at_rest(START), START.copy()
    for _ in range(500):
        step = np.append(rng.choice([-0.01, 0.0, 0.01], 3), 0.0)
        aim = np.clip(aim + step, LIMITS.minimum, LIMITS.maximum)
        aim[3] = rng.choice([-1.0, 1.0])
        motion, hit = track(LIMITS, motion, aim, T)
        assert hit == Limited.NONE
        assert np.abs(motion.setpoint - aim).max() < 1e-5


def test_a_jump_is_cut_to_the_maximum_velocity():
    motion, hit = track(LIMITS, Motion.at_rest(START), START + np.array([0.2, 0.0, 0.0, 0.0]), T)
    assert hit & Limited.VELOCITY
    assert motion.setpoint[0] == pytest.approx(0.01, abs=2e-7)


def test_after_skipped_periods_the_velocity_counts_over_the_time_that_passed():
    motion, hit = track(LIMITS, Motion.at_rest(START), START + np.array([0.02, 0.0, 0.0, 0.0]), 2 * T)
    assert hit == Limited.NONE
    assert motion.setpoint[0] == pytest.approx(0.02, abs=1e-6)


def test_a_target_outside_the_workspace_is_clipped_and_flagged():
    near = Motion.at_rest(np.array([0.495, 0.6, 0.2, -1.0]))
    motion, hit = track(LIMITS, near, np.array([0.6, 0.6, 0.2, -1.0]), T)
    assert hit & Limited.RANGE
    assert motion.setpoint[0] == 0.5


def test_a_joint_sent_beyond_its_end_comes_to_rest_on_it():
    limits = one_channel(*SHAPES["joint at 1 kHz"])
    motion = Motion.at_rest(np.zeros(1))
    for _ in range(4000):
        motion, hit = track(limits, motion, [9.0], 0.001)
    assert motion.setpoint[0] == limits.maximum[0]
    assert motion.resting
    assert hit == Limited.RANGE


@pytest.mark.parametrize("size", [0.002, 0.05, 1.0])
def test_a_jump_of_the_target_is_approached_without_overshoot(size):
    limits = one_channel(*SHAPES["joint at 1 kHz"])
    motion, highest = Motion.at_rest(np.zeros(1)), 0.0
    for _ in range(2000):
        motion, hit = track(limits, motion, [size], 0.001)
        highest = max(highest, motion.setpoint[0])
    assert highest == size == motion.setpoint[0]
    assert motion.resting
    assert hit == Limited.NONE


def test_a_lagging_joint_catches_up_with_a_moving_target_and_then_follows_exactly():
    limits = one_channel(*SHAPES["joint at 1 kHz"])
    motion = Motion.at_rest(np.zeros(1))
    for step in range(2000):
        aim = 0.2 + 0.5 * np.sin(0.002 * step)  # starts with a jump of 0.2 rad
        motion, hit = track(limits, motion, [aim], 0.001)
    assert hit == Limited.NONE
    assert motion.setpoint[0] == aim


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [-np.inf], [0.0, 0.0], []])
def test_a_target_that_is_no_target_slows_the_arm_down_within_its_limits(bad):
    limits = one_channel(*SHAPES["joint at 1 kHz"])
    motion = moving(0.0, 1.0, 2.0)
    steps = 0
    while not motion.resting:
        after, hit = track(limits, motion, np.array(bad), 0.001)
        assert hit & Limited.NOT_FINITE
        require_limits(limits, motion, after, 0.001)
        motion, steps = after, steps + 1
    assert 0.001 * steps <= seconds_to_rest(limits)
    assert motion.setpoint[0] > 0.1  # it did not freeze on the spot


@pytest.mark.parametrize("channel", range(4))
def test_one_bad_channel_rejects_the_whole_set_point(channel):
    wanted = START + 0.001
    wanted[channel] = np.nan
    motion, hit = track(LIMITS, Motion.at_rest(START), wanted, T)
    assert hit == Limited.NOT_FINITE
    assert (motion.setpoint == START).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_stop_ends_at_rest_in_its_bound_and_does_not_turn_back(shape):
    limits, rng = one_channel(*shape), np.random.default_rng(3)
    axis = limits.axes[0]
    for _ in range(20):
        motion = moving(0.0, rng.uniform(-1, 1) * axis.velocity)
        if not can_still_stop(limits, motion):
            continue
        direction, steps = np.sign(motion.velocity[0]), 0
        while not motion.resting:
            after, _ = slow_down(limits, motion, limits.step_s)
            assert after.velocity[0] * direction >= -1e-9
            assert abs(after.velocity[0]) <= abs(motion.velocity[0]) + 1e-12
            motion, steps = after, steps + 1
        assert steps * limits.step_s <= seconds_to_rest(limits)


def test_a_stop_uses_the_stop_deceleration_and_no_more_when_there_is_room():
    limits = one_channel(*SHAPES["joint at 1 kHz"])
    motion, hardest = moving(0.0, 2.0 - 1e-3), 0.0
    while not motion.resting:
        motion, _ = slow_down(limits, motion, 0.001)
        hardest = max(hardest, abs(motion.acceleration[0]))
    assert hardest == pytest.approx(5.0)


def test_an_arm_re_armed_outside_its_range_is_led_back_within_its_other_limits():
    limits = one_channel(*SHAPES["joint at 1 kHz"])
    motion = Motion.at_rest(np.array([3.1]))
    for _ in range(3000):
        after, hit = track(limits, motion, [2.0], 0.001)
        assert after.setpoint[0] <= 3.1
        assert abs(after.velocity[0]) <= 2.0
        assert abs(after.acceleration[0]) <= 10.0 + 1e-9
        motion = after
    assert motion.setpoint[0] == 2.0
    assert hit == Limited.NONE


@pytest.mark.parametrize(("velocity", "acceleration"), [(2.5, 0.0), (0.0, 14.0), (-2.5, -14.0)])
def test_a_motion_beyond_its_limits_is_led_back_at_the_jerk_limit(velocity, acceleration):
    limits = one_channel(*SHAPES["joint at 1 kHz"])
    motion = moving(0.0, velocity, acceleration)
    for _ in range(2000):
        after, _ = track(limits, motion, [0.5], 0.001)
        assert abs(after.acceleration[0] - motion.acceleration[0]) <= 100.0 * 0.001 * (1 + 1e-6)
        motion = after
    assert motion.setpoint[0] == 0.5
    assert motion.resting


def test_hold_keeps_the_position_and_drops_the_speed():
    held = hold(Motion(START, np.ones(4), np.ones(4)))
    assert held.resting
    assert (held.setpoint == START).all()


def test_a_stop_before_the_end_of_a_range_says_that_it_is_harder_for_it():
    limits = one_channel(*SHAPES["joint at 100 Hz"])
    near, far = moving(2.871, 0.618, -5.0), moving(2.0, 0.618, -5.0)
    assert slow_down(limits, near, limits.step_s)[1] == Limited.RANGE
    assert slow_down(limits, far, limits.step_s)[1] == Limited.NONE


def test_one_channel_that_moves_or_accelerates_is_no_rest():
    still = np.zeros(2)
    assert Motion(still, still, still).resting
    assert not Motion(still, np.array([0.0, 0.1]), still).resting
    assert not Motion(still, still, np.array([0.0, 0.1])).resting


def test_the_bound_of_a_stop_is_that_of_the_slowest_channel():
    columns = ((-1.0, -1.0), (1.0, 1.0), (2.0, 1.0), (10.0, 10.0), (100.0, 200.0), (5.0, 10.0))
    limits = Limits(*(np.array(column) for column in columns), 0.01)
    assert seconds_to_rest(limits) == pytest.approx((10.0 + 5.0) / 100.0 + 2.0 / 5.0 + 3 * 0.01)
