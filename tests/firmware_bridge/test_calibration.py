"""LeRobot's calibration files and its numbers; the formulas beside ours are those of its `motors_bus.py`."""

import json
import math
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Joint
from firmware_bridge.calibration import (
    DYNAMIXEL,
    FEETECH_SCS,
    FEETECH_STS,
    MotorCalibration,
    calibrated,
    calibrated_joints,
    lerobot_units,
    parse,
    read_calibration,
    write_calibration,
)
from firmware_bridge.errors import BadCalibration

PAN = Joint("shoulder_pan", "rad", -3.0, 3.0, id=1, model="sts3215")
GRIPPER = Joint("gripper", "1", 0.0, 1.0, id=6, model="sts3215")
MOTOR = MotorCalibration(id=1, drive_mode=0, homing_offset=-12, range_min=700, range_max=3400)

# Written by lerobot 0.4.4: draccus.dump({...}, file, indent=4).
FILE = """{
    "shoulder_pan": {
        "id": 1,
        "drive_mode": 0,
        "homing_offset": -12,
        "range_min": 700,
        "range_max": 3400
    },
    "gripper": {
        "id": 6,
        "drive_mode": 1,
        "homing_offset": 5,
        "range_min": 2000,
        "range_max": 3400
    }
}"""


def lerobot(count, motor, mode, turn, heeds_drive_mode):
    """What LeRobot makes of a count inside the range."""
    low, high, turned = motor.range_min, motor.range_max, heeds_drive_mode and motor.drive_mode
    if mode == "range_m100_100":
        number = (count - low) / (high - low) * 200 - 100
        return -number if turned else number
    if mode == "range_0_100":
        number = (count - low) / (high - low) * 100
        return 100 - number if turned else number
    return (count - (low + high) / 2) * 360 / (turn - 1)


def test_a_file_comes_back_byte_for_byte(tmp_path):
    path = tmp_path / "arm.json"
    path.write_text(FILE)
    found = read_calibration(path)
    assert found["shoulder_pan"] == MOTOR
    assert list(found) == ["shoulder_pan", "gripper"]
    write_calibration(tmp_path / "deep" / "again.json", found)
    assert (tmp_path / "deep" / "again.json").read_text() == FILE
    assert [at.name for at in (tmp_path / "deep").iterdir()] == ["again.json"]


def changed(key, value):
    data = json.loads(FILE)
    data["gripper"][key] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "an object of motors"),
        ("{}", "an object of motors"),
        ('{"pan": 3}', "id, drive_mode"),
        ('{"pan": {"id": 1}}', "id, drive_mode"),
        (changed("id", 1), "each id once"),
        (changed("id", 254), "gripper.id"),
        (changed("id", True), "a whole number"),
        (changed("range_min", 1.5), "gripper.range_min"),
        (changed("drive_mode", 2), "0 or 1"),
        (changed("homing_offset", 1 << 21), "gripper.homing_offset"),
        (changed("range_min", -(1 << 21)), "gripper.range_min"),
        (changed("range_max", 2000), "more than range_min"),
        (changed("range_max", float("nan")), "a whole number"),
    ],
)
def test_a_file_that_is_none_is_refused_by_motor_and_key(text, words):
    with pytest.raises(BadCalibration, match=words):
        parse(text, "arm.json")


def test_files_that_cannot_be_read_or_written_are_told(tmp_path):
    with pytest.raises(BadCalibration, match="cannot be read"):
        read_calibration(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadCalibration, match="UTF-8"):
        read_calibration(tmp_path / "binary")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadCalibration, match="a regular file"):
        read_calibration(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(bytes(300_000))
    with pytest.raises(BadCalibration, match="at most"):
        read_calibration(tmp_path / "long")
    with pytest.raises(BadCalibration, match="cannot be written"):
        write_calibration(tmp_path / "long" / "file.json", {"pan": MOTOR})


def test_a_calibrated_joint_counts_from_the_middle_of_its_range():
    joint = calibrated(PAN, MOTOR, FEETECH_STS)
    assert joint.zero_rad == pytest.approx(2050 * 2 * math.pi / 4096)
    assert joint.maximum == pytest.approx(1350 * 2 * math.pi / 4096)
    assert joint.minimum == -joint.maximum
    assert calibrated(replace(PAN, minimum=-1.0, maximum=0.5), MOTOR, FEETECH_STS).maximum == 0.5


def test_a_gripper_counts_from_closed_to_open():
    joint = calibrated(GRIPPER, replace(MOTOR, id=6), FEETECH_STS)
    assert joint.to_channel(700 / FEETECH_STS.counts_per_rad) == pytest.approx(0.0)
    assert joint.to_channel(3400 / FEETECH_STS.counts_per_rad) == pytest.approx(1.0)


def test_calibrations_of_other_arms_are_refused():
    with pytest.raises(BadCalibration, match="id 1"):
        calibrated(PAN, replace(MOTOR, id=2), FEETECH_STS)
    with pytest.raises(BadCalibration, match="a range that meets"):
        calibrated(replace(PAN, minimum=2.5, maximum=3.0), MOTOR, FEETECH_STS)
    with pytest.raises(BadCalibration, match="the motors of the calibration"):
        calibrated_joints([PAN, GRIPPER], {"shoulder_pan": MOTOR}, FEETECH_STS)
    with pytest.raises(BadCalibration, match="degrees or range_m100_100"):
        lerobot_units(PAN, MOTOR, FEETECH_STS, "percent")


@pytest.mark.parametrize("scale", [FEETECH_STS, FEETECH_SCS, DYNAMIXEL], ids=["sts", "scs", "dynamixel"])
@pytest.mark.parametrize("mode", ["degrees", "range_m100_100", "range_0_100"])
@pytest.mark.parametrize("unit", ["rad", "1"])
@given(low=st.integers(0, 400), span=st.integers(50, 600), drive_mode=st.integers(0, 1), share=st.floats(0, 1))
def test_the_line_to_lerobots_numbers_is_lerobots_own(scale, mode, unit, low, span, drive_mode, share):
    motor = MotorCalibration(1, drive_mode, 0, low, low + span)
    joint = calibrated(replace(PAN, unit=unit, minimum=-9.0, maximum=9.0), motor, scale, mode)
    count = low + share * span
    gain, offset = lerobot_units(joint, motor, scale, mode)
    ours = gain * joint.to_channel(count / scale.counts_per_rad) + offset
    assert ours == pytest.approx(lerobot(count, motor, mode, scale.turn, scale.drive_mode_counts), abs=1e-6)


def test_drive_mode_turns_a_feetech_range_and_neither_degrees_nor_dynamixel():
    motor = replace(MOTOR, drive_mode=1)
    assert calibrated(PAN, motor, FEETECH_STS, "range_m100_100").direction == -1
    assert calibrated(PAN, motor, FEETECH_STS, "degrees").direction == 1
    assert calibrated(PAN, motor, DYNAMIXEL, "range_m100_100").direction == 1
    gripper = calibrated(replace(GRIPPER, id=1), motor, FEETECH_STS)
    assert gripper.to_channel(3400 / FEETECH_STS.counts_per_rad) == pytest.approx(0.0)
