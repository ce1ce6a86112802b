"""The limiter in C gives the bits of the one in Python: single steps of every kind, and whole drives."""

import numpy as np
import pytest

import profiles
from edgevla.control.limiter import Limited, Motion, limits_of, slow_down, track
from tests.edgevla.control.borders import BORDERS
from tests.firmware_bridge.firmware.limiter_cases import cases, compare, differing, in_python, python_axes, ranges

CASES = 20_000  # make test-firmware compares 10^6


def test_single_steps_and_axes_have_the_same_bits(c):
    done = compare(c, CASES, seed=1)
    assert done["track"] + done["slow"] == CASES
    every = Limited.ACCELERATION | Limited.VELOCITY | Limited.RANGE | Limited.JERK
    assert done["bits"] == every, "the cases no longer reach every limit"


@pytest.mark.parametrize("border", BORDERS, ids=lambda border: border.name)
def test_a_step_on_a_border_has_the_same_bits(c, border):
    rows, steps = np.array([border.limits]), np.array([border.step_s])
    table = np.array([[*border.now, *(border.wanted or border.now), border.step_s]])
    slow = border.wanted is None
    ours = in_python(python_axes(rows, steps), table, slow)
    assert not len(differing(ours, c.channels(rows, steps, table, slow)))


def test_the_comparison_sees_a_single_bit(c):
    rng = np.random.default_rng(3)
    rows, steps = ranges(rng, 50)
    table = cases(rng, rows, steps)
    ours = in_python(python_axes(rows, steps), table, slow=False)
    ours[17, 1] = np.nextafter(ours[17, 1], np.inf)
    assert differing(ours, c.channels(rows, steps, table, slow=False)).tolist() == [17]


@pytest.mark.parametrize("seed", range(3))
def test_a_drive_with_skipped_periods_stops_and_bad_wishes_has_the_same_bits(c, seed):
    rng = np.random.default_rng(seed)
    arm = profiles.load_arm("metaworld-sawyer")
    limits = limits_of(arm, 0.0125)
    rows = np.array(
        [
            [low, high, x.max_velocity, x.max_acceleration, x.max_jerk, x.stop_deceleration]
            for low, high, x in zip(limits.minimum, limits.maximum, arm.channels, strict=True)
        ]
    )
    rows[:, 3:5] /= 10.0 ** rng.integers(0, 3)  # slower than the simulator: braking has to be looked at
    rows[:, 5] = np.minimum(rows[:, 5], rows[:, 3])
    limits = type(limits)(*rows.T.copy(), 0.0125)
    start = np.array([0.0, 0.6, 0.2, -1.0])
    wanted = start + np.cumsum(rng.normal(0, 0.02, (600, 4)), axis=0)
    wanted[rng.random(600) < 0.02] = np.nan
    h = 0.0125 * rng.choice([1.0, 1.0, 1.0, 2.0, 5.0], 600) * np.where(rng.random(600) < 0.1, -1.0, 1.0)
    out, bits = c.drive(rows, 0.0125, start, wanted, h)
    motion = Motion.at_rest(start)
    for index in range(600):
        if h[index] < 0:
            motion, hit = slow_down(limits, motion, -h[index])
        else:
            motion, hit = track(limits, motion, wanted[index], h[index])
        expected = np.stack([motion.setpoint, motion.velocity, motion.acceleration], axis=1)
        assert (expected.view(np.uint64) == out[index].view(np.uint64)).all(), f"step {index}"
        assert int(hit) == bits[index], f"step {index}"
    assert Limited.NOT_FINITE & int(np.bitwise_or.reduce(bits))
