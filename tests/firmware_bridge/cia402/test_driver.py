"""The driver against virtual drives in a process of their own."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Mode, StopKind, exchange
from firmware_bridge.cia402 import codec, config, sentences
from firmware_bridge.cia402.driver import Cia402Arm, make, scan
from firmware_bridge.cia402.objects import EDS
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
    WrongJoint,
)
from firmware_bridge.transport.socket_can import SocketCan
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.cia402.arms import JOINTS, OPTIONS, WATCHDOG_S

CYCLE_NS = 100_000_000
HOLDING = "OPERATION_ENABLED"


@pytest.fixture
def device():
    with VirtualProcess("cia402", JOINTS) as process:
        yield process


def driver(device, joints=JOINTS, watchdog_s=WATCHDOG_S, **options):
    return Cia402Arm(SocketCan(device.port), joints, watchdog_s, {**OPTIONS, **options})


@pytest.fixture
def arm(device):
    driven = driver(device)
    yield driven
    driven.close()


def settled(device):
    """Commands taken, once those under way have arrived."""
    seen = -1
    while (now := device.do("report")["device"]["commands"]) != seen:
        seen = now
        time.sleep(0.02)
    return seen


def cycle(arm, setpoint):
    return exchange(arm, np.asarray(setpoint, np.float32), time.monotonic_ns() + CYCLE_NS)


def cycles_until(arm, setpoint, wanted, seconds=2.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = cycle(arm, setpoint)
        if wanted(state):
            return state
    raise AssertionError(f"not within {seconds} s: {state}")


def states(device):
    return set(device.do("report")["device"]["states"])


def test_connecting_identifies_every_drive_and_reads_its_watchdog_back(device, arm):
    info = arm.connect()
    assert {row.model for row in info.joints} == {"edgevla virtual drive 00000000:00000402"}
    assert info.watchdog_ms == 300
    assert info.joints[0].note == ""
    assert states(device) == {"SWITCH_ON_DISABLED"}  # no torque


def test_connecting_leaves_no_thread_behind(arm):
    before = threading.active_count()
    arm.connect()
    assert threading.active_count() == before


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
    with pytest.raises(NoAnswer):  # pre-operational after their boot: no process data
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


def test_wrong_node_id_is_a_silent_joint(device):
    joints = (*JOINTS[:5], dataclasses.replace(JOINTS[5], id=9))
    with pytest.raises(JointSilent, match="node 9"):
        driver(device, joints).connect()


def test_other_drive_than_the_profile_says_is_refused(device):
    joints = (dataclasses.replace(JOINTS[0], model="000000FB:61500000"), *JOINTS[1:])
    with pytest.raises(WrongJoint, match="00000000:00000402"):
        driver(device, joints).connect()


def test_named_drive_is_accepted(device):
    joints = tuple(dataclasses.replace(joint, model="00000000:00000402") for joint in JOINTS)
    arm = driver(device, joints)
    arm.connect()
    arm.close()


def test_limits_of_the_profile_are_written_into_the_drives(device):
    joints = tuple(dataclasses.replace(joint, max_effort=2.0) for joint in JOINTS)
    arm = driver(device, joints, following_error_rad=0.5)
    arm.connect()  # which reads each back
    drive = arm._drives[0]
    assert drive.read(0x6072) == 1000  # 2 N m at ratio 0.5 is 1 N m of 1 N m rated
    assert drive.read(0x6065) == round(0.5 * 65536 / (2 * np.pi))
    assert drive.read(0x607D, 1) == codec.counts(JOINTS[0].device_range_rad[0], arm._counts_per_rad[0])
    arm.close()


def test_absent_object_is_explained(device, arm):
    arm.connect()
    with pytest.raises(WrongJoint, match=r"5FFF:00[\s\S]*option `eds`"):
        arm._drives[0].read(0x5FFF)


def test_other_masters_sync_is_refused(device):
    other = SocketCan(device.port)
    other.open()
    end = threading.Event()

    def chatter():
        while not end.wait(0.002):
            other.write([codec.SYNC])

    thread = threading.Thread(target=chatter)
    thread.start()
    try:
        with pytest.raises(WrongJoint, match="nobody here asked for"):
            driver(device).connect()
    finally:
        end.set()
        thread.join()
        other.close()


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


@pytest.mark.parametrize(
    "options",
    [{"baud": 1}, {"motion": 1}, {"host_node": 0}, {"cycle_s": 0.5}, {"fault_reaction": 9}, {"counts_per_turn": 0.0}],
)
def test_unknown_option_kind_or_range_is_an_error(options):
    with pytest.raises(BridgeError, match="option"):
        make(BusConfig("main", "/nowhere", 1_000_000, JOINTS), 0.1, options)


def test_file_that_is_no_eds_is_refused(device, tmp_path):
    (tmp_path / "drive.eds").write_text("nothing")
    with pytest.raises(BridgeError, match="EDS"):
        driver(device, eds=str(tmp_path / "drive.eds")).connect()
    arm = driver(device, eds=str(EDS))
    arm.connect()
    arm.close()


@pytest.mark.parametrize(
    ("cycle_s", "pair"),
    [(0.01, (100, -4)), (0.001, (100, -5)), (0.002, (200, -5)), (0.033, (33, -3)), (0.0125, (125, -4))],
)
def test_interpolation_period_is_the_finest_that_fits(cycle_s, pair):
    assert config.period(cycle_s) == pair


def test_period_that_no_pair_expresses_is_refused():
    with pytest.raises(BridgeError, match="cycle_s"):
        config.period(1e-9)


def test_scan_finds_every_drive(device):
    transport = SocketCan(device.port)
    transport.open()
    found = scan(transport, 0.03)
    transport.close()
    assert [(row.id, row.model, row.note) for row in found] == [(i, "00000000:00000402", "") for i in range(1, 7)]
