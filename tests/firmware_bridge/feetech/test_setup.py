"""Connecting: who the servos are, the options of a session, what is refused; scanning."""

import math
from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge.config import BusConfig
from firmware_bridge.errors import (
    BridgeError,
    WatchdogMismatch,
    WrongJoint,
)
from firmware_bridge.feetech.bus import ServoBus
from firmware_bridge.feetech.driver import make, scan
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.feetech.arms import JOINTS, SCS_JOINTS, arm_on


def test_connecting_reads_the_table_and_leaves_torque_off(device):
    arm = arm_on(device.port)
    info = arm.connect()
    row = info.joints[0]
    assert (row.name, row.id, row.model, row.firmware) == ("shoulder_pan", 1, "sts3215", "3.10")
    assert (row.voltage_v, row.temperature_c, row.return_delay_s, row.watchdog_s) == (7.4, 30.0, 0.0, None)
    assert row.range == pytest.approx((-1.5, 1.5), abs=2e-3)
    assert "keeps its last goal when the host dies" in row.note
    assert info.watchdog_ms == 0
    assert info.held_setpoint == pytest.approx(np.zeros(6), abs=2e-3)
    assert device.do("report")["torque_on"] == [False] * 6
    arm.close()


def test_options_are_written_for_this_session_only_and_read_back():
    joints = (replace(JOINTS[0], max_effort=0.956),)
    with VirtualProcess("feetech", joints, gravity_nm=0.0, options={"factory_delay_us": 500}) as device:
        arm = arm_on(device.port, joints)
        assert "answers 500 us late" in arm.connect().joints[0].note
        arm.close()
        asked = {"return_delay_us": 0, "p_gain": 16, "acceleration": 254, "goal_speed": 3000}
        arm = arm_on(device.port, joints, protection_ms=500, overload_torque=60, protective_torque=10, **asked)
        assert arm.connect().joints[0].return_delay_s == 0.0
        arm.arm()
        registers = bytes.fromhex(device.do("report")["device"]["registers"][0])
        assert (registers[7], registers[21], registers[34], registers[35], registers[36]) == (0, 16, 10, 50, 60)
        assert (registers[41], registers[46:48].hex(), registers[48:50].hex()) == (254, "b80b", "f401")  # 50 %
        arm.close()
        device.do("brown-out")
        registers = bytes.fromhex(device.do("report")["device"]["registers"][0])
        assert (registers[7], registers[21], registers[41]) == (250, 32, 0)


def test_a_gripper_gets_half_its_torque(device):
    arm = arm_on(device.port, torque_limits="100,100,100,100,100,50")
    arm.connect()
    limits = [bytes.fromhex(registers)[48:50].hex() for registers in device.do("report")["device"]["registers"]]
    assert limits == ["e803"] * 5 + ["f401"]  # 1000 and 500, low byte first
    arm.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speed": 3}, "unknown option 'speed'"),
        ({"read": "everything"}, "motion or effort or all"),
        ({"read": "slow"}, "motion or effort or all"),
        ({"overload": True}, "stop or report"),
        ({"slow_every": 2.5}, "a whole number"),
        ({"acceleration": True}, "a whole number, 1..254"),
        ({"return_delay_us": 509}, "0..508"),
        ({"homing_offsets": "1,2"}, "6 whole numbers"),
        ({"homing_offsets": "1,2,3,4,5,x"}, "6 whole numbers"),
        ({"homing_offsets": "1,2,3,4,5,2048"}, "6 whole numbers"),
        ({"homing_offsets": 7}, "6 whole numbers"),
        ({"torque_limits": "0,1,1,1,1,1"}, "6 whole numbers 1..100"),
    ],
)
def test_options_that_are_unknown_or_wrong_are_refused(options, words):
    with pytest.raises(BridgeError, match=words):
        arm_on("nowhere", **options)


def test_a_watchdog_is_not_to_be_had():
    with pytest.raises(WatchdogMismatch, match="accept-no-watchdog"):
        make(BusConfig("main", "nowhere", 1_000_000, JOINTS), 0.1, {})


def test_two_series_on_one_bus_are_refused():
    with pytest.raises(WrongJoint, match="two series"):
        arm_on("nowhere", (*JOINTS[:1], *SCS_JOINTS[1:2]))


def other(joint, **changes):
    return (replace(joint, **changes), *JOINTS[1:])


@pytest.mark.parametrize(
    ("joints", "options", "words"),
    [
        (other(JOINTS[0], model="sts3250"), {}, "another servo"),
        (other(JOINTS[0], minimum=-2.5), {}, "does not reach the range"),
        (JOINTS, {"homing_offsets": "5,0,0,0,0,0"}, "another homing offset"),
    ],
)
def test_a_servo_that_is_not_the_one_of_the_profile_is_refused(device, joints, options, words):
    with pytest.raises(WrongJoint, match=words):
        arm_on(device.port, joints, **options).connect()


@pytest.mark.parametrize(
    ("register", "data", "words"),
    [
        (33, b"\x01", "no position servo"),
        (18, b"\x1c", "counts turns"),
        (9, bytes(4), "counts turns"),
        (18, b"\x04", "would not move"),
    ],
)
def test_a_servo_in_another_mode_is_refused(device, register, data, words):
    transport = SerialTransport(device.port, 1_000_000)
    transport.open()
    ServoBus(transport).write(3, register, data)
    transport.close()
    with pytest.raises(WrongJoint, match=words):
        arm_on(device.port).connect()


def test_coarse_speed_units_are_read_from_the_servo(device):
    transport = SerialTransport(device.port, 1_000_000)
    transport.open()
    for servo in range(1, 7):
        ServoBus(transport).write(servo, 18, b"\x08")  # 50 counts/s a unit
    transport.close()
    arm = arm_on(device.port)
    arm.connect()
    assert arm._speed == pytest.approx([50 * 2 * math.pi / 4096] * 6)
    arm.close()


def test_scanning_finds_what_answers_and_no_echo(device):
    transport = SerialTransport(device.port, 1_000_000)
    transport.open()
    device.do("trouble", echo=True)
    found = scan(transport, range(9))
    assert [(servo.id, servo.model, servo.firmware) for servo in found] == [(n, "sts3215", "3.10") for n in range(1, 7)]
    transport.close()
