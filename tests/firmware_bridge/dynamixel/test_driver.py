"""The driver against virtual servos: in a process of their own behind a pty, or in this one where that is quicker."""

from __future__ import annotations

import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Joint, Mode, StopKind, exchange
from firmware_bridge.config import BusConfig
from firmware_bridge.dynamixel import codec, models, setup, virtual
from firmware_bridge.dynamixel.answers import READS, faults_of
from firmware_bridge.dynamixel.driver import DynamixelArm, make, scan
from firmware_bridge.dynamixel.options import parse
from firmware_bridge.errors import (
    ArmRefused,
    BadSetpoint,
    BridgeError,
    JointFault,
    JointSilent,
    NoAnswer,
    NotArmed,
    WatchdogMismatch,
    WrongJoint,
)
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.__main__ import plant_of
from firmware_bridge.virtual.client import VirtualProcess
from tests.firmware_bridge.dynamixel.arms import ALIKE, JOINTS, OPTIONS, SHADOW_OPTIONS, SHADOWED, WATCHDOG_S


class Wire:
    """A transport that is the device: what is written is answered at once. `silent`: servos whose answers are lost."""

    name = "wire"

    def __init__(self, device):
        self.device, self.written, self.held = device, [], b""
        self.silent: set[int] = set()
        self.late = 0  # answers to that many writes come one write later
        self._late = b""
        self.clock_us = 0  # the device's own: a machine that stalls does not wake its watchdogs

    def now_us(self):
        return self.clock_us

    def open(self):
        pass

    def close(self):
        pass

    def write(self, data):
        self.written.append(data)
        self.clock_us += 200
        self.device.tick(self.now_us())
        self.held, self._late = self.held + self._late, b""
        answers = b"".join(r.data for r in self.device.feed(data, self.now_us()) if r.joint not in self.silent)
        if self.late:
            self.late, self._late = self.late - 1, answers
        else:
            self.held += answers
        self.device.tick(self.now_us())

    def read(self):
        data, self.held = self.held, b""
        return data

    def wait_readable(self, deadline_ns):
        return bool(self.held)

    def later(self, seconds):
        self.clock_us += int(seconds * 1e6)
        self.device.tick(self.now_us())


def wired(joints=ALIKE, options=(), device_options=None, watchdog_s=WATCHDOG_S, gravity=0.0):
    options = dict(options)
    asked = {**{k: v for k, v in options.items() if k in ("shadows", "reverse")}, **(device_options or {})}
    wire = Wire(virtual.make(joints, plant_of(list(joints), gravity), asked))
    return DynamixelArm(wire, joints, watchdog_s, parse(options, joints)), wire


def armed(*args, **more):
    arm, wire = wired(*args, **more)
    arm.connect()
    arm.arm()
    return arm, wire


def cycle(arm, value=0.1):
    return exchange(arm, np.full(len(arm.joints), value, np.float32), soon())


def asked(arm):
    arm.request_state()
    return arm.poll()


def soon():
    return time.monotonic_ns() + 3 * 10**9


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


# --- connect ----------------------------------------------------------------------------------------------------------


def test_another_model_is_refused():
    arm, _ = wired(ALIKE)
    other = (*ALIKE[:5], Joint("joint_6", "rad", -1.2, 1.2, 6, "xm540-w150", zero_rad=np.pi))
    arm.transport.device = virtual.make(other, plant_of(list(other), 0.0), {})
    with pytest.raises(WrongJoint, match="xm540-w150"):
        arm.connect()


def test_firmware_without_a_watchdog_is_refused():
    arm, _ = wired(device_options={"firmware": 37})
    with pytest.raises(WatchdogMismatch, match="firmware 37"):
        arm.connect()


def test_it_may_be_done_without_a_watchdog_where_the_profile_says_so():
    arm, wire = armed(device_options={"firmware": 37}, watchdog_s=None)
    assert cycle(arm).faults == 0
    wire.later(1.0)
    assert cycle(arm).faults == 0
    wire.device.power(False, wire.now_us())
    wire.device.power(True, wire.now_us())
    with pytest.raises(JointFault, match="has restarted"):
        cycle(arm)
    assert asked(arm).faults == Fault.RESET


@pytest.mark.parametrize("watchdog_s", [0.03, 0.01, 3.0])
def test_a_watchdog_that_the_servo_cannot_have_is_refused(watchdog_s):
    with pytest.raises(WatchdogMismatch, match="multiple of 20 ms"):
        wired(watchdog_s=watchdog_s)


def test_fast_reads_need_the_firmware_of_every_servo():
    arm, _ = wired(device_options={"firmware": 46})
    arm.connect()
    assert arm.fast
    arm, _ = wired(device_options={"firmware": 44})
    arm.connect()
    assert not arm.fast
    arm, _ = wired(options={"fast": False})
    arm.connect()
    assert not arm.fast


def test_every_kind_of_question_brings_a_whole_state():
    for joints in (ALIKE, JOINTS):
        for fast in (True, False):
            for read in READS:
                arm, wire = armed(joints, {"fast": fast, "read": read})
                state = cycle(arm, 0.0)
                assert state.position == pytest.approx(0.0, abs=0.01)
                assert np.isnan(state.temperature).all() == (read != "full")
                asked = wire.written[-1]
                bulk = joints is JOINTS and read == "full"  # indirect data lies elsewhere in the two families
                length = READS[read].lengths[0]
                answered = b"".join(r.data for r in wire.device.feed(asked, wire.now_us()))
                assert len(asked) + len(answered) == codec.cycle_bytes(6, length, fast, bulk)
                assert arm.counts.foreign == 0


def test_old_x330_and_x430_show_their_indirect_data_at_one_place():
    arm, _ = wired(JOINTS, device_options={"firmware": 46})
    arm.connect()
    assert arm._questions[0][7] == codec.FAST_SYNC_READ
    arm, _ = wired(JOINTS)
    arm.connect()
    assert arm._questions[0][7] == codec.FAST_BULK_READ


def test_eeprom_is_written_only_where_it_differs():
    arm, wire = wired()
    assert "set from" in arm.connect().joints[0].note
    wire.written.clear()
    assert "set from" not in arm.connect().joints[0].note
    addresses = {unit[8] for data in wire.written for unit in codec.split(data) if unit[7] == codec.WRITE}
    assert min(addresses) >= models.EEPROM_END


def test_eeprom_is_not_touched_under_torque():
    """A servo that holds an arm is not switched off to be set up: the arm would fall."""
    arm, wire = wired(device_options={"registers": "3.60=1"})
    for servo in wire.device.servos:
        servo.boot()
    with pytest.raises(WrongJoint, match=r"return delay of joint_3 \(id 3\)(.|\n)*torque is on"):
        arm.connect()
    assert wire.device.servos[2].torque_on


def test_a_servo_that_would_switch_itself_on_is_told_not_to():
    """Torque On by Goal Update (drive mode, bit 3) and Startup Torque On (register 60): nothing arms but arm()."""
    arm, wire = wired(device_options={"registers": "2.10=8, 4.60=2"})
    arm.connect()
    assert wire.device.servos[1].get(models.DRIVE_MODE) == 0
    assert wire.device.servos[3].get(models.STARTUP) == 0
    assert not wire.device.plant.torque_on.any()


def test_position_limits_narrower_than_the_profile_are_refused():
    """A servo ignores a goal outside its limits without a word in a sync write."""
    arm, _ = wired(device_options={"registers": "2.48=2100"})
    with pytest.raises(WrongJoint, match="position limits of joint_2"):
        arm.connect()


def test_a_homing_offset_beyond_mode_3_asks_for_mode_4():
    arm, wire = wired(device_options={"registers": "2.20=3000"})
    assert "extended position mode" in arm.connect().joints[1].note
    assert wire.device.servos[1].get(models.OPERATING_MODE) == models.EXTENDED_POSITION
    assert wire.device.servos[0].get(models.OPERATING_MODE) == models.POSITION


def test_servos_that_answer_nothing_but_a_ping_are_told_to_answer():
    arm, wire = wired()
    for level, servo in zip((0, 1), wire.device.servos, strict=False):
        servo.set(models.STATUS_RETURN, level)
    arm.connect()
    assert all(servo.get(models.STATUS_RETURN) == 2 for servo in wire.device.servos)


def test_a_gripper_s_effort_limit_reaches_its_current_limit():
    arm, wire = armed(JOINTS, OPTIONS)
    gripper = wire.device.servos[5]
    assert gripper.get(models.OPERATING_MODE) == models.CURRENT_BASED_POSITION
    assert gripper.get(models.GOAL_CURRENT) == 848  # 0.3 N m / (0.52 / 1.47 N m/A), 1 mA units
    assert gripper.limit_nm <= 0.3
    wire.device.plant.stuck[5] = True
    for _ in range(50):
        wire.later(0.01)
        state = cycle(arm, 1.0)
    assert state.effort[5] == pytest.approx(0.3, abs=0.002)
    assert state.faults == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speed": 3}, "one of read, fast"),
        ({"fast": 1}, "bool"),
        ({"read": "all"}, "full, motion, position"),
        ({"return_delay_us": 3}, "even number"),
        ({"return_delay_us": 600}, "0..508"),
        ({"profile_velocity_rad_s": -1.0}, "0..100"),
        ({"reverse": "nose"}, "nose"),
        ({"shadows": "x"}, "SHADOW:LEADER"),
        ({"shadows": "3:1"}, "ids of their own"),
        ({"shadows": "9:8"}, "ids of their own"),
        ({"shadows": "254:1"}, "0..252"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said):
    with pytest.raises(BridgeError, match=said):
        make(BusConfig("main", "/dev/null", 1_000_000, ALIKE), WATCHDOG_S, options)


def test_a_joint_without_current_sensor_cannot_limit_its_current():
    with pytest.raises(BridgeError, match="xl430-w250 does not"):
        make(BusConfig("main", "/dev/null", 1_000_000, JOINTS), WATCHDOG_S, {"current_based": "shoulder_pan"})


def test_an_unknown_model_is_refused():
    joints = (Joint("a", "rad", -1, 1, 1, "xl320"),)
    with pytest.raises(BridgeError, match="xl320"):
        make(BusConfig("main", "/dev/null", 1_000_000, joints), WATCHDOG_S, {})


def test_the_profile_generator_is_set_in_its_own_units():
    _, wire = armed(options={"profile_velocity_rad_s": 1.0, "profile_acceleration_rad_s2": 10, "return_delay_us": 20})
    assert wire.device.servos[0].get(models.PROFILE_VELOCITY) == 42  # 1 rad/s / 0.02398
    assert wire.device.servos[0].get(models.PROFILE_ACCELERATION) == 27  # 10 rad/s^2 / 0.37451
    assert wire.device.servos[0].get(models.RETURN_DELAY) == 10


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


# --- modes ------------------------------------------------------------------------------------------------------------


def test_arming_holds_the_arm_where_it_is():
    arm, wire = wired(gravity=0.2)
    arm.connect()
    wire.later(0.1)
    wire.later(0.1)
    arm.arm()
    assert (arm.held < -0.1).all()
    goals = [servo.get(models.GOAL_POSITION) for servo in wire.device.servos]
    assert arm.held == pytest.approx([goal * models.RAD_PER_COUNT - np.pi for goal in goals], abs=1e-6)
    for _ in range(5):
        wire.later(0.02)
        state = exchange(arm, arm.held, soon())
    assert state.position == pytest.approx(arm.held, abs=0.05)


@pytest.mark.parametrize("read", READS)
def test_arming_may_take_longer_than_the_watchdog(read, monkeypatch):
    """Seven servos at 57600 baud take longer than 0.1 s; every word of it feeds the watchdogs of all."""
    arm, _ = wired(options={"read": read})
    arm.connect()
    slow = setup.torque_on

    def torque_on(*args):
        time.sleep(0.04)
        return slow(*args)

    monkeypatch.setattr(setup, "torque_on", torque_on)
    arm.arm()
    assert cycle(arm).faults == 0


@pytest.mark.parametrize("read", READS)
def test_a_watchdog_that_runs_out_while_arming_is_named(read, monkeypatch):
    arm, wire = wired(options={"read": read})
    arm.connect()
    slow = setup.torque_on

    def torque_on(bus, servo, goal):
        kept = slow(bus, servo, goal)
        if servo.id == 6:
            wire.later(0.11)
        return kept

    monkeypatch.setattr(setup, "torque_on", torque_on)
    with pytest.raises(ArmRefused, match=r"bus watchdog of joint_1 (.|\n)*255: it has run out"):
        arm.arm()
    assert arm.mode is Mode.STOPPED


def test_a_late_word_of_connecting_is_no_answer_to_a_question():
    arm, wire = wired()
    arm.connect()
    arm._forget()
    wire.held = codec.status(1, 0)
    assert arm.poll() is None
    assert arm.counts.foreign == 1


def test_an_arm_outside_its_range_is_not_armed():
    arm, wire = wired()
    arm.connect()
    wire.device.plant.position[2] = np.pi + 1.3
    with pytest.raises(ArmRefused, match="joint_3 outside"):
        arm.arm()
    assert not wire.device.plant.torque_on.any()


def test_stop_holds_free_lets_go():
    arm, wire = armed()
    cycle(arm, 0.3)
    assert arm.stop()
    assert arm.mode is Mode.STOPPED
    assert wire.device.plant.torque_on.all()
    assert {servo.get(models.GOAL_POSITION) for servo in wire.device.servos} == {2244}
    assert arm.stop(StopKind.DAMP)
    assert wire.device.plant.torque_on.all()
    assert arm.stop(StopKind.FREE)
    wire.later(0.01)
    assert not wire.device.plant.torque_on.any()


def test_disarming_is_confirmed_by_every_servo():
    arm, wire = armed()
    arm.disarm()
    assert arm.mode is Mode.DISARMED
    arm.arm()
    wire.silent = {3}
    with pytest.raises(ArmRefused, match=r"joint_4 \(id 4\)"):
        arm.disarm()


def test_closing_an_armed_arm_leaves_it_holding():
    arm, wire = armed()
    arm.close()
    assert wire.device.plant.torque_on.all()
    arm.close()


# --- shadows ----------------------------------------------------------------------------------------------------------


def test_a_shadow_follows_its_leader_and_never_fights_it():
    arm, wire = wired(SHADOWED, SHADOW_OPTIONS)
    info = arm.connect()
    leader, _, shadow = wire.device.servos
    assert "servo 3 follows it" in info.joints[0].note
    assert (leader.get(models.DRIVE_MODE), shadow.get(models.DRIVE_MODE)) == (1, 0)
    assert shadow.get(models.SECONDARY_ID) == 2
    arm.arm()
    for _ in range(100):
        wire.later(0.01)
        state = cycle(arm, 0.5)
    assert state.position == pytest.approx(0.5, abs=0.02)
    assert leader.get(models.GOAL_POSITION) == shadow.get(models.GOAL_POSITION)
    assert wire.device.counts["fighting"] == 0
    assert shadow.get(models.BUS_WATCHDOG) == 5


def test_servos_mounted_against_each_other_would_fight_without_the_reverse_bit():
    """That the virtual servos show it: the same arm, set up as if both were mounted alike."""
    arm, wire = wired(SHADOWED, {"shadows": "3:2"}, {"shadows": "3:-2", "reverse": "shoulder"})
    arm.connect()
    arm.arm()
    for _ in range(20):
        wire.later(0.01)
        cycle(arm, 0.5)
    assert wire.device.counts["fighting"] > 0


def test_a_fault_of_the_shadow_is_a_fault_of_its_joint():
    arm, wire = armed(SHADOWED, SHADOW_OPTIONS)
    wire.device.servos[2].fail(0x20)
    state = cycle(arm)
    assert state.faults == Fault.OVERLOAD
    assert state.joint_faults == (0x20, 0)


def test_a_silent_shadow_is_named_with_its_joint():
    arm, wire = armed(SHADOWED, {**SHADOW_OPTIONS, "fast": False})
    wire.device.servos.pop()
    with pytest.raises(JointSilent, match=r"shoulder \(id 2 or 3\)"):
        cycle(arm)
    with pytest.raises(JointSilent, match=r"shoulder \(shadow\) \(id 3\)"):
        arm.connect()


def test_the_effort_of_a_joint_is_that_of_all_its_servos():
    arm, wire = armed(SHADOWED, SHADOW_OPTIONS, gravity=4.0)
    for _ in range(60):
        wire.later(0.01)
        state = cycle(arm, 0.0)
    assert state.effort[0] == pytest.approx(4.0, rel=0.02)
