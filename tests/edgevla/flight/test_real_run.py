"""A run of real processes is recorded whole and replays bit by bit, however busy the machine was."""

from dataclasses import replace

import numpy as np
import pytest

import profiles
from edgevla.bundle import open_bundle
from edgevla.control.exchange import Status
from edgevla.control.options import RunOptions
from edgevla.control.plan import plan_of
from edgevla.control.run import run
from edgevla.flight.explain import explain_stop
from edgevla.flight.reader import observations_of, read_record
from edgevla.flight.replay import replay_policy, replay_ticks
from edgevla.policy.engine import PolicyEngine


@pytest.mark.parametrize("ratio", [1, 2])
def test_a_recorded_run_replays_bit_by_bit(tiny, tmp_path, ratio):
    bundle, arm = open_bundle(tiny), profiles.load_arm("metaworld-sawyer")
    host = profiles.load_target("host")
    planned = plan_of(bundle, host, arm)
    loose = replace(arm, hold_s=1.0, max_state_age_s=10.0, max_skew_s=10.0)
    target = replace(host, servo_core=None, policy_core=None, servo_ratio=ratio)
    options = RunOptions(
        instruction="open the drawer", sim="drawer-open-v3", plant="integrator", duration_s=2.0, best_effort=True,
        record=tmp_path,
    )  # fmt: skip
    result = run(replace(planned, arm=loose, target=target), options)
    record = read_record(tmp_path)
    assert (record.damage, record.cut, record.lost) == ((), False, {})
    assert record.ticks.tobytes() == result.ticks.tobytes()
    assert record.inferences.tobytes() == result.inferences.tobytes()
    assert len(np.unique(record.ticks["chunk"])) > 1, result.error
    policy = replay_policy(record, PolicyEngine(bundle))
    assert (policy.difference, policy.passed_over) == (None, ())
    ran = np.isin(record.observations["status"], (Status.OK, Status.NOT_FINITE, Status.FAILED))
    assert policy.compared == ran.sum() > 0  # on a busy machine a frame may have been too old to act on
    ticks = replay_ticks(record.meta, record.ticks, (seen for _, seen, _ in observations_of(record)))
    assert (ticks.difference, ticks.passed_over) == (None, ())
    assert ticks.compared == len(record.ticks)
    assert "latched at tick" in explain_stop(record)
