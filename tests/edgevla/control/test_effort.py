"""An arm that pushes too hard or does not follow is stopped, in one sentence; a short push is not."""

from dataclasses import replace

import numpy as np
import pytest

import profiles
from edgevla.control.effort import Strain, judge, require_measured, unmeasured, watched
from edgevla.errors import Refused
from firmware_bridge.edgelink.controller import IntegratorPlant

MS = 1_000_000
SAWYER = profiles.load_arm("metaworld-sawyer")
X = replace(SAWYER.channels[0], max_effort=20.0, max_following_error=0.05, effort_s=0.1)
ARM = replace(SAWYER, channels=(X, *SAWYER.channels[1:]))
REST = np.array([0.0, 0.6, 0.2, -1.0], np.float32)
NONE = np.full(4, np.nan, np.float32)


def efforts(x):
    return np.array([x, np.nan, np.nan, np.nan], np.float32)


def run(readings):
    """(ms, lag in x, effort in x) -> the first sentence and its time, or None."""
    strain = Strain.none(4)
    for at_ms, lag, effort in readings:
        setpoint = REST + np.array([lag, 0, 0, 0], np.float32)
        strain, sentence = judge(ARM, strain, at_ms * MS, setpoint, REST, efforts(effort))
        if sentence:
            return at_ms, sentence
    return None


def test_effort_above_its_limit_for_longer_than_allowed_is_one_sentence():
    at_ms, sentence = run((ms, 0.0, 25.0) for ms in range(0, 200, 10))
    assert at_ms == 110  # first reading at 0, longer than 100 ms at 110
    assert sentence == "effort of x beyond 20 for 110 ms, longer than 100 ms: 25"


def test_a_pull_counts_like_a_push_and_the_sentence_keeps_its_sign():
    assert run((ms, 0.0, -25.0) for ms in range(0, 200, 10))[1].endswith(": -25")


def test_effort_at_its_limit_is_allowed_for_ever():
    assert run((ms, 0.05 - 1e-6, 20.0) for ms in range(0, 1000, 10)) is None


def test_one_reading_below_the_limit_starts_the_time_anew():
    pushes = [(ms, 0.0, 19.0 if ms == 100 else 25.0) for ms in range(0, 210, 10)]
    assert run(pushes) is None
    assert run([*pushes, (220, 0.0, 25.0)])[0] == 220  # since 110


def test_a_reading_that_is_judged_again_and_again_does_not_grow_old():
    assert run([(0, 0.0, 25.0)] * 1000) is None


def test_a_channel_that_does_not_follow_is_stopped_with_its_unit():
    at_ms, sentence = run((ms, -0.08, np.nan) for ms in range(0, 200, 10))
    assert at_ms == 110
    assert sentence == "following error of x beyond 0.05 m for 110 ms, longer than 100 ms: 0.08 m"


def test_without_any_allowance_the_second_reading_beyond_stops():
    arm = replace(ARM, channels=(replace(X, effort_s=0.0), *ARM.channels[1:]))
    strain, sentence = judge(arm, Strain.none(4), 0, REST, REST, efforts(21.0))
    assert sentence is None
    assert judge(arm, strain, 1, REST, REST, efforts(21.0))[1] is not None


def test_a_channel_without_limits_is_not_watched():
    assert watched(ARM)
    assert not watched(SAWYER)
    far = REST + np.float32(5.0)
    strain = Strain.none(4)
    for ms in range(0, 500, 10):
        strain, sentence = judge(SAWYER, strain, ms * MS, far, REST, np.full(4, 1e4, np.float32))
        assert sentence is None


def test_an_arm_that_runs_into_a_wall_is_stopped_by_either_measure():
    """The kinematic plant: 100 N/m, a wall at 0.1 m, the set-point goes 0.4 m: 30 N, 0.3 m behind."""
    plant = IntegratorPlant(REST, wall=np.array([0.1, np.inf, np.inf, np.inf], np.float32))
    strain, said = Strain.none(4), []
    for step in range(100):
        setpoint = REST + np.array([min(0.4, 0.01 * step), 0, 0, 0], np.float32)
        position = plant.step(setpoint)
        strain, sentence = judge(ARM, strain, step * 12 * MS, setpoint, position, plant.effort())
        said += [(step, sentence)] if sentence else []
    step, sentence = said[0]
    assert "following error of x" in sentence
    assert 15 < step < 30  # 0.05 m behind at step 16, 9 steps of 12 ms later longer than 100 ms
    assert plant.effort()[0] == pytest.approx(30.0, rel=1e-3)


def test_a_profile_that_limits_an_effort_nobody_measures_is_refused():
    assert unmeasured(ARM, NONE) == ("x",) == unmeasured(ARM, None)
    assert unmeasured(ARM, efforts(0.0)) == () == unmeasured(SAWYER, NONE)
    require_measured(ARM, efforts(0.0))
    with pytest.raises(Refused, match="metaworld-sawyer limits an effort that the arm does not measure"):
        require_measured(ARM, None)
