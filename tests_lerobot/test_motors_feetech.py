"""LeRobot's own FeetechMotorsBus talks to our virtual servos, and its calibration is ours."""

import json

import pytest

pytest.importorskip("scservo_sdk", reason="needs feetech-servo-sdk in .venv-lerobot (requirements/lerobot.txt)")

import draccus
from lerobot.motors import Motor, MotorCalibration, MotorNormMode
from lerobot.motors.feetech import FeetechMotorsBus

from firmware_bridge import calibration as ours
from firmware_bridge.virtual.client import VirtualProcess
from profiles import load_arm
from profiles.bridge import joints_of
from profiles.calibrated import lerobot_lines

ARM = load_arm("so101")
JOINTS = joints_of(ARM, "main")
FILE = {joint.name: MotorCalibration(joint.id, 0, 10 * joint.id, 1000, 3000) for joint in JOINTS}


def motors(mode):
    """As `so_follower.py` names them."""
    last = MotorNormMode.RANGE_0_100
    return {j.name: Motor(j.id, "sts3215", last if j.name == "gripper" else mode) for j in JOINTS}


@pytest.fixture
def port():
    with VirtualProcess("feetech", JOINTS, gravity_nm=0.0) as device:
        yield device.port


@pytest.fixture
def bus(port):
    bus = FeetechMotorsBus(port, motors(MotorNormMode.DEGREES), FILE)
    bus.connect()  # its handshake: pings, model numbers, one firmware for all
    yield bus
    bus.disconnect()


def test_it_finds_every_servo_by_a_broadcast_ping(bus):
    assert bus.broadcast_ping() == {joint.id: 777 for joint in JOINTS}


def test_it_writes_a_calibration_and_reads_it_back(bus):
    bus.write_calibration(FILE)
    assert bus.read_calibration() == FILE
    assert bus.is_calibrated


def test_its_numbers_are_those_of_our_lines(bus):
    bus.write_calibration(FILE)
    counts = bus.sync_read("Present_Position", normalize=False)
    numbers = bus.sync_read("Present_Position")
    table = {name: ours.MotorCalibration(**vars(motor)) for name, motor in FILE.items()}
    lines = lerobot_lines(ARM, table)
    joints = {j.name: j for j in ours.calibrated_joints(JOINTS, table, ours.FEETECH_STS)}
    for name, (gain, offset) in lines.items():
        value = joints[name].to_channel(counts[name] / ours.FEETECH_STS.counts_per_rad)
        assert gain * value + offset == pytest.approx(numbers[name], abs=1e-6)


def test_it_configures_and_moves_them(bus):
    bus.disable_torque()
    bus.configure_motors()
    bus.write_calibration(FILE)
    bus.enable_torque()
    bus.sync_write("Goal_Position", dict.fromkeys(bus.motors, 10.0))
    goals = {name: bus.read("Goal_Position", name, normalize=False) for name in bus.motors}
    assert goals["shoulder_pan"] == int(10.0 * 4095 / 360 + 2000)
    assert goals["gripper"] == 1200


def test_its_half_turn_homing_is_what_our_calibrate_does(bus):
    offsets = bus.set_half_turn_homings()
    counts = bus.sync_read("Present_Position", normalize=False)
    assert set(counts.values()) == {2047}
    assert {name: motor.homing_offset for name, motor in bus.read_calibration().items()} == offsets


def test_its_file_is_our_file_byte_for_byte(tmp_path):
    with open(tmp_path / "theirs.json", "w") as file, draccus.config_type("json"):
        draccus.dump(FILE, file, indent=4)
    text = (tmp_path / "theirs.json").read_text()
    assert ours.text_of(ours.read_calibration(tmp_path / "theirs.json")) == text
    ours.write_calibration(tmp_path / "ours.json", ours.parse(text, "theirs"))
    with open(tmp_path / "ours.json") as file, draccus.config_type("json"):
        assert draccus.load(dict[str, MotorCalibration], file) == FILE
    assert json.loads(text)["gripper"]["homing_offset"] == 60
