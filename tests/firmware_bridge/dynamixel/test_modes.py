"""Arming, stopping, letting go; joints with a second servo."""

from __future__ import annotations

import time

import numpy as np
import pytest

from firmware_bridge.arm import Fault, Mode, StopKind, exchange
from firmware_bridge.dynamixel import codec, models, setup
from firmware_bridge.dynamixel.answers import READS
from firmware_bridge.errors import (
    ArmRefused,
    JointSilent,
)
from tests.firmware_bridge.dynamixel.arms import SHADOW_OPTIONS, SHADOWED
from tests.firmware_bridge.dynamixel.wire import armed, cycle, soon, wired

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
