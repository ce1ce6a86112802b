"""The driver when servos are silent, the line spoils what they say, or power and cable go."""

import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Mode, exchange
from firmware_bridge.bus_arm import LATE_S
from firmware_bridge.errors import (
    BridgeError,
    JointSilent,
    NoAnswer,
    PortGone,
)
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.feetech.arms import ANGLES, JOINTS, SCS_JOINTS, arm_on, follow, soon


def test_power_that_comes_back_does_not_arm_again(device):
    arm = arm_on(device.port, slow_every=5)
    arm.connect()
    arm.arm()
    follow(arm, ANGLES, 3)
    device.do("brown-out")
    states = [exchange(arm, ANGLES, soon()) for _ in range(1)]
    while states[-1].mode is Mode.ARMED and len(states) < 10:
        states.append(exchange(arm, ANGLES, soon()))
    assert states[-1].faults == Fault.RESET
    assert len(states) <= 5
    assert device.do("report")["torque_on"] == [False] * 6
    arm.close()


def test_after_a_silence_the_torque_is_looked_at_at_once(arm, device):
    arm.arm()
    follow(arm, ANGLES, 3)
    device.do("power", on=False)
    with pytest.raises(NoAnswer):
        exchange(arm, ANGLES, soon(30))
    device.do("power", on=True)
    time.sleep(LATE_S)
    states = [exchange(arm, ANGLES, soon())]
    if states[-1].mode is Mode.ARMED:
        states.append(exchange(arm, ANGLES, soon()))
    assert states[-1].faults == Fault.RESET


def test_a_silent_joint_is_named_and_gives_no_state(arm, device):
    arm.arm()
    device.do("trouble", silent=[3])
    with pytest.raises(JointSilent, match=r"wrist_flex \(id 4\)"):
        exchange(arm, ANGLES, soon(30))
    device.do("trouble")
    time.sleep(LATE_S)  # until then its answers may be those to earlier questions
    assert exchange(arm, ANGLES, soon()).mode is Mode.ARMED


def test_connecting_to_silent_servos_names_them(device):
    device.do("trouble", silent=[1, 4])
    with pytest.raises(JointSilent, match=r"shoulder_lift \(id 2\), wrist_roll \(id 5\)"):
        arm_on(device.port).connect()
    device.do("power", on=False)
    with pytest.raises(NoAnswer, match="no servo answers"):
        arm_on(device.port).connect()


@pytest.mark.parametrize(
    "trouble", [{"echo": True}, {"wrong_echo": True}, {"twice": 1.0}, {"foreign": 0.2}, {"swap": 0.3}]
)
@pytest.mark.parametrize("joints", [JOINTS, SCS_JOINTS], ids=["sts", "scs"])
def test_states_are_right_on_a_line_with(trouble, joints):
    with VirtualProcess("feetech", joints, gravity_nm=0.0) as device:
        device.do("trouble", **trouble)
        arm = arm_on(device.port, joints)
        arm.connect()
        arm.arm()
        good = 0
        for _ in range(60):
            try:
                state = exchange(arm, ANGLES, soon(20))
            except BridgeError:
                continue
            good += 1
            assert state.faults == 0
            assert np.abs(state.position).max() < 0.6
        assert good > 5
        arm.close()


def test_spoiled_answers_cost_cycles_and_never_make_a_state(arm, device):
    arm.arm()
    device.do("trouble", flip=0.02, cut=0.01)
    whole = 0
    for _ in range(100):
        try:
            state = exchange(arm, ANGLES, soon(10))
        except (JointSilent, NoAnswer):
            continue
        whole += 1
        assert np.abs(state.position).max() < 0.6
        assert state.faults == 0
    assert 0 < whole < 100
    assert arm.counts.incomplete > 0


def test_unplugged_and_plugged_in_again_it_connects_anew_and_stays_disarmed(tmp_path):
    link = tmp_path / "arm"
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0, link=str(link)) as device:
        arm = arm_on(str(link))
        arm.connect()
        arm.arm()
        device.do("unplug")
        with pytest.raises(PortGone):
            exchange(arm, ANGLES, soon(500))
        arm.close()
        device.do("replug")
        arm.connect()
        assert arm.mode is Mode.DISARMED
        arm.close()
