"""LeRobot's own KochFollower calibrates the virtual arm; ours makes the same file and the same servos."""

from __future__ import annotations

import time

import pytest
from lerobot.motors import motors_bus
from lerobot.robots.koch_follower import KochFollower, KochFollowerConfig

from edgevla.control.arm_calibration import FULL_TURN, Ranges, calibration_of
from firmware_bridge.calibration import text_of
from firmware_bridge.dynamixel import calibrate
from firmware_bridge.dynamixel.models import RAD_PER_COUNT
from firmware_bridge.transport.serial import SerialTransport
from firmware_bridge.virtual.client import VirtualProcess
from profiles import load_arm
from profiles.bridge import joints_of
from tests.firmware_bridge.dynamixel.koch import KOCH_FILE, LOWER, MIDDLE, UPPER

ARM = load_arm("koch")
JOINTS = joints_of(ARM, "main")


@pytest.fixture
def device():
    with VirtualProcess("dynamixel", JOINTS, gravity_nm=0.0, beyond=1.0, options=dict(ARM.options)) as process:
        yield process


def place(device, off):
    device.do("place", position_rad=[(at + off) * RAD_PER_COUNT for at in MIDDLE])
    time.sleep(0.1)  # the servos have seen it: the virtual ones sample, too


def koch(port, folder):
    robot = KochFollower(KochFollowerConfig(port=port, id="mine", calibration_dir=folder))
    handler = robot.bus.port_handler
    timeout = handler.setPacketTimeout

    def patient(length):
        timeout(length)
        handler.packet_timeout += 1000.0  # ms: this machine may be busy

    handler.setPacketTimeout = patient
    robot.bus.connect()
    return robot


def test_lerobot_writes_this_file_for_the_same_arm(device, tmp_path, monkeypatch):
    hand = iter([LOWER, UPPER])

    def enter_pressed():  # asked after each reading: the person moves on, then presses
        off = next(hand, None)
        if off is not None:
            place(device, off)
            held.append(off)
        return off is None

    held = []
    monkeypatch.setattr("builtins.input", lambda *_: place(device, 0))
    monkeypatch.setattr(motors_bus, "enter_pressed", enter_pressed)
    robot = koch(device.port, tmp_path)
    robot.calibrate()
    assert held == [LOWER, UPPER]
    assert (tmp_path / "mine.json").read_text() == KOCH_FILE
    robot.bus.disconnect()


def test_lerobot_takes_servos_and_file_of_ours_for_calibrated(device, tmp_path):
    transport = SerialTransport(device.port, ARM.baud)
    transport.open()
    servos = calibrate.make(transport, JOINTS, ARM.options)
    servos.read()
    servos.begin()
    place(device, 0)
    offsets = servos.take_middle()
    ranges = Ranges({joint.name: calibrate.full_turn(joint) for joint in JOINTS})
    for off in (0, LOWER, UPPER):
        place(device, off)
        ranges = ranges.seen(servos.positions())
    found = calibration_of(servos.joints, offsets, ranges, FULL_TURN["koch"], servos.drive_modes)
    servos.save(found)
    transport.close()
    assert text_of(found) == KOCH_FILE
    (tmp_path / "mine.json").write_text(text_of(found))
    robot = koch(device.port, tmp_path)
    assert robot.bus.is_calibrated
    robot.bus.disconnect()
