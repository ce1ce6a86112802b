"""LeRobot's own DynamixelMotorsBus on the virtual servos: it configures, reads and moves; our bytes are its bytes."""

from __future__ import annotations

import time
from math import pi

import pytest
from lerobot.motors import Motor, MotorCalibration, MotorNormMode
from lerobot.motors.dynamixel import DynamixelMotorsBus, OperatingMode

from firmware_bridge.arm import Joint
from firmware_bridge.dynamixel import codec, models
from firmware_bridge.dynamixel.codec import Block
from firmware_bridge.virtual.client import VirtualProcess

KOCH = {  # lerobot/robots/koch_follower
    "shoulder_pan": (1, "xl430-w250"),
    "shoulder_lift": (2, "xl430-w250"),
    "elbow_flex": (3, "xl330-m288"),
    "wrist_flex": (4, "xl330-m288"),
    "wrist_roll": (5, "xl330-m288"),
    "gripper": (6, "xl330-m288"),
}
IDS = [1, 2, 3, 4, 5, 6]


@pytest.fixture
def arm():
    """(LeRobot's bus, what it wrote, the virtual process)."""
    joints = [Joint(name, "rad", -1.2, 1.2, servo, model, zero_rad=pi) for name, (servo, model) in KOCH.items()]
    with VirtualProcess("dynamixel", joints, gravity_nm=0.0) as process:
        calibration = {name: MotorCalibration(servo, 0, 0, 0, 4095) for name, (servo, _) in KOCH.items()}
        motors = {name: Motor(servo, model, MotorNormMode.DEGREES) for name, (servo, model) in KOCH.items()}
        bus = DynamixelMotorsBus(process.port, motors, calibration)
        bus.connect(handshake=False)
        timeout = bus.port_handler.setPacketTimeout

        def patient(length):
            timeout(length)
            bus.port_handler.packet_timeout += 1000.0  # ms: this machine may be busy

        bus.port_handler.setPacketTimeout = patient
        bus._handshake()
        written = []
        write = bus.port_handler.writePort
        bus.port_handler.writePort = lambda packet: (written.append(bytes(packet)), write(packet))[1]
        yield bus, written, process
        bus.disconnect()


def test_it_finds_every_motor_and_configures_them_as_its_koch_does(arm):
    bus, written, process = arm
    assert bus.broadcast_ping() == {servo: models.MODELS[model].number for servo, model in KOCH.values()}
    bus.configure_motors()
    assert written[-1] == codec.write(6, models.RETURN_DELAY, 0)
    for name in KOCH:
        mode = OperatingMode.CURRENT_POSITION if name == "gripper" else OperatingMode.EXTENDED_POSITION
        bus.write("Operating_Mode", name, mode.value)
    state = process.do("report")["device"]["torque_watchdog_goal_mode_drive"]
    assert [state[str(i)][3] for i in IDS] == [4, 4, 4, 4, 4, 5]


def test_it_moves_the_servos_and_reads_them_back(arm):
    bus, written, _ = arm
    bus.enable_torque()
    bus.sync_write("Goal_Position", {name: 2048 + 10 * i for i, name in enumerate(KOCH)}, normalize=False)
    assert written[-1] == codec.sync_write(models.GOAL_POSITION, [(i + 1, 2048 + 10 * i) for i in range(6)])
    time.sleep(0.5)
    found = bus.sync_read("Present_Position", normalize=False)
    assert written[-1] == codec.read_all([Block(i, 132, 4) for i in IDS])
    assert list(found.values()) == pytest.approx([2048 + 10 * i for i in range(6)], abs=3)
    bus.disable_torque()


def test_its_calibration_lands_in_the_servos_and_comes_back(arm):
    bus, _, _ = arm
    calibration = {
        name: MotorCalibration(servo, 0, 5 * servo - 100, 100 + servo, 4000 - servo)
        for name, (servo, _) in KOCH.items()
    }
    bus.write_calibration(calibration)
    assert bus.read_calibration() == calibration
    assert bus.is_calibrated
