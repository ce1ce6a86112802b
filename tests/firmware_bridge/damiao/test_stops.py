"""Faults, watchdogs and stops, against virtual motors in a process of their own."""

import time

import pytest

from firmware_bridge.arm import Fault, Mode, StopKind
from firmware_bridge.damiao import codec
from firmware_bridge.errors import (
    ArmRefused,
    NotArmed,
)
from tests.firmware_bridge.damiao.rig import arm_on, cycle


def test_commands_that_cease_switch_the_motors_off_and_the_arm_says_watchdog(virtual):
    arm = arm_on(virtual.port)
    arm.connect()
    arm.arm()
    time.sleep(0.3)
    state = cycle(arm)
    assert state.faults & Fault.WATCHDOG
    assert state.mode is Mode.STOPPED
    assert set(state.joint_faults) == {codec.LOST}
    assert virtual.do("report")["torque_on"] == [False] * 8  # on_expiry = "free"
    with pytest.raises(NotArmed):
        cycle(arm)
    arm.close()


@pytest.mark.parametrize(
    ("name", "bit"),
    [
        ("overload", Fault.OVERLOAD),
        ("overheat", Fault.OVERHEAT),
        ("voltage", Fault.VOLTAGE),
        ("encoder", Fault.ENCODER),
    ],
)
def test_a_fault_at_one_joint_stops_all_until_it_is_armed_again(virtual, slow, name, bit):
    slow.arm()
    virtual.do("fault", joint=2, name=name)
    state = cycle(slow)
    assert state.faults == bit
    assert state.joint_faults[2] >= codec.SENSOR
    assert state.mode is Mode.STOPPED
    with pytest.raises(NotArmed):
        cycle(slow)
    slow.arm()  # clears it
    assert cycle(slow).faults == 0


def test_a_fault_that_stays_refuses_arming_with_its_sentence(virtual, slow, monkeypatch):
    virtual.do("fault", joint=2, name="overheat")
    monkeypatch.setattr(codec, "CLEAR", 0xFA)  # what no motor knows: the cause stays
    with pytest.raises(ArmRefused, match="joint_3: the winding is too hot"):
        slow.arm()
    assert virtual.do("report")["torque_on"] == [False] * 8


def test_a_brown_out_while_armed_is_a_reset_and_never_re_arms(virtual, slow):
    slow.arm()
    virtual.do("brown-out")
    state = cycle(slow)
    assert state.faults == Fault.RESET
    assert virtual.do("report")["torque_on"] == [False] * 8
    slow.arm()  # sets watchdog and mode again: they were in RAM
    assert virtual.do("report")["device"]["timeout"] == [40_000] * 8
    assert cycle(slow).faults == 0


def test_a_stop_that_holds_goes_on_holding_without_the_host(virtual):
    arm = arm_on(virtual.port, watchdog_s=0.3)
    arm.connect()
    arm.arm()
    until = time.monotonic() + 0.2
    while time.monotonic() < until:  # it fell a little before torque was on: until it has come to rest where it holds
        cycle(arm)
    at_rad = virtual.do("report")["position_rad"][0]
    assert arm.stop(StopKind.HOLD)
    time.sleep(0.6)
    report = virtual.do("report")
    assert report["device"]["timeout"] == [0] * 8
    assert report["torque_on"] == [True] * 8
    assert report["position_rad"][0] == pytest.approx(at_rad, abs=0.01)
    with pytest.raises(NotArmed):
        cycle(arm)
    arm.arm()
    assert virtual.do("report")["device"]["timeout"] == [6000] * 8
    assert cycle(arm).faults == 0
    arm.stop(StopKind.FREE)
    arm.close()


def test_a_new_host_neither_drops_nor_moves_an_arm_that_holds(virtual):
    first = arm_on(virtual.port, watchdog_s=0.3)
    first.connect()
    first.arm()
    cycle(first)
    first.close()  # stops, holding
    second = arm_on(virtual.port, watchdog_s=0.3)
    info = second.connect()
    assert "torque was on" in info.joints[0].note
    time.sleep(0.5)
    assert virtual.do("report")["torque_on"] == [True] * 8
    assert second.stop(StopKind.HOLD)
    second.arm()
    assert cycle(second).faults == 0
    assert second.stop(StopKind.FREE)
    second.close()


def test_damping_lets_the_arm_sink_slowly_and_free_lets_it_fall(virtual, slow):
    slow.arm()
    goal = slow.held.copy()
    goal[0] = 1.0
    for _ in range(300):
        cycle(slow, goal)
    assert slow.stop(StopKind.DAMP)
    before = virtual.do("report")["position_rad"]
    time.sleep(0.3)
    report = virtual.do("report")
    assert report["torque_on"][0]
    assert -0.05 < report["position_rad"][0] - before[0] < 0.0
    assert slow.stop(StopKind.FREE)
    time.sleep(0.4)
    after = virtual.do("report")
    assert after["torque_on"] == [False] * 8
    assert after["position_rad"][0] < report["position_rad"][0] - 0.2


def test_disarming_takes_the_torque_away(virtual, slow):
    slow.arm()
    slow.disarm()
    assert virtual.do("report")["torque_on"] == [False] * 8
    assert slow.mode is Mode.DISARMED
    assert slow.stop()  # nothing to hold: confirmed


def test_a_stop_that_nobody_confirms_is_told_so(virtual, slow):
    slow.arm()
    virtual.do("power", on=False)
    started = time.monotonic()
    assert not slow.stop()
    assert time.monotonic() - started < 10.0
    with pytest.raises(ArmRefused, match="disarmed"):
        slow.disarm()
    virtual.do("power", on=True)


def test_the_gripper_pushes_with_nine_tenths_of_its_effort(virtual, slow):
    slow.arm()
    virtual.do("stuck", joint=7)
    setpoint = slow.held.copy()
    setpoint[7] = -0.1
    for _ in range(200):
        state = cycle(slow, setpoint)
    assert state.effort[7] == pytest.approx(1.8, abs=0.05)
