"""The driver against virtual servos in a process of their own, over a pty."""

import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Joint, Mode, StopKind, exchange
from firmware_bridge.bus_arm import LATE_S
from firmware_bridge.config import BusConfig
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    BridgeError,
    Expired,
    JointSilent,
    NoAnswer,
    NotArmed,
    PortGone,
    WatchdogMismatch,
    WrongJoint,
)
from firmware_bridge.feetech.driver import make, scan
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.feetech.arms import JOINTS, SCS_JOINTS

LATER = 1 << 62
ANGLES = np.array([-0.4, -0.2, 0.1, 0.2, 0.3, 0.4], np.float32)


def arm_on(port, joints=JOINTS, **options):
    return make(BusConfig("main", port, 1_000_000, joints), None, options)


@pytest.fixture
def device():
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0) as process:
        yield process


@pytest.fixture
def arm(device):
    driver = arm_on(device.port)
    driver.connect()
    yield driver
    driver.close()


def soon(ms=200):
    return time.monotonic_ns() + ms * 1_000_000


def follow(arm, angles, times=40):
    for _ in range(times):
        state = exchange(arm, angles, soon())
        time.sleep(0.005)
    return state


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


def test_an_armed_arm_follows_and_its_state_is_younger_than_the_command(arm, device):
    arm.arm()
    before_ns = time.monotonic_ns()
    state = follow(arm, ANGLES)
    assert state.position == pytest.approx(ANGLES, abs=5e-3)
    assert before_ns < state.stamp_ns < time.monotonic_ns()
    assert state.velocity is not None
    assert np.isfinite(state.velocity).all()
    assert (state.mode, state.faults, state.joint_faults) == (Mode.ARMED, 0, (0,) * 6)
    assert arm.counts.incomplete == arm.counts.foreign == 0


def test_arming_holds_where_the_arm_stands(device):
    device.do("free", joint=0)
    arm = arm_on(device.port)
    arm.connect()
    arm.arm()
    assert device.do("report")["device"]["goals"] == [2048] * 6
    assert device.do("report")["torque_on"] == [True] * 6
    arm.disarm()
    assert device.do("report")["torque_on"] == [False] * 6
    arm.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.6, -1.6])
def test_a_bad_set_point_never_reaches_the_wire(arm, device, value):
    arm.arm()
    bad = ANGLES.copy()
    bad[3] = value
    with pytest.raises(BadSetpoint):
        arm.send(bad, LATER)
    assert device.do("report")["device"]["goals"] == [2048] * 6


def test_an_expired_command_is_not_written(arm, device):
    arm.arm()
    with pytest.raises(Expired):
        exchange(arm, ANGLES, time.monotonic_ns())
    assert device.do("report")["device"]["goals"] == [2048] * 6
    assert arm.counts.late == 1


def test_a_set_point_before_arming_is_refused(arm):
    with pytest.raises(NotArmed):
        arm.send(ANGLES, LATER)


def test_a_fault_of_one_joint_stops_all_and_is_named(arm, device):
    arm.arm()
    device.do("fault", joint=2, name="overload")
    state = exchange(arm, ANGLES, soon())
    assert (state.faults, state.mode) == (Fault.OVERLOAD, Mode.STOPPED)
    assert state.joint_faults == (0, 0, 32, 0, 0, 0)
    with pytest.raises(NotArmed):
        arm.send(ANGLES, LATER)
    arm.arm()  # torque enabled anew ends the servo's overload protection
    assert exchange(arm, ANGLES, soon()).mode is Mode.ARMED


def test_an_overload_may_be_reported_only(device):
    arm = arm_on(device.port, overload="report")
    arm.connect()
    arm.arm()
    device.do("fault", joint=5, name="overload")
    state = exchange(arm, ANGLES, soon())
    assert (state.faults, state.mode, state.joint_faults[5]) == (0, Mode.ARMED, 32)
    device.do("fault", joint=5, name="overheat")
    assert exchange(arm, ANGLES, soon()).mode is Mode.STOPPED
    arm.close()


def test_an_arm_with_a_lasting_fault_is_not_armed(arm, device):
    device.do("fault", joint=1, name="voltage")
    with pytest.raises(ArmRefused, match="a fault lasts"):
        arm.arm()
    assert device.do("report")["torque_on"] == [False] * 6


def test_power_that_comes_back_does_not_arm_again(device):
    arm = arm_on(device.port, slow_every=5)
    arm.connect()
    arm.arm()
    follow(arm, ANGLES, 3)
    device.do("brown-out")
    states = [exchange(arm, ANGLES, soon()) for _ in range(1)]
    while states[-1].mode is Mode.ARMED and len(states) < 10:
        states.append(exchange(arm, ANGLES, soon()))
    assert states[-1].faults == Fault.RESET
    assert len(states) <= 5
    assert device.do("report")["torque_on"] == [False] * 6
    arm.close()


def test_after_a_silence_the_torque_is_looked_at_at_once(arm, device):
    arm.arm()
    follow(arm, ANGLES, 3)
    device.do("power", on=False)
    with pytest.raises(NoAnswer):
        exchange(arm, ANGLES, soon(30))
    device.do("power", on=True)
    time.sleep(LATE_S)
    states = [exchange(arm, ANGLES, soon())]
    if states[-1].mode is Mode.ARMED:
        states.append(exchange(arm, ANGLES, soon()))
    assert states[-1].faults == Fault.RESET


def test_a_silent_joint_is_named_and_gives_no_state(arm, device):
    arm.arm()
    device.do("trouble", silent=[3])
    with pytest.raises(JointSilent, match=r"wrist_flex \(id 4\)"):
        exchange(arm, ANGLES, soon(30))
    device.do("trouble")
    time.sleep(LATE_S)  # until then its answers may be those to earlier questions
    assert exchange(arm, ANGLES, soon()).mode is Mode.ARMED


def test_connecting_to_silent_servos_names_them(device):
    device.do("trouble", silent=[1, 4])
    with pytest.raises(JointSilent, match=r"shoulder_lift \(id 2\), wrist_roll \(id 5\)"):
        arm_on(device.port).connect()
    device.do("power", on=False)
    with pytest.raises(NoAnswer, match="no servo answers"):
        arm_on(device.port).connect()


@pytest.mark.parametrize(
    "trouble", [{"echo": True}, {"wrong_echo": True}, {"twice": 1.0}, {"foreign": 0.2}, {"swap": 0.3}]
)
@pytest.mark.parametrize("joints", [JOINTS, SCS_JOINTS], ids=["sts", "scs"])
def test_states_are_right_on_a_line_with(trouble, joints):
    with VirtualProcess("feetech", joints, gravity_nm=0.0) as device:
        device.do("trouble", **trouble)
        arm = arm_on(device.port, joints)
        arm.connect()
        arm.arm()
        good = 0
        for _ in range(60):
            try:
                state = exchange(arm, ANGLES, soon(20))
            except BridgeError:
                continue
            good += 1
            assert state.faults == 0
            assert np.abs(state.position).max() < 0.6
        assert good > 5
        arm.close()


def test_spoiled_answers_cost_cycles_and_never_make_a_state(arm, device):
    arm.arm()
    device.do("trouble", flip=0.02, cut=0.01)
    whole = 0
    for _ in range(100):
        try:
            state = exchange(arm, ANGLES, soon(10))
        except (JointSilent, NoAnswer):
            continue
        whole += 1
        assert np.abs(state.position).max() < 0.6
        assert state.faults == 0
    assert 0 < whole < 100
    assert arm.counts.incomplete > 0


def test_unplugged_and_plugged_in_again_it_connects_anew_and_stays_disarmed(tmp_path):
    link = tmp_path / "arm"
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0, link=str(link)) as device:
        arm = arm_on(str(link))
        arm.connect()
        arm.arm()
        device.do("unplug")
        with pytest.raises(PortGone):
            exchange(arm, ANGLES, soon(500))
        arm.close()
        device.do("replug")
        arm.connect()
        assert arm.mode is Mode.DISARMED
        arm.close()


def test_hold_keeps_torque_and_free_takes_it(arm, device):
    arm.arm()
    follow(arm, ANGLES, 5)
    assert arm.stop()
    assert device.do("report")["torque_on"] == [True] * 6
    assert arm.stop(StopKind.FREE)
    assert device.do("report")["torque_on"] == [False] * 6
    device.do("power", on=False)
    assert not arm.stop()


def test_a_stop_is_not_confirmed_where_torque_is_gone(arm, device):
    arm.arm()
    device.do("brown-out")
    assert not arm.stop()


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


def test_load_is_measured_where_it_is_asked_for(device):
    arm = arm_on(device.port, read="effort")
    arm.connect()
    arm.arm()
    device.do("stuck", joint=0)
    state = follow(arm, ANGLES, 10)
    assert state.effort is not None
    assert np.isfinite(state.effort).all()
    assert state.effort[0] == pytest.approx(-1.91, abs=0.05)  # at its stall torque, backwards
    arm.close()
    arm = arm_on(device.port, read="all")
    arm.connect()
    assert (arm._read_whole().temperature == 30).all()
    arm.close()


def test_temperature_comes_with_every_slow_cycle(device):
    arm = arm_on(device.port, slow_every=4)
    arm.connect()
    arm.arm()
    measured = [bool(np.isfinite(exchange(arm, ANGLES, soon()).temperature).all()) for _ in range(12)]
    assert sum(measured) == 3
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
    from firmware_bridge.feetech.bus import ServoBus

    transport = SerialTransport(device.port, 1_000_000)
    transport.open()
    ServoBus(transport).write(3, register, data)
    transport.close()
    with pytest.raises(WrongJoint, match=words):
        arm_on(device.port).connect()


def test_coarse_speed_units_are_read_from_the_servo(device):
    from firmware_bridge.feetech.bus import ServoBus

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


def test_scs_joints_are_read_one_after_the_other():
    with VirtualProcess("feetech", SCS_JOINTS, gravity_nm=0.0, paced_baud=1_000_000) as device:
        arm = arm_on(device.port, SCS_JOINTS)
        assert "one read per joint" in scan_notes(device.port)[0]
        arm.connect()
        arm.arm()
        state = follow(arm, ANGLES, 150)
        assert state.position == pytest.approx(ANGLES, abs=0.06)  # weak servos, which overshoot for long
        device.do("report")
        exchange(arm, ANGLES, soon())
        busy = device.do("report")["busy"]
        assert len(busy) == 12  # goals and first read, five reads, six answers: never two at a time
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(busy))
        arm.close()


def scan_notes(port):
    transport = SerialTransport(port, 1_000_000)
    transport.open()
    notes = [servo.note for servo in scan(transport, [1])]
    transport.close()
    return notes


def test_a_joint_may_count_backwards_and_in_another_unit():
    slide = Joint("slide", "m", 0.0, 0.05, 1, "sts3215", direction=-1, zero_rad=4.0, ratio=0.02, max_effort=20.0)
    with VirtualProcess("feetech", [slide], gravity_nm=0.0) as device:
        arm = arm_on(device.port, (slide,))
        arm.connect()
        arm.arm()
        state = follow(arm, np.array([0.04], np.float32), 120)
        assert state.position[0] == pytest.approx(0.04, abs=1e-3)
        assert device.do("report")["position_rad"][0] == pytest.approx(2.0, abs=0.05)  # 4 - 0.04 / 0.02
        registers = bytes.fromhex(device.do("report")["device"]["registers"][0])
        assert registers[48:50] == (209).to_bytes(2, "little")  # 20 N x 0.02 m of 1.912 N m
        arm.close()
