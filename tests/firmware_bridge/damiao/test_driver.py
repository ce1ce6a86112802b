"""The driver against virtual motors in a process of their own, over the same kernel frames as SocketCAN."""

import time

import numpy as np
import pytest

from firmware_bridge import bus_arm
from firmware_bridge.arm import Fault, Joint, Mode, StopKind, exchange
from firmware_bridge.config import BusConfig
from firmware_bridge.damiao import access, codec, driver, registers
from firmware_bridge.damiao.driver import make, scan
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    BridgeError,
    BusOff,
    Expired,
    JointSilent,
    NoAnswer,
    NotArmed,
    PortGone,
    WatchdogMismatch,
    WrongJoint,
)
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.socket_can import SocketCan
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.damiao.arms import GRIPPER, JOINTS, WATCHDOG_S

ALL = (*JOINTS, GRIPPER)
CYCLE_NS = 1_000_000_000  # a deadline that a busy test machine holds


def arm_on(port, joints=ALL, watchdog_s=WATCHDOG_S, fd=True, options=None):
    return make(BusConfig("main", port, 1_000_000, joints, 5_000_000 if fd else None), watchdog_s, options or {})


def cycle(arm, setpoint=None):
    return exchange(arm, arm.held if setpoint is None else setpoint, time.monotonic_ns() + CYCLE_NS)


@pytest.fixture
def virtual():
    with VirtualProcess("damiao", ALL) as process:
        yield process


@pytest.fixture
def patient(monkeypatch):
    """A busy test machine must not look like a silent bus."""
    for where in (driver, access, bus_arm):
        monkeypatch.setattr(where, "FIRST_READ_S", 0.5)


@pytest.fixture
def slow(virtual, patient):
    """An arm whose watchdog no busy machine trips by accident, connected."""
    arm = arm_on(virtual.port, watchdog_s=2.0)
    arm.connect()
    yield arm
    arm.stop(StopKind.FREE)
    arm.close()


class Tapped(SocketCan):
    """A transport that keeps what was written."""

    def __init__(self, port, fd=True):
        super().__init__(port, fd)
        self.written = []

    def write(self, frames):
        self.written += frames
        super().write(frames)


# --- connect ---


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


# --- cycles ---


def test_the_arm_follows_and_the_answer_to_a_command_is_the_state(slow):
    slow.arm()
    goal = slow.held + np.float32(0.05)
    for _ in range(150):
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


# --- faults and stops ---


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
