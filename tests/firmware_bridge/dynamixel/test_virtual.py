"""The virtual servos' registers, refusals, watchdog, power and shadows, as the e-manual has them."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.dynamixel import codec, models, virtual
from firmware_bridge.dynamixel.codec import Block
from firmware_bridge.dynamixel.models import RAD_PER_COUNT, Register
from firmware_bridge.errors import BridgeError
from tests.firmware_bridge.dynamixel.arms import JOINTS, SHADOW_OPTIONS, SHADOWED
from tests.firmware_bridge.dynamixel.devices import device, error_of, told

OK, RANGE, TOO_SHORT, LIMIT, ACCESS, INSTRUCTION = 0, 4, 5, 6, 7, 2


def test_it_starts_as_from_the_factory():
    made = device(JOINTS)
    assert made.servos[0].get(models.RETURN_DELAY) == 250
    assert made.servos[0].get(models.OPERATING_MODE) == models.POSITION
    assert made.servos[0].get(models.STATUS_RETURN) == 2
    assert not made.plant.torque_on.any()


def test_wrong_crc_is_dropped_without_an_answer():
    made = device()
    spoiled = codec.ping(1)[:-1] + b"\x00"
    assert made.feed(spoiled, 0) == []
    assert made.report()["junk"] > 0


def test_bytes_may_come_in_any_pieces():
    made = device()
    assert made.feed(codec.ping(1)[:6], 0) == []
    (reply,) = made.feed(codec.ping(1)[6:], 0)
    assert codec.statuses(reply.data, 3)[0].servo == 1
    assert reply.delay_us == 500


def test_errors_are_the_manual_s():
    made = device(JOINTS)
    assert error_of(made, models.TORQUE, 2) == RANGE
    assert error_of(made, Register(132, 4), 5) == ACCESS
    assert error_of(made, Register(116, 2), 5) == TOO_SHORT
    assert error_of(made, models.GOAL_POSITION, 4096) == LIMIT
    assert error_of(made, models.GOAL_CURRENT, 2000, servo=3) == LIMIT
    assert error_of(made, models.OPERATING_MODE, 5) == RANGE  # an XL430 measures no current
    assert error_of(made, models.OPERATING_MODE, 5, servo=3) == OK
    (answer,) = told(made, codec.packet(1, 0x05))
    assert answer.error == INSTRUCTION
    (answer,) = told(made, codec.read(1, 9000, 4))
    assert answer.error == ACCESS
    assert made.report()["refused"] == 6


def test_eeprom_is_locked_while_torque_is_on():
    made = device()
    assert error_of(made, models.TORQUE, 1) == OK
    assert error_of(made, models.RETURN_DELAY, 0) == ACCESS
    assert error_of(made, models.TORQUE, 0) == OK
    assert error_of(made, models.RETURN_DELAY, 0) == OK


def test_power_loss_keeps_eeprom_and_forgets_the_rest():
    made = device()
    error_of(made, models.RETURN_DELAY, 7)
    error_of(made, models.TORQUE, 1)
    error_of(made, models.BUS_WATCHDOG, 5)
    made.power(False, 1000)
    assert made.feed(codec.ping(1), 1000) == []
    made.power(True, 2000)
    servo = made.servos[0]
    assert servo.get(models.RETURN_DELAY) == 7
    assert (servo.get(models.TORQUE), servo.get(models.BUS_WATCHDOG)) == (0, 0)
    assert not made.plant.torque_on.any()


def test_torque_at_power_up_comes_only_where_it_was_asked_for():
    made = device(registers="2.60=1")
    made.power(False, 0)
    made.power(True, 0)
    made.tick(1000)
    assert made.plant.torque_on.tolist() == [False, True, False, False, False, False]


def test_switching_torque_on_takes_the_present_position_for_a_goal():
    made = device()
    error_of(made, models.GOAL_POSITION, 1000)
    error_of(made, models.TORQUE, 1)
    assert made.servos[0].get(models.GOAL_POSITION) == 2048


def test_the_watchdog_latches_locks_the_goals_and_holds():
    made = device()
    error_of(made, models.TORQUE, 1)
    error_of(made, models.BUS_WATCHDOG, 2)
    error_of(made, models.GOAL_POSITION, 2100)
    made.tick(40_000)
    assert made.servos[0].get(models.BUS_WATCHDOG) == 2
    made.tick(40_001)
    assert made.servos[0].get(models.BUS_WATCHDOG) == models.WATCHDOG_EXPIRED
    assert made.report()["watchdog"] == 1
    assert error_of(made, models.GOAL_POSITION, 2000) == RANGE
    assert error_of(made, models.BUS_WATCHDOG, 5) == RANGE
    assert made.plant.torque_on[0]
    assert made.servos[0].get(models.GOAL_POSITION) == made.servos[0].present()
    assert error_of(made, models.BUS_WATCHDOG, 0) == OK
    assert error_of(made, models.GOAL_POSITION, 2000) == OK


def test_any_instruction_on_the_bus_feeds_the_watchdog():
    """The e-manual counts every instruction packet: the watchdog watches the line, not the commands."""
    made = device()
    error_of(made, models.TORQUE, 1)
    error_of(made, models.BUS_WATCHDOG, 2)
    for at_us in range(0, 200_000, 20_000):
        made.tick(at_us)
        made.feed(codec.ping(6), at_us)
    assert made.servos[0].get(models.BUS_WATCHDOG) == 2


def test_without_torque_the_watchdog_does_not_run():
    made = device()
    error_of(made, models.BUS_WATCHDOG, 1)
    made.tick(10**6)
    assert made.servos[0].get(models.BUS_WATCHDOG) == 1


def test_indirect_data_shows_the_registers_it_is_told_to():
    made = device(JOINTS)
    for servo, at in ((1, 224), (3, 208)):
        told(made, codec.write(servo, Register(168, 2), 146))
        told(made, codec.write(servo, Register(170, 2), 98))
        (answer,) = told(made, codec.read(servo, at, 2), 2)
        assert answer.data == bytes((30, 0))
    assert error_of(made, Register(168, 2), 10) == RANGE  # no EEPROM
    assert error_of(made, Register(169, 2), 100) == ACCESS
    assert error_of(made, Register(168, 1), 100) == TOO_SHORT
    assert error_of(made, Register(230, 1), 55) == OK
    (answer,) = told(made, codec.read(1, 230, 1), 1)
    assert answer.data == b"\x37"


def test_status_return_level_one_answers_reads_and_zero_only_pings():
    made = device()
    error_of(made, models.STATUS_RETURN, 2)
    made.servos[0].set(models.STATUS_RETURN, 1)
    assert told(made, codec.write(1, models.TORQUE, 0)) == []
    assert len(told(made, codec.read(1, 132, 4), 4)) == 1
    made.servos[0].set(models.STATUS_RETURN, 0)
    assert told(made, codec.read(1, 132, 4), 4) == []
    assert len(told(made, codec.ping(1), 3)) == 1
    assert len(told(made, codec.read_all([Block(1, 132, 4), Block(2, 132, 4)]), 4)) == 1


def test_the_reverse_bit_mirrors_positions_and_a_homing_offset_shifts_them():
    made = device()
    made.plant.position[0] = 2148 * RAD_PER_COUNT
    made.tick(1000)
    assert made.servos[0].get(models.PRESENT_POSITION) == 2148
    error_of(made, models.DRIVE_MODE, 1)
    made.tick(2000)
    assert made.servos[0].get(models.PRESENT_POSITION) == 1948
    error_of(made, models.HOMING_OFFSET, 10)
    made.tick(3000)
    assert made.servos[0].get(models.PRESENT_POSITION) == 1958
    error_of(made, models.HOMING_OFFSET, 2000)  # mode 3 ignores what is beyond 1024
    made.tick(4000)
    assert made.servos[0].get(models.PRESENT_POSITION) == 1948


def test_a_goal_switches_torque_on_where_the_drive_mode_says_so():
    made = device(registers="1.10=8")
    error_of(made, models.GOAL_POSITION, 2060)
    made.tick(1000)
    assert made.plant.torque_on[0]


@pytest.mark.parametrize("name", list(virtual.FAULTS))
def test_faults_show_in_the_alert_bit_and_in_register_70(name):
    made = device()
    error_of(made, models.TORQUE, 1)
    made.fault(0, name)
    (answer,) = told(made, codec.read(1, 70, 1), 1)
    assert answer.error == codec.ALERT
    assert answer.data[0] == virtual.FAULTS[name]
    shuts_down = name in ("overheat", "shock", "overload")  # Shutdown(63) = 52
    assert made.servos[0].torque_on != shuts_down
    told(made, codec.write(1, models.TORQUE, 1))
    assert made.servos[0].torque_on != shuts_down
    told(made, codec.reboot(1))
    assert made.servos[0].get(models.HARDWARE_ERROR) == 0


def test_unknown_faults_joints_and_registers_are_refused():
    made = device()
    with pytest.raises(ValueError, match="overload"):
        made.fault(0, "boredom")
    with pytest.raises(ValueError, match=r"joint 0\.\.5"):
        made.fault(6, "overload")
    with pytest.raises(BridgeError, match="registers of a virtual Dynamixel"):
        device(registers="1.10")
    with pytest.raises(BridgeError, match="registers of a virtual Dynamixel"):
        device(registers="1.99=3")


def test_a_fast_read_needs_the_firmware_of_everyone_before():
    asked = codec.read_all([Block(i, 132, 4) for i in range(1, 7)], fast=True)
    assert len(told(device(firmware=45), asked, 4)) == 6
    assert told(device(firmware=44), asked, 4) == []


def test_servos_answer_one_after_another():
    made = device()
    replies = made.feed(codec.read_all([Block(i, 132, 4) for i in range(1, 7)]), 0)
    assert [reply.joint for reply in replies] == list(range(6))
    assert [reply.delay_us for reply in replies] == [500 * (i + 1) for i in range(6)]


def test_a_shadow_obeys_its_leader_s_volatile_registers_in_silence():
    made = device(SHADOWED, **SHADOW_OPTIONS)
    shadow = made.servos[2]
    told(made, codec.write(3, models.SECONDARY_ID, 2))
    assert len(told(made, codec.write(2, models.TORQUE, 1))) == 1
    assert shadow.torque_on
    told(made, codec.write(2, models.TORQUE, 0))
    told(made, codec.write(2, models.RETURN_DELAY, 9))
    assert shadow.get(models.RETURN_DELAY) == 250  # never EEPROM
    told(made, codec.write(2, models.TORQUE, 1))
    made.feed(codec.sync_write(models.GOAL_POSITION, [(2, 2100)]), 0)
    assert shadow.get(models.GOAL_POSITION) == 2100
    made.tick(10_000)
    assert made.report()["fighting"] == 1  # both reverse bits are the factory's: they pull against each other


def test_a_stuck_joint_reports_the_current_it_pushes_with():
    made = device()
    error_of(made, models.TORQUE, 1)
    made.plant.stuck[0] = True
    error_of(made, models.GOAL_POSITION, 3000)
    for at_us in range(0, 100_000, 1000):
        made.tick(at_us)
    servo = made.servos[0]
    assert servo.get(models.PRESENT_POSITION) == 2048
    assert servo.get(models.PRESENT_CURRENT) * servo.model.nm_per_unit == pytest.approx(4.1, rel=0.01)


def test_current_based_position_pushes_no_harder_than_its_goal_current():
    made = device(JOINTS)
    error_of(made, models.OPERATING_MODE, 5, servo=6)
    error_of(made, models.GOAL_CURRENT, 100, servo=6)
    error_of(made, models.TORQUE, 1, servo=6)
    error_of(made, models.GOAL_POSITION, 3000, servo=6)
    made.plant.stuck[5] = True
    for at_us in range(0, 50_000, 1000):
        made.tick(at_us)
    assert np.abs(made.plant.effort[5]) == pytest.approx(0.1 * 0.52 / 1.47, rel=1e-3)
