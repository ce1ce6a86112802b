"""The driver's cycles and its cable, against virtual motors in a process of their own, over the kernel's frames."""

import time

import numpy as np
import pytest

from firmware_bridge.arm import Joint, Mode, StopKind, exchange
from firmware_bridge.errors import (
    BadSetpoint,
    BusOff,
    Expired,
    JointSilent,
    NotArmed,
    PortGone,
)
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.socket_can import SocketCan
from tests.firmware_bridge.damiao.arms import JOINTS
from tests.firmware_bridge.damiao.rig import ALL, CYCLE_NS, Tapped, arm_on, cycle


def test_the_arm_follows_and_the_answer_to_a_command_is_the_state(slow):
    slow.arm()
    goal = slow.held + np.float32(0.05)
    until_s = time.monotonic() + 3.0  # the joints need their time, however fast the cycles are
    state = cycle(slow, goal)
    while not np.allclose(state.position, goal, atol=0.02) and time.monotonic() < until_s:
        state = cycle(slow, goal)
    assert np.allclose(state.position, goal, atol=0.02)
    assert state.faults == 0
    assert state.mode is Mode.ARMED
    assert state.temperature is not None
    assert 20 < state.temperature[0] < 60
    assert slow.counts.replies == slow.counts.sent + 3  # connect asked twice, arm once
    assert slow.counts.foreign == 0  # nothing was asked twice


def test_a_cycle_is_one_frame_there_and_one_back_per_joint(virtual):
    joints = JOINTS
    arm = arm_on(virtual.port, joints, watchdog_s=2.0)
    arm.transport = tap = Tapped(virtual.port)
    arm._access._transport = tap
    arm.connect()
    arm.arm()
    tap.written.clear()
    cycle(arm)
    assert [frame.id for frame in tap.written] == [1, 2, 3, 4, 5, 6, 7]
    assert all(frame.fd and frame.brs and len(frame.data) == 8 for frame in tap.written)
    arm.stop(StopKind.FREE)
    arm.close()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0])
def test_a_bad_setpoint_puts_no_byte_on_the_wire(virtual, slow, bad):
    slow.arm()
    before = virtual.do("report")["device"]["commands"]
    setpoint = slow.held.copy()
    setpoint[3], setpoint[0] = setpoint[3], bad
    with pytest.raises(BadSetpoint):
        slow.send(setpoint, time.monotonic_ns() + CYCLE_NS)
    cycle(slow)
    assert virtual.do("report")["device"]["commands"] == before + 8


def test_an_expired_command_is_never_written(virtual, slow):
    slow.arm()
    before = virtual.do("report")["device"]["commands"]
    with pytest.raises(Expired):
        exchange(slow, slow.held, time.monotonic_ns() - 1)
    assert virtual.do("report")["device"]["commands"] == before
    assert slow.counts.late == 1


def test_a_setpoint_before_arming_is_refused(slow):
    with pytest.raises(NotArmed):
        cycle(slow)


def test_directions_and_zeros_are_the_channels(virtual):
    turned = Joint(**{**ALL[0].__dict__, "direction": -1, "zero_rad": 0.25, "torque_ff": 1.0})
    arm = arm_on(virtual.port, (turned, *ALL[1:]), watchdog_s=2.0)
    arm.connect()
    arm.arm()
    arm._write(arm._frames([0.0] * 8))
    assert int.from_bytes(arm._last[0].data, "big") & 4095 == 2009  # -1 N m of 54: int((54 - 1) / 108 * 4095)
    state = cycle(arm)
    at_rad = virtual.do("report")["position_rad"][0]
    assert state.position[0] == pytest.approx(-(at_rad - 0.25), abs=0.02)
    arm.stop(StopKind.FREE)
    arm.close()


def test_a_silent_joint_is_named_and_no_state_is_made_without_it(virtual, slow):
    slow.arm()
    virtual.do("trouble", silent=[4])
    with pytest.raises(JointSilent, match="joint_5"):
        cycle(slow)
    virtual.do("trouble")
    assert cycle(slow).faults == 0


def test_foreign_frames_are_counted_and_taken_for_nothing(virtual, slow):
    slow.arm()
    stranger = SocketCan(virtual.port, fd=True)
    stranger.open()
    before = slow.counts.foreign
    stranger.write([Frame(0x11, bytes(3)), Frame(0x77, bytes(8)), Frame(0x11, bytes.fromhex("01003309d0070000"))])
    stranger.write([Frame(0x11, bytes(8), extended=True), Frame(0x11, bytes.fromhex("1280000000000000"))])
    time.sleep(0.05)
    assert cycle(slow).faults == 0
    assert slow.counts.foreign == before + 5
    stranger.close()


# --- the cable ---


def test_bus_off_is_an_error_and_the_arm_recovers_by_connecting_again(virtual):
    arm = arm_on(virtual.port, watchdog_s=2.0)
    arm.connect()
    arm.arm()
    virtual.do("bus-off")
    time.sleep(0.05)  # the controller's error frame is there
    with pytest.raises(BusOff, match="bus-off"):
        cycle(arm)
    virtual.do("restart")
    arm.close()
    arm.connect()
    arm.arm()
    assert cycle(arm).faults == 0
    arm.stop(StopKind.FREE)
    arm.close()


def test_an_unplugged_cable_is_an_error_and_replugging_needs_arming(virtual):
    arm = arm_on(virtual.port, watchdog_s=0.3)
    arm.connect()
    arm.arm()
    virtual.do("unplug")
    with pytest.raises(PortGone):
        cycle(arm)
    virtual.do("replug")
    time.sleep(0.4)
    arm.close()
    arm.connect()
    assert virtual.do("report")["torque_on"] == [False] * 8
    arm.arm()
    assert cycle(arm).faults == 0
    arm.stop(StopKind.FREE)
    arm.close()
