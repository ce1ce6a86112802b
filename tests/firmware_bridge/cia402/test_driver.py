"""Cycles, stops and faults: the driver against virtual drives in a process of their own."""

import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Mode, StopKind, exchange
from firmware_bridge.cia402 import codec, sentences
from firmware_bridge.errors import ArmRefused, BadSetpoint, Expired, JointSilent, NoAnswer, NotArmed, PortGone
from firmware_bridge.transport.socket_can import SocketCan
from tests.firmware_bridge.cia402.arms import JOINTS, WATCHDOG_S
from tests.firmware_bridge.cia402.driven import CYCLE_NS, cycle, cycles_until, driver, settled, states

HOLDING = "OPERATION_ENABLED"


def test_arm_follows_set_points_in_channel_units(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    goal = held + np.float32(0.05)
    state = cycles_until(arm, goal, lambda s: np.abs(s.position - goal).max() < 0.005)
    assert state.faults == Fault.NONE
    at = device.do("report")["position_rad"]
    assert at == pytest.approx([j.to_device(v) for j, v in zip(JOINTS, state.position, strict=True)], abs=0.01)


def test_nothing_jumps_when_it_is_armed(device, arm):
    arm.connect()
    before = device.do("report")["position_rad"]
    arm.arm()
    assert device.do("report")["position_rad"] == pytest.approx(before, abs=0.01)


def test_state_is_as_old_as_the_sync(arm):
    arm.connect()
    arm.arm()
    before_ns = time.monotonic_ns()
    state = cycle(arm, arm.held)
    assert before_ns <= state.stamp_ns <= time.monotonic_ns()


def test_velocity_and_torque_come_with_motion(device):
    arm = driver(device, motion=True)
    held = arm.connect().held_setpoint
    arm.arm()
    gravity = [j.direction * 0.2 / j.ratio for j in JOINTS]
    state = cycles_until(arm, held, lambda s: np.allclose(s.effort, gravity, atol=0.1))
    assert np.isfinite(state.velocity).all()
    arm.close()


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 1.51])
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


def test_silence_of_the_host_is_a_fault_of_the_drives_and_only_arming_clears_it(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    time.sleep(2 * WATCHDOG_S)
    assert states(device) == {"FAULT"}
    state = cycle(arm, held)
    assert state.faults & Fault.WATCHDOG
    assert sentences.sentence(state.joint_faults[0]).startswith("heartbeat of the host was lost")
    assert arm.mode is Mode.STOPPED
    with pytest.raises(NotArmed):
        arm.send(held, time.monotonic_ns() + CYCLE_NS)
    arm.arm()
    assert cycle(arm, arm.held).faults == Fault.NONE


def test_questions_alone_do_not_keep_an_armed_arm_alive(device, arm):
    arm.connect()
    arm.arm()
    until = time.monotonic() + 2 * WATCHDOG_S
    while time.monotonic() < until:
        arm.request_state()
        time.sleep(0.005)
        arm.poll()
    assert device.do("report")["device"]["watchdog_trips"] == 6


def test_stopped_arm_is_held_as_long_as_the_host_asks(device, arm):
    arm.connect()
    arm.arm()
    assert arm.stop()
    until = time.monotonic() + 2 * WATCHDOG_S
    while time.monotonic() < until:
        arm.request_state()
        time.sleep(0.005)
        arm.poll()
    assert states(device) == {"QUICK_STOP"}
    arm.arm()  # out of the quick stop, torque never off
    assert states(device) == {HOLDING}


@pytest.mark.parametrize(
    ("kind", "state", "torque"),
    [
        (StopKind.HOLD, "QUICK_STOP", True),
        (StopKind.DAMP, "SWITCHED_ON", False),
        (StopKind.FREE, "SWITCH_ON_DISABLED", False),
    ],
)
def test_stop_is_confirmed_by_every_drive(device, arm, kind, state, torque):
    arm.connect()
    arm.arm()
    assert arm.stop(kind)
    report = device.do("report")
    assert (set(report["device"]["states"]), set(report["torque_on"])) == ({state}, {torque})


def test_stop_of_a_silent_drive_is_not_confirmed(device, arm):
    arm.connect()
    arm.arm()
    device.do("trouble", silent=[0])
    assert not arm.stop()


def test_disarmed_drives_have_no_torque_and_do_not_fault_afterwards(device, arm):
    arm.connect()
    arm.arm()
    arm.disarm()
    time.sleep(2 * WATCHDOG_S)
    report = device.do("report")["device"]
    assert (set(report["states"]), set(report["errors"])) == ({"SWITCH_ON_DISABLED"}, {0})


@pytest.mark.parametrize(("name", "fault"), [("overheat", Fault.OVERHEAT), ("voltage", Fault.VOLTAGE)])
def test_fault_of_one_drive_stops_the_arm_and_names_it(device, arm, name, fault):
    held = arm.connect().held_setpoint
    arm.arm()
    device.do("fault", joint=2, name=name)
    state = cycles_until(arm, held, lambda s: s.faults)
    assert state.faults == fault
    assert [index for index, code in enumerate(state.joint_faults) if code] == [2]
    assert arm.mode is Mode.STOPPED


def test_restarted_drives_must_be_connected_again(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    device.do("brown-out")
    with pytest.raises((NoAnswer, NotArmed)):  # no process data; or their boot-up is read before the command
        cycle(arm, held)
    with pytest.raises(ArmRefused, match="lost its settings"):
        arm.arm()
    assert not any(device.do("report")["torque_on"])
    arm.close()
    arm.connect()
    arm.arm()
    assert cycle(arm, arm.held).faults == Fault.NONE


def test_lost_settings_are_found_before_torque_goes_on(device, arm):
    arm.connect()
    other = SocketCan(device.port)
    other.open()
    other.write([codec.Frame(0x603, bytes.fromhex("23 16 10 01 00 00 00 00"))])  # somebody clears its watchdog
    time.sleep(0.05)
    other.close()
    with pytest.raises(ArmRefused, match="axis3"):
        arm.arm()
    assert not any(device.do("report")["torque_on"])


def test_silent_drive_is_named(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    device.do("trouble", silent=[4])
    with pytest.raises(JointSilent, match="axis5"):
        cycle(arm, held)


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


def test_cut_and_doubled_frames_never_make_a_wrong_state(device, arm):
    held = arm.connect().held_setpoint
    arm.arm()
    device.do("trouble", cut=0.05, twice=0.2)
    for _ in range(50):
        arm.send(held, time.monotonic_ns() + CYCLE_NS)
        time.sleep(0.003)
        state = arm.poll()
        if state is not None:
            assert np.abs(state.position).max() <= 1.7  # within the mechanical ends
    assert arm.counts.foreign + arm.counts.incomplete > 0
