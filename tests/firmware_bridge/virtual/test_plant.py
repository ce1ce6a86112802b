"""Joints that move as joints do: torque holds, gravity pulls, ends stop, a stuck one stays."""

import numpy as np
import pytest

from firmware_bridge.virtual.plant import JointPlant


def plant(gravity_nm=0.2):
    return JointPlant([-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], gravity_nm=gravity_nm)


def run(joints, seconds):
    """In calls of 1 ms, as the server makes them."""
    start_us = joints._at_us or 0
    for step in range(round(seconds * 1000) + 1):
        joints.run_to(start_us + step * 1000)


def test_without_torque_an_arm_falls_to_its_lower_end_and_stays_there():
    joints = plant()
    run(joints, 1.0)
    assert joints.position.tolist() == [-1.0, -1.0]
    assert joints.velocity.tolist() == [0.0, 0.0]
    assert joints.effort.tolist() == [0.0, 0.0]


def test_with_torque_it_holds_against_gravity_with_the_sag_of_its_gain():
    joints = plant()
    joints.torque_on[:] = True
    run(joints, 2.0)
    assert joints.position == pytest.approx([-0.2 / 60, -0.2 / 60], abs=1e-5)  # gravity over kp
    assert joints.effort == pytest.approx([0.2, 0.2], abs=1e-4)


def test_it_goes_where_it_is_told_and_no_torque_is_above_the_limit():
    joints = plant()
    joints.torque_on[:] = True
    joints.target[:] = [0.5, -0.5]
    strongest = 0.0
    for step in range(2_000):
        joints.run_to(step * 1000)
        strongest = max(strongest, float(np.abs(joints.effort).max()))
    assert joints.position == pytest.approx([0.5, -0.5], abs=0.01)
    assert strongest == 3.0


def test_a_stuck_joint_stays_and_pushes():
    joints = plant()
    joints.torque_on[:] = True
    joints.stuck[1] = True
    joints.target[:] = 0.5
    run(joints, 1.0)
    assert joints.position[0] == pytest.approx(0.5, abs=0.01)
    assert joints.position[1] == 0.0
    assert joints.effort[1] == 3.0


def test_time_that_nobody_looked_at_is_not_caught_up_at_once():
    joints = plant()
    joints.run_to(0)
    joints.run_to(3_600_000_000)
    once = joints.position.copy()
    other = plant()
    run(other, 0.2)
    assert once == pytest.approx(other.position, abs=1e-9)


def test_a_hand_moves_joints_between_their_ends_only():
    joints = plant()
    joints.place([0.3, -0.3])
    assert joints.position.tolist() == [0.3, -0.3]
    for wrong in ([2.0, 0.0], [0.0], [float("nan"), 0.0]):
        with pytest.raises(ValueError, match="positions between"):
            joints.place(wrong)
