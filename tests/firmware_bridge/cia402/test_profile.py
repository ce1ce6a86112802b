"""The six-axis profile drives virtual drives as it stands."""

import time

import numpy as np

from firmware_bridge.arm import Fault, exchange
from firmware_bridge.cia402.driver import Cia402Arm
from firmware_bridge.protocols import module
from firmware_bridge.virtual.client import VirtualProcess
from profiles.bridge import arm_config, joints_of
from profiles.loader import load_arm


def test_six_axis_profile_connects_arms_and_holds_the_wire_time_of_its_period():
    profile = load_arm("canopen-six-axis")
    with VirtualProcess("cia402", joints_of(profile, "main"), gravity_nm=0.0) as device:
        config = arm_config(profile, {"main": device.port})
        arm = module("cia402", "driver").make(config.buses[0], 1.0, config.options)  # 0.1 s on a machine of its own
        assert isinstance(arm, Cia402Arm)
        info = arm.connect()
        assert [row.note for row in info.joints] == [""] * 6
        arm.arm()
        state = exchange(arm, np.zeros(6, np.float32), time.monotonic_ns() + 200_000_000)
        assert state.faults == Fault.NONE
        arm.close()
    cycle_ns = module("cia402", "codec").cycle_ns(config.buses[0].joints, profile.baud)
    assert cycle_ns < 0.2 * profile.options["cycle_s"] * 1e9


def test_torque_limit_of_the_profile_reaches_the_drive_over_the_gear():
    joint = joints_of(load_arm("canopen-six-axis"), "main")[0]
    assert joint.max_effort * joint.ratio < 1.0  # N m at the motor, of 60 at the joint
