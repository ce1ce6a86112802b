"""The driver against virtual controllers in a process of their own; on a real vcan too (`make test-can`)."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Mode, StopKind, exchange
from firmware_bridge.errors import (
    BadSetpoint,
    BusOff,
    Expired,
    JointSilent,
    NoAnswer,
    NotArmed,
    PortGone,
)
from firmware_bridge.moteus import codec
from firmware_bridge.moteus.registers import OWN_CODE, Register
from firmware_bridge.moteus.registers import Mode as Device
from firmware_bridge.transport.socket_can import SocketCan
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.moteus.arms import JOINTS, SLOW_S, opened, soon_ns

HELD = np.array([0.1, -0.2, 0.3, 0.0, -0.1, 0.04], np.float32)


def asked(arm, limit_s=SLOW_S):
    """A state, without commanding anything."""
    arm.request_state()
    while arm.wait_readable(soon_ns(limit_s)):
        state = arm.poll()
        if state is not None:
            return state
    raise arm.silence()


def eventually(arm, holds, limit_s=2 * SLOW_S):
    end_ns = soon_ns(limit_s)
    while time.monotonic_ns() < end_ns:
        state = asked(arm)
        if holds(state):
            return state
        time.sleep(0.01)
    raise AssertionError(f"never: {state}")


@pytest.fixture
def virtual():
    with VirtualProcess("moteus", JOINTS) as started:
        yield started


@pytest.fixture
def arm(virtual):
    made = opened(virtual, watchdog_s=1.0)  # longer than a stall of this machine
    yield made
    made.close()


@pytest.fixture
def armed(arm):
    arm.arm()
    return arm


def modes(virtual):
    return virtual.do("report")["device"]["modes"]


@pytest.mark.parametrize("resolution", ["float", "int16"])
def test_the_arm_follows_its_set_points_in_the_channels_units(virtual, resolution):
    arm = opened(virtual, watchdog_s=1.0, resolution=resolution)
    arm.arm()
    end_ns = soon_ns(0.6)
    while time.monotonic_ns() < end_ns:
        state = exchange(arm, HELD, soon_ns())
    assert state.mode == Mode.ARMED
    assert state.faults == Fault.NONE
    # gravity over kp is what is left: 0.2 N m over 60 N m/rad, 40 at the shoulder, and ratio 0.02 at the gripper
    assert state.position == pytest.approx(HELD, abs=0.01)
    assert state.temperature.tolist() == [31.0] * 6
    assert arm.disarm() is None
    arm.close()
    assert modes(virtual) == [Device.STOPPED] * 6


def test_gains_torque_limit_and_feed_forward_of_the_profile_reach_the_joint(armed):
    exchange(armed, HELD, soon_ns())
    bus = SocketCan(armed.transport.name, fd=True)
    bus.open()
    sent = {}
    for joint_id in (2, 3):
        bus.write([codec.frame(joint_id, codec.read(Register.FEED_FORWARD, 4, 3), source=5)])
        bus.wait_readable(soon_ns())
        sent[joint_id] = codec.values(next(f for f in bus.read() if f.id == joint_id << 8 | 5).data)
    bus.close()
    assert sent[2][Register.KP_SCALE] == pytest.approx(40.0 / 60.0, rel=1e-4)
    assert sent[2][Register.KD_SCALE] == pytest.approx(1.0 / 1.5, rel=1e-4)
    assert math.isnan(sent[2][Register.MAX_TORQUE])
    assert sent[3][Register.FEED_FORWARD] == pytest.approx(0.15)
    assert sent[3][Register.MAX_TORQUE] == 2.5


def test_a_state_is_as_old_as_its_question(armed):
    before_ns = time.monotonic_ns()
    state = exchange(armed, HELD, soon_ns())
    assert before_ns <= state.stamp_ns <= time.monotonic_ns()
    assert state.last_seq == armed.last_asked


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.51])
def test_what_is_not_finite_or_outside_never_reaches_the_wire(virtual, armed, bad):
    before = virtual.do("report")["device"]["frames"]
    setpoint = HELD.copy()
    setpoint[0] = bad
    with pytest.raises(BadSetpoint):
        armed.send(setpoint, soon_ns())
    assert virtual.do("report")["device"]["frames"] == before


def test_an_expired_command_is_not_written(virtual, armed):
    before = virtual.do("report")["device"]["frames"]
    with pytest.raises(Expired):
        exchange(armed, HELD, time.monotonic_ns() - 1)
    assert armed.counts.late == 1
    assert virtual.do("report")["device"]["frames"] == before


def test_set_points_before_arming_are_refused(arm):
    with pytest.raises(NotArmed):
        arm.send(HELD, soon_ns())


def test_when_commands_cease_the_joints_latch_and_only_arming_clears_it(virtual):
    arm = opened(virtual, watchdog_s=0.25)
    arm.arm()
    state = eventually(arm, lambda state: state.faults)
    assert state.faults == Fault.WATCHDOG
    assert arm.mode is Mode.STOPPED
    state = eventually(arm, lambda state: set(state.joint_faults) == {OWN_CODE + Device.TIMEOUT})
    assert "watchdog" in codec.sentence(state.joint_faults[0])
    with pytest.raises(NotArmed):
        arm.send(HELD, soon_ns())
    arm.arm()
    assert exchange(arm, arm.held, soon_ns()).faults == Fault.NONE
    arm.close()


def test_a_stop_holds_without_the_host_and_without_a_watchdog(virtual):
    arm = opened(virtual, watchdog_s=0.25)
    arm.arm()
    assert arm.stop()
    time.sleep(0.5)
    assert modes(virtual) == [Device.POSITION] * 6
    assert asked(arm).faults == Fault.NONE
    arm.close()


def test_a_damping_stop_and_a_free_one(virtual, armed):
    assert armed.stop(StopKind.DAMP)
    assert modes(virtual) == [Device.ZERO_VELOCITY] * 6
    assert armed.stop(StopKind.FREE)
    assert modes(virtual) == [Device.STOPPED] * 6
    assert armed.mode is Mode.STOPPED


@pytest.mark.parametrize("kind", list(StopKind))
def test_a_stop_gives_no_torque_to_an_arm_that_has_none(virtual, arm, kind):
    assert arm.stop(kind)
    assert modes(virtual) == [Device.STOPPED] * 6


def test_a_stop_of_joints_that_timed_out_is_confirmed_as_they_are(virtual):
    arm = opened(virtual, watchdog_s=0.25)
    arm.arm()
    eventually(arm, lambda state: set(state.joint_faults) == {OWN_CODE + Device.TIMEOUT})
    assert arm.stop()
    assert modes(virtual) == [Device.TIMEOUT] * 6
    arm.close()


@pytest.mark.parametrize(
    ("name", "fault", "code"),
    [
        ("overload", Fault.OVERLOAD, 33),
        ("overheat", Fault.OVERHEAT, 38),
        ("voltage", Fault.VOLTAGE, 40),
        ("encoder", Fault.ENCODER, 35),
    ],
)
def test_a_fault_at_one_joint_stops_the_arm(virtual, armed, name, fault, code):
    virtual.do("fault", joint=2, name=name)
    state = exchange(armed, HELD, soon_ns())
    assert state.faults == fault
    assert state.joint_faults[2] == code
    assert armed.mode is Mode.STOPPED
    assert not armed.stop()  # that joint has no torque: the stop is not what was asked for
    armed.arm()
    assert exchange(armed, armed.held, soon_ns()).faults == Fault.NONE


def test_a_joint_that_restarted_gets_no_torque_again_by_itself(virtual, armed):
    exchange(armed, armed.held, soon_ns())
    virtual.do("brown-out")
    state = exchange(armed, armed.held, soon_ns())  # the next command would wake them: the answer shows it
    assert state.faults == Fault.RESET
    assert armed.mode is Mode.STOPPED
    time.sleep(0.1)
    assert modes(virtual) == [Device.STOPPED] * 6
    assert "restarted" in codec.sentence(state.joint_faults[0])


def test_another_host_that_changes_the_mode_is_seen(virtual, armed):
    bus = SocketCan(armed.transport.name, fd=True)
    bus.open()
    bus.write([codec.frame(1, codec.mode(Device.BRAKE), reply=False, source=5)])
    bus.write([codec.frame(1, codec.IDENTIFY, source=5)])
    bus.wait_readable(soon_ns())  # it has taken the command
    bus.close()
    virtual.do("report")
    state = asked(armed)
    assert (state.faults, state.joint_faults[0]) == (Fault.OTHER, OWN_CODE + Device.BRAKE)


def test_one_silent_joint_is_named_and_the_arm_goes_on_after(virtual, armed):
    virtual.do("trouble", silent=[3])
    with pytest.raises(JointSilent, match="wrist"):
        exchange(armed, HELD, soon_ns(0.2))
    virtual.do("trouble")
    assert exchange(armed, HELD, soon_ns()).faults == Fault.NONE


def test_silence_of_all_is_no_answer(virtual, armed):
    virtual.do("power", on=False)
    with pytest.raises(NoAnswer):
        exchange(armed, HELD, soon_ns(0.1))
    assert not armed.stop()


@pytest.mark.parametrize("kind", ["flip", "cut", "twice", "swap", "foreign"])
def test_spoiled_frames_never_pass_for_a_state_that_is_not_whole(virtual, armed, kind):
    virtual.do("trouble", **{kind: 0.3})
    whole = 0
    for _ in range(25):
        try:
            state = exchange(armed, armed.held, soon_ns(0.05))
            whole += 1
        except (JointSilent, NoAnswer):
            continue
        except NotArmed:
            break  # a flipped bit may read as a fault: that stops the arm
        assert state.position.shape == (6,)
        assert np.isfinite(state.position).all()
    assert whole or armed.mode is Mode.STOPPED or kind in ("cut", "flip")


def test_an_echo_is_nobodys_answer(virtual, armed):
    virtual.do("trouble", echo=True)
    state = exchange(armed, HELD, soon_ns())
    assert state.faults == Fault.NONE
    assert armed.counts.foreign >= 5


def test_bus_off_is_said_and_a_restart_of_the_controller_goes_on(virtual, armed):
    virtual.do("bus-off")
    with pytest.raises(BusOff):
        exchange(armed, HELD, soon_ns())
    virtual.do("restart")
    armed.transport.close()
    armed.transport.open()
    assert asked(armed).position.shape == (6,)


def test_unplugged_is_gone_and_replugged_connects_again_disarmed(virtual, armed):
    virtual.do("unplug")
    with pytest.raises(PortGone):
        exchange(armed, HELD, soon_ns())
    armed.close()
    virtual.do("replug")
    armed.connect()
    assert armed.mode is Mode.DISARMED
    armed.arm()
    assert exchange(armed, armed.held, soon_ns()).faults == Fault.NONE
