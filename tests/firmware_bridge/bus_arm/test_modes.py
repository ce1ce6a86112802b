"""The base of drivers on a shared bus: connecting, arming, stopping."""

import numpy as np
import pytest

from firmware_bridge.arm import Mode, StopKind, exchange
from firmware_bridge.bus_arm import Reading
from firmware_bridge.errors import ArmRefused, Expired, JointSilent, NoAnswer
from tests.firmware_bridge.bus_arm.bench import HOUR_NS, JOINTS, MIDDLE, written


def test_connecting_reads_the_arm_and_arms_nothing(arm):
    info = arm.connect()
    assert (info.port, info.channels, info.watchdog_ms, len(info.joints)) == ("bus0", 3, 100, 3)
    assert info.held_setpoint.tolist() == arm.held.tolist() == np.array([0.0, 0.1, 0.5], np.float32).tolist()
    assert (arm.mode, arm.transport.opened) == (Mode.DISARMED, True)
    assert "enable" not in arm.transport.log


def test_a_failed_connection_leaves_the_port_closed(arm):
    arm.transport.mute = {0, 1, 2}
    with pytest.raises(
        NoAnswer, match=r"no joint answers on bus0[\s\S]*another protocol: `edgevla bus scan --port bus0`"
    ):
        arm.connect()
    assert not arm.transport.opened


def test_a_silent_joint_is_named(arm):
    arm.transport.mute = {1}
    with pytest.raises(JointSilent, match=r"lift \(id 2\)"):
        arm.connect()


@pytest.mark.parametrize("at", [-1.02, 1.02])
def test_an_arm_outside_its_range_is_not_armed(arm, at):
    arm.connect()
    arm.transport.readings[0] = Reading(0, JOINTS[0].to_device(at))
    with pytest.raises(ArmRefused, match="pan outside its range"):
        arm.arm()
    assert arm.mode is Mode.STOPPED
    assert "enable" not in arm.transport.log


def test_arming_holds_what_it_finds(arm):
    arm.connect()
    arm.transport.readings[0] = Reading(0, JOINTS[0].to_device(0.75))
    arm.arm()
    assert arm.held[0] == np.float32(0.75)
    assert (arm.mode, arm.transport.log[-1]) == (Mode.ARMED, "enable")


def test_disarming_that_is_not_confirmed_is_an_error_and_takes_no_commands(armed):
    armed.confirms = False
    with pytest.raises(ArmRefused, match="did not confirm"):
        armed.disarm()
    assert armed.mode is Mode.STOPPED
    armed.confirms = True
    armed.disarm()
    assert armed.mode is Mode.DISARMED


def test_a_stop_latches_and_says_whether_it_was_confirmed(armed):
    assert armed.stop(StopKind.DAMP) is True
    assert armed.transport.log == [StopKind.DAMP]
    assert armed.mode is Mode.STOPPED
    armed.confirms = False
    assert armed.stop() is False


def test_a_stop_of_a_disarmed_arm_leaves_it_disarmed(arm):
    arm.connect()
    arm.stop()
    assert arm.mode is Mode.DISARMED


def test_closing_stops_an_armed_arm_once(armed):
    armed.close()
    assert armed.transport.log == [StopKind.HOLD]
    armed.close()
    assert armed.transport.log == [StopKind.HOLD]
    assert (armed.mode, armed.transport.opened) == (Mode.DISARMED, False)


def test_an_exchange_without_time_left_is_an_error_and_writes_nothing(armed):
    with pytest.raises(Expired, match="deadline"):
        exchange(armed, MIDDLE, armed.transport.clock.now_ns)
    assert written(armed) == []


def test_an_exchange_with_a_silent_joint_names_it(armed):
    armed.transport.mute = {2}
    with pytest.raises(JointSilent, match=r"grip \(id 3\)"):
        exchange(armed, MIDDLE, armed.transport.clock.now_ns + HOUR_NS)
