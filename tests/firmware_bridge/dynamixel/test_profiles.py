"""The shipped Dynamixel arms, as the loader reads them, against virtual servos fresh from the factory."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from firmware_bridge.arm import exchange
from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.options import model_of
from firmware_bridge.protocols import open_arm
from firmware_bridge.virtual.client import VirtualProcess
from profiles.bridge import arm_config, joints_of
from profiles.loader import load_arm


@pytest.mark.parametrize("name", ["koch", "viperx"])
def test_a_shipped_arm_connects_arms_and_follows(name):
    arm_profile = load_arm(name)
    joints = joints_of(arm_profile, "main")
    options = dict(arm_profile.options)
    virtual = {key: value for key, value in options.items() if key in ("shadows", "reverse")}
    with VirtualProcess("dynamixel", joints, options=virtual, gravity_nm=0.0) as process:
        arm = open_arm(arm_config(arm_profile, {"main": process.port}))
        assert arm.connect().watchdog_ms == round(1e3 * arm_profile.watchdog_s)
        arm.close()
        patient = replace(arm_profile, watchdog_s=2.0)  # this machine may be busy
        arm = open_arm(arm_config(patient, {"main": process.port}))
        info = arm.connect()
        assert all(row.return_delay_s == arm_profile.return_delay_s for row in info.joints)
        arm.arm()
        for _ in range(80):
            state = exchange(arm, info.held_setpoint, time.monotonic_ns() + 3 * 10**9)
            time.sleep(0.002)
        assert state.faults == 0
        assert state.position == pytest.approx(info.held_setpoint, abs=0.02)
        report = process.do("report")["device"]
        assert report["fighting"] == 0
        assert report["refused"] == 0
        arm.close()


@pytest.mark.parametrize("name", ["koch", "viperx"])
def test_its_limits_are_what_its_servos_can_do(name):
    for channel, joint in zip(load_arm(name).channels, joints_of(load_arm(name), "main"), strict=True):
        model = model_of(joint)
        low, high = (round(end / models.RAD_PER_COUNT) for end in joint.device_range_rad)
        assert 0 <= low < high <= 4095  # position mode: the servo's own limits hold too
        servos = 2 if name == "viperx" and channel.name in ("shoulder", "elbow") else 1
        if channel.max_effort is not None:
            assert channel.max_effort <= servos * model.stall_nm


def test_viperx_reads_nine_servos_347_times_a_second_at_most():
    """(14 + 5 x 7) goals, then nine servos: 23 + 9 x 24 bytes by sync read, at 10 us a byte."""
    goals, asked, answers = 14 + 5 * 7, 14 + 9, 9 * (11 + 13)
    assert goals + asked + answers == 288
    assert codec.cycle_bytes(9, 13) - 2 * 5 == 288
