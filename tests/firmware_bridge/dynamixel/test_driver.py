"""The cycles of the driver: against virtual servos in a process of their own, or in this one where that is quicker."""

from __future__ import annotations

import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Mode, exchange
from firmware_bridge.config import BusConfig
from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.answers import faults_of
from firmware_bridge.dynamixel.driver import make, scan
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    JointFault,
    JointSilent,
    NoAnswer,
    NotArmed,
)
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.dynamixel.arms import ALIKE, JOINTS, OPTIONS, WATCHDOG_S
from tests.firmware_bridge.dynamixel.wire import armed, asked, cycle, soon

# --- a process of its own ---------------------------------------------------------------------------------------------


def test_an_arm_of_two_families_moves_and_says_so():
    with VirtualProcess("dynamixel", JOINTS, options=OPTIONS, gravity_nm=0.0) as process:
        arm = make(BusConfig("main", process.port, 1_000_000, JOINTS), 2.0, OPTIONS)  # this machine may be busy
        info = arm.connect()
        assert info.watchdog_ms == 2000
        assert [row.firmware for row in info.joints] == ["46", "46", "52", "52", "52", "52"]
        assert all(row.return_delay_s == 0.0 and row.watchdog_s == pytest.approx(2.0) for row in info.joints)
        assert "return delay set from 250 to 0" in info.joints[0].note
        arm.arm()
        for _ in range(120):
            state = cycle(arm, 0.2)
            time.sleep(0.005)
        assert state.position == pytest.approx(0.2, abs=0.05)
        assert state.faults == 0
        assert np.isnan(state.effort[:2]).all()  # XL430 measures a load, not a current
        assert np.isfinite(state.effort[2:]).all()
        assert state.temperature == pytest.approx(30.0)
        assert arm.counts.incomplete == 0
        assert arm.stop()
        arm.close()
        assert process.do("report")["device"]["fighting"] == 0


def test_silence_of_a_host_stops_the_arm_in_the_servo_itself():
    with VirtualProcess("dynamixel", ALIKE, gravity_nm=0.0) as process:
        arm = make(BusConfig("main", process.port, 1_000_000, ALIKE), WATCHDOG_S, {})
        arm.connect()
        arm.arm()
        cycle(arm, 0.0)
        time.sleep(0.25)
        state = cycle(arm, 1.0)
        assert state.faults == Fault.WATCHDOG
        assert state.mode == Mode.STOPPED
        time.sleep(0.1)
        report = process.do("report")
        assert report["device"]["watchdog"] == 6
        assert report["position_rad"] == pytest.approx([np.pi] * 6, abs=0.02)  # the goal of 1.0 was not taken
        with pytest.raises(NotArmed):
            cycle(arm, 0.5)
        arm.arm()
        assert cycle(arm, 0.0).faults == 0
        arm.close()


def test_a_bus_is_scanned():
    with VirtualProcess("dynamixel", JOINTS, options={"shadows": "9:1"}) as process:
        found = scan(SerialTransport(process.port, 1_000_000), wait_s=0.3)
    assert [servo.id for servo in found] == [1, 2, 3, 4, 5, 6, 9]
    assert found[0].model == "xl430-w250"
    assert found[3].firmware == "52"


def test_pulled_power_and_a_pulled_plug_are_named():
    with VirtualProcess("dynamixel", ALIKE) as process:
        arm = make(BusConfig("main", process.port, 1_000_000, ALIKE), WATCHDOG_S, {})
        process.do("power", on=False)
        with pytest.raises(NoAnswer, match="no servo answers"):
            arm.connect()
        process.do("power", on=True)
        process.do("trouble", silent=[4])
        with pytest.raises(JointSilent, match=r"joint_5 \(id 5\)"):
            arm.connect()


# --- cycles -----------------------------------------------------------------------------------------------------------


def test_a_cycle_is_one_write_of_goals_and_question():
    arm, wire = armed()
    wire.written.clear()
    cycle(arm, 0.0)
    (data,) = wire.written
    goals, question = codec.split(data)
    assert goals == codec.sync_write(models.GOAL_POSITION, [(i, 2048) for i in range(1, 7)])
    assert question == codec.read_all([codec.Block(i, 224, 13) for i in range(1, 7)], fast=True)


def test_bad_setpoints_never_reach_the_wire():
    arm, wire = armed()
    wire.written.clear()
    for bad in (np.nan, np.inf, 1.3):
        with pytest.raises(BadSetpoint):
            arm.send(np.array([0, 0, bad, 0, 0, 0], np.float32), soon())
    assert arm.send(np.zeros(6, np.float32), time.monotonic_ns() - 1) == 0
    assert wire.written == []
    assert arm.counts.late == 1


def test_the_ends_of_the_range_can_be_commanded():
    """float32 of a limit may lie a rounding error outside the float64 limit."""
    arm, _ = armed()
    for value in (1.2, -1.2):
        arm.send(np.full(6, value, np.float32), soon())


def test_direction_and_zero_turn_counts_into_channels():
    arm, wire = armed(JOINTS, OPTIONS)
    for _ in range(100):
        wire.later(0.01)
        state = cycle(arm, 0.5)
    assert state.position == pytest.approx(0.5, abs=0.02)
    assert wire.device.servos[3].get(models.GOAL_POSITION) == 2048 - round(0.5 / models.RAD_PER_COUNT)


@pytest.mark.parametrize("fast", [True, False])
def test_a_silent_joint_is_named_and_no_state_is_made(fast):
    arm, wire = armed(options={"fast": fast})
    wire.silent = {4, 5} if fast else {4}
    states = arm.counts.replies
    with pytest.raises(JointSilent, match="joint_5") as error:
        cycle(arm)
    assert "joint_4" not in str(error.value)
    assert arm.counts.replies == states
    wire.silent = set()
    assert cycle(arm).faults == 0


def test_an_answer_to_the_last_question_is_not_taken_for_one_to_this():
    """The bus has no sequence numbers: after an unanswered cycle the next question has another length."""
    arm, wire = armed(options={"fast": False})
    arm.send(np.zeros(6, np.float32), soon())
    assert arm.poll() is not None
    wire.late = 2
    arm.send(np.zeros(6, np.float32), soon())
    assert arm.poll() is None
    arm.send(np.zeros(6, np.float32), soon())  # now come the answers to the question before
    assert arm.poll() is None
    assert arm.counts.foreign == 6
    state = cycle(arm, 0.0)
    assert state.last_seq == arm.last_asked
    assert arm.counts.incomplete == 2


def test_an_echoing_adapter_costs_nothing_but_a_count():
    arm, wire = armed()
    before = arm.counts.foreign
    wire.held = codec.read_all([codec.Block(i, 224, 13) for i in range(1, 7)], fast=True)
    arm._open_cycle(time.monotonic_ns())
    assert arm.poll() is None
    assert arm.counts.foreign == before + 1
    assert cycle(arm).faults == 0


def test_foreign_servos_and_noise_are_counted():
    arm, wire = armed()
    wire.held = codec.status(77, 0, bytes(13)) + b"noise on the line"
    arm.poll()
    assert arm.counts.foreign == 2


def test_a_hardware_error_stops_every_joint_and_has_its_sentence():
    arm, wire = armed()
    wire.device.fault(2, "overload")
    state = cycle(arm)
    assert state.faults == Fault.OVERLOAD
    assert state.joint_faults == (0, 0, 0x20, 0, 0, 0)
    assert state.mode == Mode.STOPPED
    with pytest.raises(NotArmed):
        cycle(arm)
    with pytest.raises(ArmRefused, match=r"overload(.|\n)*reboot"):
        arm.arm()
    arm.reboot(2)
    arm.arm()
    assert cycle(arm).faults == 0


@pytest.mark.parametrize("read", ["motion", "position"])
def test_shorter_reads_see_the_alert_bit(read):
    arm, wire = armed(options={"read": read})
    wire.device.fault(2, "overheat")
    state = cycle(arm)
    assert state.faults == Fault.OTHER
    assert state.joint_faults[2] == codec.ALERT


def test_every_hardware_error_is_a_fault():
    assert faults_of(0) == Fault.NONE
    assert faults_of(0x01 | 0x04) == Fault.VOLTAGE | Fault.OVERHEAT
    assert faults_of(0x10) == Fault.OTHER
    assert faults_of(0x40) == Fault.OTHER


def test_a_servo_that_restarts_ends_motion_at_once():
    arm, wire = armed()
    wire.device.servos[1].boot()
    with pytest.raises(JointFault, match=r"joint_2 on wire(.|\n)*has restarted"):
        cycle(arm)  # its indirect data shows zeros: no state is made of them
    with pytest.raises(NotArmed):
        cycle(arm)
    state = asked(arm)
    assert state.faults == Fault.RESET
    assert state.position == pytest.approx(0.0, abs=0.03)
    assert state.mode == Mode.STOPPED
    assert not wire.device.servos[1].torque_on
    assert not arm.stop()  # it has no torque: not everything holds
    arm.arm()
    assert cycle(arm).faults == 0


def test_the_watchdog_is_seen_in_the_next_state_and_only_arming_clears_it():
    arm, wire = armed()
    wire.later(0.2)
    assert cycle(arm, 1.0).faults == Fault.WATCHDOG
    arm.request_state()
    state = arm.poll()
    assert state.faults == Fault.WATCHDOG
    assert state.position == pytest.approx(0.0, abs=0.02)
    arm.arm()
    assert cycle(arm, 0.0).faults == 0


@pytest.mark.parametrize("read", ["motion", "position"])
def test_shorter_reads_tell_the_watchdog_by_the_host_s_clock(read):
    arm, _ = armed(options={"read": read})
    time.sleep(0.12)
    assert cycle(arm).faults == Fault.WATCHDOG
    arm.arm()
    assert arm.mode is Mode.ARMED


def test_commands_that_expire_after_a_missing_answer_leave_the_next_question_another_length():
    """An answer to the old question that comes late cannot pass for one to the new question."""
    arm, wire = armed()
    wire.silent = {2}
    arm.send(arm.held, soon())
    for _ in range(2):
        assert arm.send(arm.held, 0) == 0
    asked(arm)
    assert arm._questions.index(wire.written[-1]) == 1


def test_torque_that_somebody_else_switched_off_ends_motion_without_a_watchdog_too():
    arm, wire = armed(watchdog_s=None)
    wire.device.servos[1].set(models.TORQUE, 0)
    with pytest.raises(JointFault, match="joint_2"):
        cycle_shortly(arm)
    with pytest.raises(NotArmed):
        arm.send(arm.held, soon())


def cycle_shortly(arm):
    return exchange(arm, arm.held, time.monotonic_ns() + 50_000_000)
