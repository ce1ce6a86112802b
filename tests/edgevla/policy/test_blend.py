"""A chunk of a policy without a prefix begins where the arm is and as fast as it moves, and ends up on its own rows."""

from dataclasses import dataclass

import numpy as np
import pytest

import profiles
from edgevla.bundle.manifest import Stage, Tensor
from edgevla.control.limiter import Motion, limits_of, track
from edgevla.policy.blend import blend, blend_ticks, setpoints_to_release, takes_prefix
from edgevla.policy.setpoints import integrate

H, D, B = 16, 3, 4
TICKS = np.arange(H, dtype=np.float32)


def column(values):
    return np.asarray(values, np.float32)[:, None]


def commanded(position, speed):
    """Set-points of ticks k - 1 .. k + d - 1, (d + 1, 1), the last at `position`, moving at `speed` per tick."""
    return column(position + speed * np.arange(-D, 1))


def test_rows_already_commanded_stay_and_rows_after_the_blend_are_the_chunks_own():
    own, before = column(0.1 * TICKS), commanded(1.0, 0.02)
    told = blend(own, before, B)
    np.testing.assert_array_equal(told[:D], before[1:])
    np.testing.assert_array_equal(told[D - 1 + B :], own[D - 1 + B :])
    assert (told[D : D - 1 + B] != own[D : D - 1 + B]).all()


def test_a_chunk_that_agrees_with_what_was_commanded_is_left_alone():
    own = column(0.5 + 0.02 * TICKS)
    told = blend(own, own[: D + 1] - np.float32(0.02), B)
    np.testing.assert_allclose(told, own, atol=1e-6)


@pytest.mark.parametrize(("gap", "speed"), [(0.05, 0.0), (0.0, 0.01), (0.05, -0.01), (-0.03, 0.02)])
def test_the_seam_is_a_fraction_of_the_jump_of_plain_switching(gap, speed):
    own = column(0.004 * TICKS)
    before = commanded(float(own[D - 1, 0]) + gap, speed)
    told = np.concatenate([before[:1], blend(own, before, 8)])[:, 0]
    plain = np.concatenate([before[:, 0], own[D:, 0]])
    jump, switched = (abs(np.diff(rows, 2)[D - 1]) for rows in (told, plain))  # change of speed into row D
    assert jump < 0.25 * switched, (jump, switched)


def test_it_looks_forward_only_and_nothing_overshoots_a_gap_at_rest():
    own, before = column(np.zeros(H)), commanded(1.0, 0.0)
    told = blend(own, before, 8)[D - 1 :, 0]
    assert (np.diff(told) <= 0).all()  # from 1 to 0, never past either
    assert told[0] == 1.0
    assert told[8] == 0.0


def test_one_tick_takes_the_chunk_as_it_is():
    own = column(0.1 * TICKS)
    np.testing.assert_array_equal(blend(own, commanded(5.0, 0.3), 1)[D:], own[D:])


def test_a_blend_longer_than_the_chunk_ends_with_the_chunk():
    told = blend(column(np.zeros(H)), commanded(1.0, 0.0), 100)
    assert told.shape == (H, 1)
    assert np.isfinite(told).all()
    assert told[-1, 0] > 0.9


def test_not_a_number_stays_visible():
    own = column(0.1 * TICKS)
    own[D] = np.nan
    assert np.isnan(blend(own, commanded(0.0, 0.0), B)).any()


@pytest.mark.parametrize(("rows", "ticks"), [(1, 4), (H + 1, 4), (D + 1, 0)])
def test_what_cannot_be_blended_is_refused(rows, ticks):
    with pytest.raises(ValueError, match="1 <= d < H, b >= 1"):
        blend(np.zeros((H, 1), np.float32), np.zeros((rows, 1), np.float32), ticks)


class Deltas:
    """A policy of one displacement and one absolute channel, in its own units."""

    def to_setpoints(self, chunk, anchor, d):
        low, high = np.full(2, -9, np.float32), np.full(2, 9, np.float32)
        return integrate(chunk, anchor, d, np.array([True, False]), low, high)


def test_displacements_end_where_the_policy_meant_from_what_it_saw():
    """It saw the arm at 0 and meant 0.1 a tick; meanwhile the arm was led the other way."""
    chunk = np.stack([np.full(H, 0.1), np.full(H, 0.7)], axis=1).astype(np.float32)
    before = np.array([[0, 0.1], [-0.1, 0.1], [-0.2, 0.1], [-0.3, 0.1]], np.float32)
    told = setpoints_to_release(Deltas(), chunk, before, B)
    np.testing.assert_array_equal(told[:D], before[1:])
    np.testing.assert_allclose(told[D - 1 + B :, 0], 0.1 * np.arange(D + B, H + 1), atol=1e-5)
    np.testing.assert_allclose(told[D - 1 + B :, 1], 0.7, atol=1e-6)


def test_with_a_trained_prefix_displacements_go_on_from_the_last_command():
    chunk = np.full((H, 2), 0.1, np.float32)
    before = np.array([[0, 0], [-0.1, 0], [-0.2, 0], [-0.3, 0]], np.float32)
    told = setpoints_to_release(Deltas(), chunk, before, None)
    np.testing.assert_allclose(told[D:, 0], -0.3 + 0.1 * np.arange(1, H - D + 1), atol=1e-5)


def test_the_limiter_bounds_what_is_left_of_a_jump():
    limits = limits_of(profiles.load_arm("metaworld-sawyer"), 0.0125)
    period_s = 0.0125
    rng = np.random.default_rng(0)
    motion = Motion.at_rest(np.array([0.0, 0.6, 0.2, 0.0]))
    velocity = motion.velocity
    for _ in range(500):
        before = np.repeat(motion.setpoint[None], D + 1, 0).astype(np.float32)
        own = rng.uniform(limits.minimum, limits.maximum, (H, 4)).astype(np.float32)
        for row in blend(own, before, B)[D:]:
            motion, _ = track(limits, motion, row, period_s)
            assert (abs(motion.velocity - velocity) <= limits.max_acceleration * period_s * (1 + 1e-9) + 1e-6).all()
            velocity = motion.velocity


def test_b_is_a_time_in_whole_ticks():
    assert blend_ticks(0.0125) == 4
    assert blend_ticks(1 / 30) == 2
    assert blend_ticks(0.1) == 1


@dataclass
class Graphs:
    stages: tuple[Stage, ...]


def stage(name, *inputs):
    return Stage(name, f"model/{name}.onnx", tuple(Tensor(i, "float32", (1,)) for i in inputs), (), ())


def test_a_bundle_takes_a_prefix_when_any_of_its_graphs_does():
    assert takes_prefix(Graphs((stage("vision", "image"), stage("head", "prefix", "noise"))))
    assert not takes_prefix(Graphs((stage("vision", "image"), stage("head", "noise"))))
