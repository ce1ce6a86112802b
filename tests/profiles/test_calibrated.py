"""An arm profile with the calibration of one arm."""

from dataclasses import replace

import pytest

from firmware_bridge.calibration import MotorCalibration
from firmware_bridge.errors import BadCalibration
from profiles import ProfileError, load_arm
from profiles.calibrated import lerobot_lines, scale_of, with_calibration

NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
FILE = {name: MotorCalibration(i, 0, 10 * i, 1000, 3000) for i, name in enumerate(NAMES, 1)}


@pytest.mark.parametrize("name", ["so100", "so101"])
def test_ranges_zero_and_offsets_come_from_the_file(name):
    arm = with_calibration(load_arm(name), FILE)
    pan, gripper = arm.channels[0], arm.channels[5]
    assert pan.maximum == pytest.approx(1.534, abs=1e-3)  # 1000 counts
    assert pan.motor.zero_rad == pytest.approx(3.068, abs=1e-3)  # 2000 counts
    assert (gripper.minimum, gripper.maximum) == (0.0, 1.0)
    assert arm.options["homing_offsets"] == "10,20,30,40,50,60"
    starts = zip(arm.channels, arm.start_low, arm.start_high, strict=True)
    assert all(channel.minimum <= low < high <= channel.maximum for channel, low, high in starts)


def test_lines_to_lerobots_numbers_are_those_of_its_so101():
    lines = lerobot_lines(load_arm("so101"), FILE)
    assert lines["shoulder_pan"] == pytest.approx((57.3098, 0.0), abs=1e-3)  # 4096 / 4095 of 57.2958 degrees a rad
    assert lines["gripper"] == pytest.approx((100.0, 0.0))


def test_a_koch_is_held_to_its_offsets_and_its_gripper_is_lerobots():
    arm = with_calibration(load_arm("koch"), FILE)
    assert arm.options["homing_offsets"] == "10,20,30,40,50,60"
    assert (arm.channels[1].minimum, arm.channels[1].maximum) == (-1.25, 1.25)  # the profile's: 1000 counts are 1.53
    lines = lerobot_lines(load_arm("koch"), FILE)
    assert lines["elbow_flex"] == pytest.approx((57.3098, 0.0), abs=1e-3)
    assert lines["gripper"] == pytest.approx((32.5949, 50.0), abs=1e-3)  # 100 over 2000 of 4096 counts a turn


def test_a_viperx_is_held_to_the_offsets_of_its_shadows_too():
    arm = load_arm("viperx")
    names = ["waist", "shoulder", "shoulder_shadow", "elbow", "elbow_shadow"]
    names += ["forearm_roll", "wrist_angle", "wrist_rotate", "gripper"]
    file = {name: MotorCalibration(i, 0, 10 * i, 100, 3900) for i, name in enumerate(names, 1)}
    assert with_calibration(arm, file).options["homing_offsets"] == "10,20,40,60,70,80,90,30,50"
    with pytest.raises(BadCalibration, match="calibration of elbow_shadow"):
        with_calibration(arm, file | {"elbow_shadow": MotorCalibration(11, 0, 0, 100, 3900)})


def test_files_and_arms_that_do_not_fit_are_refused():
    with pytest.raises(BadCalibration, match="the motors of the calibration"):
        with_calibration(load_arm("so101"), {"pan": FILE["gripper"]})
    with pytest.raises(ProfileError, match="no LeRobot calibration fits"):
        with_calibration(load_arm("metaworld-sawyer"), FILE)
    arm = load_arm("so101")
    with pytest.raises(ProfileError, match="holds nothing of the start range"):
        with_calibration(replace(arm, start_low=(1.8, *arm.start_low[1:])), FILE)


def test_dynamixel_arms_have_a_scale_too():
    assert not scale_of(replace(load_arm("so101"), protocol="dynamixel")).drive_mode_counts
