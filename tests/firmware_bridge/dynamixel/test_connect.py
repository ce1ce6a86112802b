"""What connecting checks, sets and refuses, and what it writes into the servos."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Joint
from firmware_bridge.config import BusConfig
from firmware_bridge.dynamixel import codec, models, virtual
from firmware_bridge.dynamixel.answers import READS
from firmware_bridge.dynamixel.driver import make
from firmware_bridge.errors import (
    BridgeError,
    JointFault,
    WatchdogMismatch,
    WrongJoint,
)
from firmware_bridge.virtual.__main__ import plant_of
from tests.firmware_bridge.dynamixel.arms import ALIKE, JOINTS, OPTIONS, WATCHDOG_S
from tests.firmware_bridge.dynamixel.wire import armed, asked, cycle, wired


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
