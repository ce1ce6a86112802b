"""One arm over two CAN buses, each a process of virtual Damiao motors: one cycle, one state, one stop."""

import time
from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge import bus_arm
from firmware_bridge.arm import Fault, Mode, StopKind, exchange
from firmware_bridge.config import ArmConfig, BusConfig
from firmware_bridge.damiao import access, driver
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    BridgeError,
    BusOff,
    Expired,
    JointSilent,
    NotArmed,
    PortGone,
    WrongJoint,
)
from firmware_bridge.group import SILENT_CYCLES, ArmGroup
from firmware_bridge.protocols import open_arm
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.damiao.arms import JOINTS

LEFT, RIGHT = JOINTS[:4], tuple(replace(joint, name=f"right_{joint.name}") for joint in JOINTS[:3])
LEFT_AT, RIGHT_AT = (0, 2, 4, 6), (1, 3, 5)  # the channels of the arm go to and fro between the buses
N = 7
CYCLE_NS = 1_000_000_000


def config(left, right, watchdog_s=2.0, left_joints=LEFT):
    buses = (
        BusConfig("left", left.port, 1_000_000, left_joints, 5_000_000, LEFT_AT),
        BusConfig("right", right.port, 1_000_000, RIGHT, 5_000_000, RIGHT_AT),
    )
    return ArmConfig("damiao", buses, watchdog_s)


@pytest.fixture
def patient(monkeypatch):
    """A busy test machine must not look like a silent bus."""
    for where in (driver, access, bus_arm):
        monkeypatch.setattr(where, "FIRST_READ_S", 0.5)


@pytest.fixture
def buses():
    with VirtualProcess("damiao", LEFT) as left, VirtualProcess("damiao", RIGHT) as right:
        yield left, right


@pytest.fixture
def arm(buses, patient):
    opened = open_arm(config(*buses))
    opened.connect()
    yield opened
    opened.stop(StopKind.FREE)
    opened.close()


def cycle(arm, setpoint=None):
    return exchange(arm, arm.held if setpoint is None else setpoint, time.monotonic_ns() + CYCLE_NS)


def commands(bus):
    return bus.do("report")["device"]["commands"]


def torque(bus):
    return bus.do("report")["torque_on"]


def timeouts(bus):
    return set(bus.do("report")["device"]["timeout"])


def holds_without_host(bus):
    return all(torque(bus)) and timeouts(bus) == {0}


def test_connecting_names_both_buses_and_lists_joints_in_the_arms_order(arm, buses):
    assert isinstance(arm, ArmGroup)
    info = arm.connect()
    assert info.port == f"left={buses[0].port},right={buses[1].port}"
    assert [joint.name for joint in info.joints] == [
        "joint_1", "right_joint_1", "joint_2", "right_joint_2", "joint_3", "right_joint_3", "joint_4",
    ]  # fmt: skip
    assert info.channels == N
    assert info.watchdog_ms == 2000
    assert arm.mode is Mode.DISARMED


def test_each_setpoint_reaches_its_joint_and_each_state_its_channel(arm, buses):
    arm.arm()
    goal = arm.held + np.linspace(0.05, 0.11, N, dtype=np.float32)
    for _ in range(100):
        state = cycle(arm, goal)
    assert np.allclose(state.position, goal, atol=0.03)
    left, right = (bus.do("report")["position_rad"] for bus in buses)
    assert np.allclose(left, goal[list(LEFT_AT)], atol=0.03)
    assert np.allclose(right, goal[list(RIGHT_AT)], atol=0.03)
    assert state.last_seq == arm.last_asked
    assert state.mode is Mode.ARMED
    assert len(state.joint_faults) == N


def test_a_state_is_as_old_as_its_oldest_part(arm):
    arm.arm()
    before_ns = time.monotonic_ns()
    written_ns = arm.send(arm.held, before_ns + CYCLE_NS)
    while (state := arm.poll()) is None:
        assert arm.wait_readable(before_ns + CYCLE_NS)
    stamps = [part._asked_ns for part in arm.parts]
    assert stamps[0] < stamps[1]
    assert before_ns <= state.stamp_ns == stamps[0] < written_ns


def test_answers_that_were_not_read_in_their_cycle_do_not_pass_for_the_next_ones(arm, buses):
    arm.request_state()
    time.sleep(0.2)  # they arrive and nobody polls
    for bus in buses:
        bus.do("power", on=False)  # the next question is not answered
    arm.request_state()
    assert arm.poll().last_seq == arm.last_asked - 1


def test_counts_are_those_of_both(arm):
    arm.arm()
    before = arm.counts.sent
    cycle(arm)
    assert arm.counts.sent == before + 2
    assert arm.counts.replies == sum(part.counts.replies for part in arm.parts)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 9.0])
@pytest.mark.parametrize("channel", [0, 5])
def test_a_bad_value_for_one_bus_puts_no_byte_on_the_other(arm, buses, bad, channel):
    arm.arm()
    setpoint = arm.held.copy()
    setpoint[channel] = bad
    before = commands(buses[0]), commands(buses[1])
    with pytest.raises(BadSetpoint, match=r"bus (left|right)"):
        arm.send(setpoint, time.monotonic_ns() + CYCLE_NS)
    time.sleep(0.02)
    assert (commands(buses[0]), commands(buses[1])) == before
    assert arm.mode is Mode.ARMED
    assert cycle(arm).faults == 0


@pytest.mark.parametrize("setpoint", [np.zeros(6, np.float32), np.zeros(N), [0.0] * N])
def test_a_setpoint_of_another_shape_is_refused(arm, setpoint):
    arm.arm()
    with pytest.raises(BadSetpoint, match=r"float32 \(7,\)"):
        arm.send(setpoint, time.monotonic_ns() + CYCLE_NS)


def test_an_expired_command_reaches_neither_bus(arm, buses):
    arm.arm()
    before = commands(buses[0]), commands(buses[1])
    with pytest.raises(Expired):
        exchange(arm, arm.held, time.monotonic_ns() - 1)
    assert (commands(buses[0]), commands(buses[1])) == before


def test_a_deadline_between_two_buses_makes_no_state_of_old_answers(arm, monkeypatch):
    arm.arm()
    cycle(arm)
    monkeypatch.setattr(arm.parts[1], "write", lambda frames, expiry_ns: 0)  # expired just before the second
    assert arm.send(arm.held, time.monotonic_ns() + CYCLE_NS) == 0
    deadline_ns = time.monotonic_ns() + 20_000_000
    while arm.wait_readable(deadline_ns) and time.monotonic_ns() < deadline_ns:
        assert arm.poll() is None
    monkeypatch.undo()
    assert cycle(arm).last_seq == arm.last_asked


def test_both_buses_are_busy_at_the_same_time(patient):
    # 1 Mbit, CAN 2.0: 111 us a frame, 4 + 4 and 3 + 3 frames a cycle
    with (
        VirtualProcess("damiao", LEFT, paced_baud=1_000_000) as left,
        VirtualProcess("damiao", RIGHT, paced_baud=1_000_000) as right,
    ):
        slow = config(left, right)
        arm = open_arm(replace(slow, buses=tuple(replace(bus, data_baud=None) for bus in slow.buses)))
        arm.connect()
        arm.arm()
        cycle(arm)
        left.do("report"), right.do("report")  # what was busy until here
        shared_ns = []
        for _ in range(30):
            cycle(arm)
            mine, theirs = (bus.do("report")["busy"] for bus in (left, right))
            assert (len(mine), len(theirs)) == (8, 6)
            shared_ns.append(overlap_ns(mine, theirs))
        arm.stop(StopKind.FREE)
        arm.close()
        # one after the other it would be nothing in any cycle; a busy machine spoils some
        assert max(shared_ns) > 111_000


def overlap_ns(ones, others):
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in ones for b in others)


def test_a_fault_on_one_bus_stops_both_holding(arm, buses):
    arm.arm()
    cycle(arm)
    buses[1].do("fault", joint=1, name="overheat")
    state = cycle(arm)
    assert state.faults == Fault.OVERHEAT
    assert state.joint_faults[3] > 0
    assert state.mode is Mode.STOPPED
    assert arm.mode is Mode.STOPPED
    with pytest.raises(NotArmed, match="bus left"):
        cycle(arm)
    assert holds_without_host(buses[0])
    arm.arm()
    assert cycle(arm).faults == 0
    assert timeouts(buses[0]) == timeouts(buses[1]) == {40_000}


def test_bus_off_on_one_stops_both_and_is_named(arm, buses):
    arm.arm()
    cycle(arm)
    buses[1].do("bus-off")
    time.sleep(0.05)  # the controller's error frame is there
    with pytest.raises(BusOff, match="bus right"):
        cycle(arm)
    assert holds_without_host(buses[0])
    with pytest.raises(NotArmed):
        cycle(arm)


def test_an_unplugged_bus_stops_both_and_replugging_needs_arming(arm, buses):
    arm.arm()
    cycle(arm)
    buses[0].do("unplug")
    with pytest.raises(PortGone, match="bus left"):
        cycle(arm)
    assert holds_without_host(buses[1])
    buses[0].do("replug")
    arm.close()
    arm.connect()
    with pytest.raises(NotArmed):
        cycle(arm)
    arm.arm()
    assert cycle(arm).faults == 0
    assert timeouts(buses[0]) == timeouts(buses[1]) == {40_000}


def test_one_silent_cycle_names_the_bus_and_some_in_a_row_stop_both(arm, buses):
    arm.arm()
    cycle(arm)
    buses[1].do("trouble", silent=[2])
    deadline = 20_000_000
    for _ in range(SILENT_CYCLES):
        with pytest.raises(JointSilent, match=r"bus right(.|\n)*right_joint_3"):
            exchange(arm, arm.held, time.monotonic_ns() + deadline)
        assert arm.mode is Mode.ARMED
    with pytest.raises(JointSilent, match="bus right"):
        exchange(arm, arm.held, time.monotonic_ns() + deadline)
    assert arm.mode is Mode.STOPPED
    assert holds_without_host(buses[0])


def test_one_lost_answer_is_no_fault(arm, buses):
    arm.arm()
    buses[1].do("trouble", silent=[2])
    with pytest.raises(JointSilent):
        exchange(arm, arm.held, time.monotonic_ns() + 20_000_000)
    buses[1].do("trouble")
    time.sleep(2 * bus_arm.LATE_S)  # until then its answer could be the one that was missing
    assert cycle(arm).faults == 0
    assert arm.mode is Mode.ARMED


def test_answers_that_may_be_of_an_earlier_question_are_told_with_the_age_that_is_sure(arm, buses, monkeypatch):
    monkeypatch.setattr(bus_arm, "LATE_S", 60.0)
    arm.arm()
    buses[1].do("trouble", silent=[2])
    with pytest.raises(JointSilent):
        exchange(arm, arm.held, time.monotonic_ns() + 20_000_000)
    buses[1].do("trouble")
    state = exchange(arm, arm.held, time.monotonic_ns() + 300_000_000)
    assert state.stamp_ns < min(part._asked_ns for part in arm.parts)


def test_a_stopped_part_stops_the_other(arm, buses):
    arm.arm()
    cycle(arm)
    arm.parts[1].stop()
    with pytest.raises(NotArmed, match="bus right"):
        cycle(arm)
    assert arm.mode is Mode.STOPPED
    assert holds_without_host(buses[0])


def test_a_stop_and_disarming_reach_both(arm, buses):
    arm.arm()
    cycle(arm)
    assert arm.stop()
    assert holds_without_host(buses[0])
    assert holds_without_host(buses[1])
    arm.disarm()
    assert not any(torque(buses[0]) + torque(buses[1]))
    assert arm.mode is Mode.DISARMED


def test_a_stop_that_one_bus_does_not_confirm_is_told_so(arm, buses):
    arm.arm()
    buses[0].do("power", on=False)
    assert not arm.stop()
    assert holds_without_host(buses[1])
    buses[0].do("power", on=True)


def test_a_bus_that_does_not_arm_leaves_none_armed(arm, buses):
    buses[1].do("power", on=False)
    with pytest.raises(BridgeError, match="bus right"):
        arm.arm()
    assert arm.mode is not Mode.ARMED
    with pytest.raises(NotArmed):
        cycle(arm)
    buses[1].do("power", on=True)


def test_a_bus_that_is_refused_leaves_no_torque_on_the_other(buses, patient):
    narrow = replace(LEFT[0], minimum=0.9)  # it stands at 0
    arm = open_arm(config(*buses, left_joints=(narrow, *LEFT[1:])))
    arm.connect()
    with pytest.raises(ArmRefused, match=r"bus left: (.*\n)*no bus was armed"):
        arm.arm()
    assert torque(buses[0]) + torque(buses[1]) == [False] * N
    arm.close()


def refuse_left(arm, monkeypatch):
    """The left bus enables, and is refused then, when the right one holds."""
    left, enable = arm.parts[0], arm.parts[0]._enable

    def refused():
        enable()
        while arm.parts[1].mode is not Mode.ARMED:
            time.sleep(0.001)
        raise ArmRefused("a watchdog that does not take")

    monkeypatch.setattr(left, "_enable", refused)


def test_a_bus_that_is_refused_after_the_other_was_enabled_takes_its_torque_back(arm, buses, monkeypatch):
    refuse_left(arm, monkeypatch)
    with pytest.raises(ArmRefused, match="bus left: a watchdog that does not take\\nno bus is armed: torque is off"):
        arm.arm()
    assert torque(buses[0]) + torque(buses[1]) == [False] * N
    with pytest.raises(NotArmed):
        cycle(arm)


def test_what_held_before_a_refused_arming_holds_after_it(arm, buses, monkeypatch):
    arm.arm()
    arm.stop()
    arm.parts[0].disarm()
    refuse_left(arm, monkeypatch)
    with pytest.raises(ArmRefused, match="torque is off again wherever it was off"):
        arm.arm()
    assert not any(torque(buses[0]))
    assert holds_without_host(buses[1])


def test_joints_whose_torque_could_not_be_taken_back_are_named(arm, buses, monkeypatch):
    refuse_left(arm, monkeypatch)
    disable = arm.parts[1]._disable
    monkeypatch.setattr(arm.parts[1], "_disable", lambda: False)
    with pytest.raises(ArmRefused, match="may have stayed on at right_joint_1, right_joint_2, right_joint_3: use"):
        arm.arm()
    assert torque(buses[0]) == [False] * len(LEFT)
    disable()


def test_a_bus_that_does_not_connect_closes_the_other():
    with (
        VirtualProcess("damiao", LEFT) as left,
        VirtualProcess("damiao", RIGHT, options={"flash": {0: {21: 3.0}}}) as right,
    ):
        arm = open_arm(config(left, right))
        with pytest.raises(WrongJoint, match="bus right"):
            arm.connect()
        assert arm.parts[0].transport.fileno() == -1


def test_closing_an_armed_arm_holds_on_both(buses):
    arm = open_arm(config(*buses))
    arm.connect()
    arm.arm()
    cycle(arm)
    arm.close()
    arm.close()
    assert holds_without_host(buses[0])
    assert holds_without_host(buses[1])


def test_transports_without_a_descriptor_are_waited_for_in_turn(arm):
    arm.arm()
    arm._poll = None
    assert cycle(arm).faults == 0
    assert not arm.wait_readable(time.monotonic_ns() + 2_000_000)


def test_channels_must_be_those_of_the_arm(buses):
    whole = config(*buses)
    twice = (whole.buses[0], replace(whole.buses[1], channels=(0, 1, 2)))
    with pytest.raises(BridgeError, match="each once"):
        open_arm(replace(whole, buses=twice))


def test_without_an_index_the_channels_follow_the_buses(buses):
    whole = config(*buses)
    arm = open_arm(replace(whole, buses=tuple(replace(bus, channels=None) for bus in whole.buses)))
    assert [joint.name for joint in arm.connect().joints][3:5] == ["joint_4", "right_joint_1"]
    arm.close()


def test_a_protocol_on_one_line_refuses_two():
    pan = replace(JOINTS[0], name="pan")
    two = tuple(BusConfig(name, "/nowhere", 921_600, (replace(pan, name=name),)) for name in ("a", "b"))
    with pytest.raises(BridgeError, match="one bus"):
        open_arm(ArmConfig("edgelink", two, 0.1))
