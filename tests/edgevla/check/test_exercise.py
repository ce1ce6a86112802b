"""A disarmed run put to work, for real: arms with motors of their own, with a guardian and on two buses."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import profiles
from edgevla.check.exercise import Exercise
from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.control.run import run
from firmware_bridge.virtual.client import VirtualProcess
from profiles.bridge import joints_of

HERE = str(Path(__file__).parents[1] / "control")
sys.path.insert(0, HERE)

from loop import options, plan  # noqa: E402


@pytest.fixture(autouse=True)
def engines_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, *sys.path]))


def plan_for(name, observations):
    """The shipped arm without cameras, at 40 Hz, with stalls of a busy test machine forgiven."""
    arm = replace(profiles.load_arm(name), cameras=(), max_state_age_s=10.0, max_skew_s=10.0)
    n = len(arm.channels)
    units = {"kinds": ("absolute",) * n, "scale": (1.0,) * n, "offset": (0.0,) * n}
    nowhere = {"start_low": (1e6,) * n, "start_high": (1e6,) * n}  # only arming would be refused
    made = replace(plan("aside", arm=arm), period_s=0.025, cameras=(), **units, **nowhere)
    return replace(made, observations=observations)


@pytest.mark.parametrize(("name", "observations"), [("so101", 1), ("openarm", 3)])
def test_the_policy_infers_at_its_rate_while_the_arm_keeps_its_torque_off(name, observations):
    made = plan_for(name, observations)
    exercise = Exercise(8, 0.3)
    with ExitStack() as stack:
        devices = {
            bus: stack.enter_context(
                VirtualProcess(made.arm.protocol, joints_of(made.arm, bus), options=dict(made.arm.options))
            )
            for bus in made.arm.buses
        }
        before = {bus: device.do("report") for bus, device in devices.items()}
        named = ",".join(f"{bus}={device.port}" for bus, device in devices.items())
        port = named if len(devices) > 1 else named.partition("=")[2]
        asked = options(sim=None, port=port, duration_s=0.0, arm_at_start=False, stay=True)
        result = run(made, asked, operator=exercise)
        after = {bus: device.do("report") for bus, device in devices.items()}
    assert result.exit_code == 0, result.error
    window = exercise.window
    assert window.complete
    assert window.asked + window.passed_over >= 8
    counted = result.inferences[result.inferences["asked_ns"] >= window.begin_ns]
    assert len(counted) == window.asked
    assert set(counted["status"]) == {Status.OK}
    assert (np.diff(counted["tick"]) > 0).all()
    assert set(result.ticks["phase"]) == {Phase.DISARMED}
    assert exercise.torque_found == (False,) * len(made.arm.channels)
    for bus in devices:
        assert not any(before[bus]["torque_on"])
        assert not any(after[bus]["torque_on"])
