"""Connecting to virtual controllers in a process of their own; on a real vcan too (`make test-can`)."""

from __future__ import annotations

import math

import pytest

from firmware_bridge.arm import Joint, Mode
from firmware_bridge.config import BusConfig
from firmware_bridge.errors import ArmRefused, BadSetpoint, BridgeError, JointSilent, WrongJoint
from firmware_bridge.moteus import driver
from firmware_bridge.moteus.registers import Mode as Device
from firmware_bridge.transport.socket_can import SocketCan
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.moteus.arms import JOINTS, SLOW_S, opened


@pytest.fixture
def virtual():
    with VirtualProcess("moteus", JOINTS) as started:
        yield started


def test_connecting_tells_who_the_joints_are_and_gives_no_torque(virtual):
    made = driver.make(BusConfig("main", virtual.port, 1_000_000, JOINTS, 5_000_000), 0.1, {})
    info = made.connect()
    assert [(joint.name, joint.id, joint.model, joint.firmware) for joint in info.joints] == [
        (joint.name, joint.id, "moteus", "1.10.0") for joint in JOINTS
    ]
    assert info.watchdog_ms == 100
    assert {joint.voltage_v for joint in info.joints} == {24.0}
    assert info.joints[0].note == "at expiry it damps motion"
    assert virtual.do("report")["device"]["modes"] == [Device.STOPPED] * 6
    assert made.mode is Mode.DISARMED
    made.close()


def test_limits_that_the_device_has_narrower_are_told():
    with VirtualProcess("moteus", JOINTS, options={"position_min": -0.1, "position_max": 0.1}) as virtual:
        made = driver.make(BusConfig("main", virtual.port, 1_000_000, JOINTS[:1], 5_000_000), 0.1, {})
        (joint,) = made.connect().joints
        assert joint.range == pytest.approx((-0.2 * math.pi, 0.2 * math.pi))
        assert "narrower" in joint.note
        made.close()


def test_arming_is_refused_with_the_devices_own_reason():
    with VirtualProcess("moteus", JOINTS[:1], options={"position_min": 0.2, "position_max": 0.3}) as virtual:
        arm = opened(virtual, JOINTS[:1], 1.0)
        with pytest.raises(ArmRefused, match="outside servopos"):
            arm.arm()
        assert arm.mode is Mode.STOPPED
        arm.close()


def test_gains_that_the_device_is_not_configured_for_are_refused():
    stiff = (Joint("base", "rad", -1.5, 1.5, 1, "moteus", kp=90.0),)
    with VirtualProcess("moteus", stiff) as virtual, pytest.raises(WrongJoint, match=r"servo\.pid_position\.kp"):
        opened(virtual, stiff)


def test_a_joint_of_another_model_or_nobody_is_refused(virtual):
    other = (Joint("base", "rad", -1.5, 1.5, 1, "st3215"),)
    with pytest.raises(WrongJoint, match="st3215"):
        opened(virtual, other)
    absent = (*JOINTS[:1], Joint("ghost", "rad", -1.5, 1.5, 77, "moteus"))
    with pytest.raises(JointSilent, match=r"ghost \(id 77\)"):
        opened(virtual, absent)


def test_a_range_that_int16_does_not_reach_is_refused_at_connect():
    far = (Joint("wheel", "rad", -30.0, 30.0, 1, "moteus"),)
    with VirtualProcess("moteus", far) as virtual:
        with pytest.raises(BadSetpoint, match=r"3\.2767"):
            opened(virtual, far, resolution="int16")
        opened(virtual, far).close()


@pytest.mark.parametrize("options", [{"speed": 1}, {"resolution": "int8"}])
def test_options_it_does_not_know_are_refused(options):
    with pytest.raises(BridgeError, match="resolution: float or int16"):
        driver.make(BusConfig("main", "/nowhere", 1_000_000, JOINTS), 0.1, options)


@pytest.mark.parametrize("watchdog_s", [None, 0.0, math.nan, 40.0])
def test_a_profile_must_give_a_watchdog(watchdog_s):
    with pytest.raises(BridgeError, match="watchdog"):
        driver.make(BusConfig("main", "/nowhere", 1_000_000, JOINTS), watchdog_s, {})


def test_a_scan_finds_every_controller(virtual):
    bus = SocketCan(virtual.port, fd=True)
    bus.open()
    found = driver.scan(bus, window_s=SLOW_S)
    bus.close()
    assert [(one.id, one.model, one.firmware) for one in found] == [(j.id, "moteus", "1.10.0") for j in JOINTS]
