"""The whole loop drives every shipped arm with motors: its virtual device, the servo, the policy, each a process."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import profiles
from edgevla.control.exchange import Status
from edgevla.control.run import run
from firmware_bridge.virtual.client import VirtualProcess
from profiles.bridge import joints_of

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)

from loop import options, plan  # noqa: E402

ARMS = [name for name in profiles.list_arms() if profiles.load_arm(name).protocol != "edgelink"]


@pytest.fixture(autouse=True)
def engines_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, *sys.path]))


@pytest.fixture
def there():
    """Starts the virtual devices of an arm; what `--port` would say."""
    with ExitStack() as devices:

        def start(arm, **asked):
            started = {
                bus: devices.enter_context(
                    VirtualProcess(arm.protocol, joints_of(arm, bus), options=dict(arm.options), **asked)
                )
                for bus in arm.buses
            }
            named = [f"{bus}={device.port}" for bus, device in started.items()]
            return started, named[0].partition("=")[2] if len(named) == 1 else ",".join(named)

        yield start


def patient(name):
    """The shipped arm on a machine that may be busy: stalls must not end a test of logic."""
    arm = profiles.load_arm(name)
    channels = tuple(replace(channel, max_following_error=None, effort_s=10.0) for channel in arm.channels)
    loose = {"hold_s": 20.0, "max_state_age_s": 10.0, "max_skew_s": 10.0, "command_ttl_s": 0.5}
    start = {"start_low": tuple(c.minimum for c in channels), "start_high": tuple(c.maximum for c in channels)}
    return replace(arm, cameras=(), channels=channels, **start, **loose)


def driven(arm, **changes):
    n = len(arm.channels)
    return replace(
        plan("aside", arm=arm),
        period_s=0.025,
        kinds=("absolute",) * n,
        scale=(1.0,) * n,
        offset=(0.0,) * n,
        start_low=tuple(channel.minimum for channel in arm.channels),
        start_high=tuple(channel.maximum for channel in arm.channels),
        cameras=(),
        **changes,
    )


@pytest.mark.parametrize("name", ARMS)
def test_the_arm_goes_where_the_policy_wants_it(name, there):
    arm = patient(name)
    devices, port = there(arm)
    result = run(driven(arm), options(sim=None, port=port, duration_s=2.0))
    assert result.stop_reason == "duration reached"
    assert result.figures["stop_confirmed"]
    rows = result.ticks[result.ticks["phase"] > 0]
    moved = rows["state"][-1] - rows["state"][0]
    assert (moved > 0.03).any(), moved
    assert (rows["setpoint"] >= [c.minimum - 1e-6 for c in arm.channels]).all()
    assert np.isfinite(rows["state"][-1]).all()
    assert all(device.do("report") for device in devices.values())


def test_the_first_inference_has_a_state_where_a_reply_takes_longer_than_a_tick_waits_for_it(there):
    """5 ms on a line of 200 kbit/s; a tick of Ts = 25 ms waits for 2 ms."""
    arm = patient("so101")
    _, port = there(arm, paced_baud=200_000)
    slow = replace(driven(arm), period_s=0.1)
    result = run(
        replace(slow, target=replace(slow.target, servo_ratio=4)), options(sim=None, port=port, duration_s=1.0)
    )
    rows = result.ticks[result.ticks["phase"] > 0]
    assert result.stop_reason == "duration reached"
    assert (rows["state_stamp_ns"] > 0).all()
    assert Status(int(result.inferences["status"][0])) is Status.OK
