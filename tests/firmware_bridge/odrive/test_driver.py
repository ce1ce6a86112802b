"""The driver against virtual ODrives in a process of their own."""

import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Mode, StopKind, exchange
from firmware_bridge.errors import (
    BadSetpoint,
    Expired,
    JointSilent,
    NotArmed,
    PortGone,
)
from firmware_bridge.odrive import models
from tests.firmware_bridge.odrive.arms import JOINTS, WATCHDOG_S, driver, settled

CYCLE_NS = 50_000_000


def cycle(arm, setpoint):
    return exchange(arm, np.asarray(setpoint, np.float32), time.monotonic_ns() + CYCLE_NS)


def cycles_until(arm, setpoint, wanted, seconds=2.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = cycle(arm, setpoint)
        if wanted(state):
            return state
    raise AssertionError(f"not within {seconds} s: {state}")


def test_arm_follows_set_points_in_channel_units(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    goal = held + np.float32(0.05)
    state = cycles_until(arm, goal, lambda s: np.abs(s.position - goal).max() < 0.005)
    assert state.faults == Fault.NONE
    device_rad = device.do("report")["position_rad"]
    assert device_rad == pytest.approx([j.to_device(v) for j, v in zip(JOINTS, state.position, strict=True)], abs=0.01)


def test_state_is_as_old_as_the_question(arm):
    arm.connect()
    arm.arm()
    before_ns = time.monotonic_ns()
    state = cycle(arm, arm.held)
    assert before_ns <= state.stamp_ns <= time.monotonic_ns()
    assert state.last_seq == arm.last_asked


def test_effort_comes_where_it_is_asked_for(device):
    arm = driver(device, effort=True)
    held = arm.connect().held_setpoint
    arm.arm()
    gravity = [j.direction * 0.2 / j.ratio for j in JOINTS]
    cycles_until(arm, held, lambda s: np.allclose(s.effort, gravity, atol=0.1))
    arm.close()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.51])
def test_bad_set_point_never_reaches_the_wire(device, arm, bad):
    held = arm.connect().held_setpoint
    arm.arm()
    before = settled(device)
    setpoint = held.copy()
    setpoint[3] = bad
    with pytest.raises(BadSetpoint):
        arm.send(setpoint, time.monotonic_ns() + CYCLE_NS)
    assert device.do("report")["device"]["commands"] == before


def test_expired_command_is_not_written(device, arm):
    arm.connect()
    arm.arm()
    before = settled(device)
    with pytest.raises(Expired):
        exchange(arm, arm.held, time.monotonic_ns() - 1)
    assert device.do("report")["device"]["commands"] == before


def test_watchdog_frees_the_axes_and_only_arming_clears_it(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    time.sleep(2 * WATCHDOG_S)
    assert device.do("report")["device"]["states"] == [1] * 6
    state = cycle(arm, held)
    assert state.faults & Fault.WATCHDOG
    assert arm.mode is Mode.STOPPED
    with pytest.raises(NotArmed):
        arm.send(held, time.monotonic_ns() + CYCLE_NS)
    arm.arm()
    assert cycle(arm, arm.held).faults == Fault.NONE


@pytest.mark.parametrize(("name", "fault"), [("overload", Fault.OVERLOAD), ("encoder", Fault.ENCODER)])
def test_fault_of_one_axis_stops_the_arm_and_names_it(device, arm, name, fault):
    held = arm.connect().held_setpoint
    arm.arm()
    device.do("fault", joint=2, name=name)
    state = cycles_until(arm, held, lambda s: s.faults)
    assert state.faults == fault
    assert [index for index, code in enumerate(state.joint_faults) if code] == [2]
    assert "no error" not in models.sentence(state.joint_faults[2])
    assert arm.mode is Mode.STOPPED


def test_brown_out_is_a_reset_and_nothing_re_arms(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    device.do("brown-out")
    state = cycles_until(arm, held, lambda s: s.faults)
    assert state.faults & Fault.RESET
    assert device.do("report")["torque_on"] == [False] * 6


def test_silent_axis_is_named(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    device.do("trouble", silent=[4])
    with pytest.raises(JointSilent, match="joint5"):
        cycle(arm, held)


def test_missing_heartbeats_are_a_fault(device):
    arm = driver(device)
    arm.connect()
    arm.arm()
    arm._beats.patience_ns = 0  # as if none had come for long
    assert cycle(arm, arm.held).faults & Fault.OTHER
    arm.close()


@pytest.mark.parametrize(
    ("kind", "states", "errors"),
    [(StopKind.HOLD, [8] * 6, [0] * 6), (StopKind.DAMP, [8] * 6, [0] * 6), (StopKind.FREE, [1] * 6, [0x0200_0000] * 6)],
)
def test_stop_is_confirmed_by_every_axis(device, arm, kind, states, errors):
    arm.connect()
    arm.arm()
    assert arm.stop(kind)
    report = device.do("report")["device"]
    assert (report["states"], report["errors"]) == (states, errors)


def test_stop_of_a_silent_bus_is_not_confirmed(device, arm):
    arm.connect()
    arm.arm()
    device.do("trouble", silent=[0])
    assert not arm.stop()


def test_disarmed_axes_are_idle(device, arm):
    arm.connect()
    arm.arm()
    arm.disarm()
    assert device.do("report")["device"]["states"] == [1] * 6


def test_closing_an_armed_arm_stops_it_and_the_watchdog_frees_it(device, arm):
    arm.connect()
    arm.arm()
    arm.close()
    time.sleep(2 * WATCHDOG_S)
    assert device.do("report")["device"]["states"] == [1] * 6


def test_unplugged_bus_comes_back_by_connecting_again(device, arm):
    arm.connect()
    arm.arm()
    device.do("unplug")
    with pytest.raises(PortGone):
        cycle(arm, arm.held)
    device.do("replug")
    arm.close()
    arm.connect()
    arm.arm()
    assert cycle(arm, arm.held).faults == Fault.NONE


def test_spoiled_and_doubled_frames_never_make_a_wrong_state(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    device.do("trouble", cut=0.2, twice=0.2)
    for _ in range(50):
        arm.send(held, time.monotonic_ns() + CYCLE_NS)
        time.sleep(0.002)
        state = arm.poll()
        if state is not None:
            assert np.abs(state.position).max() <= 1.7  # within the mechanical ends
    assert arm.counts.foreign > 0
