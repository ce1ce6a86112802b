"""The driver against virtual servos in a process of their own, over a pty: modes, commands, states."""

import itertools
import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Joint, Mode, StopKind, exchange
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    Expired,
    NotArmed,
)
from firmware_bridge.feetech.driver import scan
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.feetech.arms import ANGLES, SCS_JOINTS, arm_on, follow, soon

LATER = 1 << 62


def test_an_armed_arm_follows_and_its_state_is_younger_than_the_command(arm, device):
    arm.arm()
    before_ns = time.monotonic_ns()
    state = follow(arm, ANGLES)
    assert state.position == pytest.approx(ANGLES, abs=5e-3)
    assert before_ns < state.stamp_ns < time.monotonic_ns()
    assert state.velocity is not None
    assert np.isfinite(state.velocity).all()
    assert (state.mode, state.faults, state.joint_faults) == (Mode.ARMED, 0, (0,) * 6)
    assert arm.counts.incomplete == arm.counts.foreign == 0


def test_arming_holds_where_the_arm_stands(device):
    device.do("free", joint=0)
    arm = arm_on(device.port)
    arm.connect()
    arm.arm()
    assert device.do("report")["device"]["goals"] == [2048] * 6
    assert device.do("report")["torque_on"] == [True] * 6
    arm.disarm()
    assert device.do("report")["torque_on"] == [False] * 6
    arm.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.6, -1.6])
def test_a_bad_set_point_never_reaches_the_wire(arm, device, value):
    arm.arm()
    bad = ANGLES.copy()
    bad[3] = value
    with pytest.raises(BadSetpoint):
        arm.send(bad, LATER)
    assert device.do("report")["device"]["goals"] == [2048] * 6


def test_an_expired_command_is_not_written(arm, device):
    arm.arm()
    with pytest.raises(Expired):
        exchange(arm, ANGLES, time.monotonic_ns())
    assert device.do("report")["device"]["goals"] == [2048] * 6
    assert arm.counts.late == 1


def test_a_set_point_before_arming_is_refused(arm):
    with pytest.raises(NotArmed):
        arm.send(ANGLES, LATER)


def test_a_fault_of_one_joint_stops_all_and_is_named(arm, device):
    arm.arm()
    device.do("fault", joint=2, name="overload")
    state = exchange(arm, ANGLES, soon())
    assert (state.faults, state.mode) == (Fault.OVERLOAD, Mode.STOPPED)
    assert state.joint_faults == (0, 0, 32, 0, 0, 0)
    with pytest.raises(NotArmed):
        arm.send(ANGLES, LATER)
    arm.arm()  # torque enabled anew ends the servo's overload protection
    assert exchange(arm, ANGLES, soon()).mode is Mode.ARMED


def test_an_overload_may_be_reported_only(device):
    arm = arm_on(device.port, overload="report")
    arm.connect()
    arm.arm()
    device.do("fault", joint=5, name="overload")
    state = exchange(arm, ANGLES, soon())
    assert (state.faults, state.mode, state.joint_faults[5]) == (0, Mode.ARMED, 32)
    device.do("fault", joint=5, name="overheat")
    assert exchange(arm, ANGLES, soon()).mode is Mode.STOPPED
    arm.close()


def test_an_arm_with_a_lasting_fault_is_not_armed(arm, device):
    device.do("fault", joint=1, name="voltage")
    with pytest.raises(ArmRefused, match="a fault lasts"):
        arm.arm()
    assert device.do("report")["torque_on"] == [False] * 6


def test_hold_keeps_torque_and_free_takes_it(arm, device):
    arm.arm()
    follow(arm, ANGLES, 5)
    assert arm.stop()
    assert device.do("report")["torque_on"] == [True] * 6
    assert arm.stop(StopKind.FREE)
    assert device.do("report")["torque_on"] == [False] * 6
    device.do("power", on=False)
    assert not arm.stop()


def test_a_stop_is_not_confirmed_where_torque_is_gone(arm, device):
    arm.arm()
    device.do("brown-out")
    assert not arm.stop()


def test_load_is_measured_where_it_is_asked_for(device):
    arm = arm_on(device.port, read="effort")
    arm.connect()
    arm.arm()
    device.do("stuck", joint=0)
    state = follow(arm, ANGLES, 10)
    assert state.effort is not None
    assert np.isfinite(state.effort).all()
    assert state.effort[0] == pytest.approx(-1.91, abs=0.05)  # at its stall torque, backwards
    arm.close()
    arm = arm_on(device.port, read="all")
    arm.connect()
    assert (arm._read_whole().temperature == 30).all()
    arm.close()


def test_temperature_comes_with_every_slow_cycle(device):
    arm = arm_on(device.port, slow_every=4)
    arm.connect()
    arm.arm()
    measured = [bool(np.isfinite(exchange(arm, ANGLES, soon()).temperature).all()) for _ in range(12)]
    assert sum(measured) == 3
    arm.close()


def test_scs_joints_are_read_one_after_the_other():
    with VirtualProcess("feetech", SCS_JOINTS, gravity_nm=0.0, paced_baud=1_000_000) as device:
        arm = arm_on(device.port, SCS_JOINTS)
        assert "one read per joint" in scan_notes(device.port)[0]
        arm.connect()
        arm.arm()
        state = follow(arm, ANGLES, 150)
        assert state.position == pytest.approx(ANGLES, abs=0.06)  # weak servos, which overshoot for long
        device.do("report")
        exchange(arm, ANGLES, soon())
        busy = device.do("report")["busy"]
        assert len(busy) == 12  # goals and first read, five reads, six answers: never two at a time
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(busy))
        arm.close()


def scan_notes(port):
    transport = SerialTransport(port, 1_000_000)
    transport.open()
    notes = [servo.note for servo in scan(transport, [1])]
    transport.close()
    return notes


def test_a_joint_may_count_backwards_and_in_another_unit():
    slide = Joint("slide", "m", 0.0, 0.05, 1, "sts3215", direction=-1, zero_rad=4.0, ratio=0.02, max_effort=20.0)
    with VirtualProcess("feetech", [slide], gravity_nm=0.0) as device:
        arm = arm_on(device.port, (slide,))
        arm.connect()
        arm.arm()
        state = follow(arm, np.array([0.04], np.float32), 120)
        assert state.position[0] == pytest.approx(0.04, abs=1e-3)
        assert device.do("report")["position_rad"][0] == pytest.approx(2.0, abs=0.05)  # 4 - 0.04 / 0.02
        registers = bytes.fromhex(device.do("report")["device"]["registers"][0])
        assert registers[48:50] == (209).to_bytes(2, "little")  # 20 N x 0.02 m of 1.912 N m
        arm.close()
