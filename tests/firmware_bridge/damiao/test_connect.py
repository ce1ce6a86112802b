"""Connecting, what is refused there, and scanning, against virtual motors in a process of their own."""

import pytest

from firmware_bridge.arm import Joint, Mode, StopKind
from firmware_bridge.damiao import registers
from firmware_bridge.damiao.driver import scan
from firmware_bridge.errors import (
    BadSetpoint,
    BridgeError,
    JointSilent,
    NoAnswer,
    WatchdogMismatch,
    WrongJoint,
)
from firmware_bridge.transport.socket_can import SocketCan
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.damiao.rig import ALL, arm_on, cycle


def test_connecting_identifies_every_motor_and_arms_its_watchdog_but_no_torque(virtual):
    arm = arm_on(virtual.port)
    info = arm.connect()
    assert info.watchdog_ms == 100
    assert [(j.name, j.id, j.model, j.watchdog_s) for j in info.joints][:2] == [
        ("joint_1", 1, "dm8009", 0.1),
        ("joint_2", 2, "dm8009", 0.1),
    ]
    assert info.joints[7].note == "force-position, at most 1.8"
    report = virtual.do("report")
    assert report["device"]["timeout"] == [2000] * 8
    assert report["torque_on"] == [False] * 8
    assert arm.mode is Mode.DISARMED
    arm.close()


def test_classic_can_works_too(virtual):
    arm = arm_on(virtual.port, fd=False, watchdog_s=2.0)
    arm.connect()
    arm.arm()
    assert cycle(arm).faults == 0
    arm.stop(StopKind.FREE)
    arm.close()


@pytest.mark.parametrize(
    ("register", "value", "said"),
    [(registers.PMAX, 3.14159, "PMAX 3.14159"), (registers.VMAX, 30.0, "VMAX 30"), (registers.TMAX, 28.0, "TMAX 28")],
)
def test_a_motor_with_another_scale_is_refused_and_never_moved(register, value, said):
    with VirtualProcess("damiao", ALL, options={"flash": {1: {register: value}}}) as virtual:
        with pytest.raises(WrongJoint, match="joint_2") as error:
            arm_on(virtual.port).connect()
        assert said in str(error.value)
        assert "dm8009@" in str(error.value)
        report = virtual.do("report")
        assert report["device"]["commands"] == report["device"]["refused"] == 0
        assert report["device"]["timeout"] == [0] * 8


def test_a_scale_named_in_the_profile_is_taken():
    own = [Joint(**{**j.__dict__, "model": "dm4340@12.5,8,28"}) if j.model == "dm4340" else j for j in ALL]
    with VirtualProcess("damiao", own) as virtual:
        arm_on(virtual.port, tuple(own)).connect()
        with pytest.raises(WrongJoint, match="joint_3"):
            arm_on(virtual.port).connect()


def test_a_motor_that_answers_elsewhere_is_silent(virtual):
    joints = (*ALL[:3], Joint(**{**ALL[3].__dict__, "reply_id": 0x44}), *ALL[4:])
    with pytest.raises(JointSilent, match=r"joint_4 \(id 4\)"):
        arm_on(virtual.port, joints).connect()


def test_a_bus_without_motors_is_told_so(virtual):
    virtual.do("power", on=False)
    with pytest.raises(NoAnswer, match="no joint answers"):
        arm_on(virtual.port).connect()


def test_a_control_mode_of_another_tool_is_set_back(virtual):
    with VirtualProcess("damiao", ALL, options={"flash": {0: {registers.CTRL_MODE: 2}}}) as other:
        arm = arm_on(other.port, watchdog_s=2.0)
        arm.connect()
        arm.arm()
        assert cycle(arm).faults == 0
        arm.stop(StopKind.FREE)
        arm.close()


def test_a_watchdog_that_does_not_take_is_refused(virtual, monkeypatch):
    arm = arm_on(virtual.port)
    monkeypatch.setattr(arm._access, "write", lambda *_: None)  # a firmware without register 9
    with pytest.raises(WatchdogMismatch, match="TIMEOUT"):
        arm.connect()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": 0}, "id 1..255"),
        ({"id": 0x100}, "id 1..255"),
        ({"kp": None}, "kp and kd"),
        ({"kp": None, "kd": None, "max_effort": None}, "max_effort"),
        ({"minimum": -13.0}, "within"),
        ({"model": "ax12"}, "name plate"),
        ({"reply_id": 0x12, "id": 0x12}, "together once"),
    ],
)
def test_a_joint_that_these_motors_cannot_be_is_refused(change, said):
    with pytest.raises(WrongJoint, match=said):
        arm_on("/nowhere", (Joint(**{**ALL[0].__dict__, **change}), *ALL[1:]))


@pytest.mark.parametrize(
    "change", [{"kp": 501.0}, {"kd": 5.5}, {"torque_ff": 60.0}, {"torque_ff": float("nan")}, {"kp": float("nan")}]
)
def test_gains_that_a_field_cannot_carry_are_refused_before_the_port_opens(change):
    with pytest.raises(BadSetpoint, match="motor 1"):
        arm_on("/nowhere", (Joint(**{**ALL[0].__dict__, **change}), *ALL[1:]))


@pytest.mark.parametrize("options", [{"speed": 1.0}, {"speed_rad_s": "fast"}, {"speed_rad_s": True}])
def test_an_option_it_does_not_know_is_refused(options):
    with pytest.raises(BridgeError, match="speed_rad_s"):
        arm_on("/nowhere", options=options)
    with pytest.raises(BadSetpoint, match="speed"):
        arm_on("/nowhere", options={"speed_rad_s": 200.0})


def test_motors_that_share_an_answers_id_are_told_apart_by_their_own():
    shared = tuple(Joint(**{**joint.__dict__, "reply_id": 0}) for joint in ALL)
    with VirtualProcess("damiao", shared) as virtual:
        arm = arm_on(virtual.port, shared, watchdog_s=5.0)
        arm.connect()
        arm.arm()
        assert cycle(arm).faults == 0
        virtual.do("trouble", silent=[2])
        with pytest.raises(JointSilent, match="joint_3"):
            cycle(arm)
        arm.stop(StopKind.FREE)
        arm.close()


# --- scan ---


def test_a_scan_finds_every_motor_and_commands_none(virtual):
    transport = SocketCan(virtual.port, fd=True)
    transport.open()
    found = scan(transport, fd=True, ids=range(1, 12))
    transport.close()
    assert [one.id for one in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found[0].model == "dm8009"
    assert "dm4310" in found[7].model
    assert found[7].note == "answers on 0x18; PMAX 12.5, VMAX 30, TMAX 10"
    report = virtual.do("report")
    assert report["device"]["commands"] == report["device"]["refused"] == 0
