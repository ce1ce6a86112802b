"""LeRobot's own DamiaoMotorsBus and our Damiao: the same bytes, and it drives our virtual motors."""

import math
import time

import pytest

from firmware_bridge.arm import Joint
from firmware_bridge.damiao import codec
from firmware_bridge.damiao.models import scale_of
from firmware_bridge.errors import BadSetpoint
from firmware_bridge.virtual.client import VirtualProcess

pytest.importorskip("can", reason="python-can is not installed here: see requirements/lerobot.txt")
from lerobot.motors import Motor, MotorNormMode
from lerobot.motors.damiao import DamiaoMotorsBus
from lerobot.motors.damiao.tables import MotorType

from tests.firmware_bridge.unix_bus import UnixBus

JOINTS = tuple(  # LeRobot has VMAX 8 for the 4340 where openarm_can has 10: the motor's registers decide, see models.py
    Joint(f"joint_{i}", "rad", -1.0, 1.0, i, model, kp=kp, kd=kd, reply_id=0x10 + i)
    for i, (model, kp, kd) in enumerate(
        [("dm8009", 240.0, 5.0), ("dm4340@12.5,8,28", 240.0, 3.0), ("dm4310", 24.0, 0.3)], start=1
    )
)
TYPES = (MotorType.DM8009, MotorType.DM4340, MotorType.DM4310)


def lerobot_bus(fd):
    motors = {
        joint.name: Motor(
            joint.id, kind.name.lower(), MotorNormMode.DEGREES, motor_type_str=kind.name, recv_id=joint.reply_id
        )
        for joint, kind in zip(JOINTS, TYPES, strict=True)
    }
    return DamiaoMotorsBus("unix", motors, use_can_fd=fd)


def encoded(kind, kp, kd, degrees, degrees_s, torque_nm):
    return bytes(lerobot_bus(False)._encode_mit_packet(kind, kp, kd, degrees, degrees_s, torque_nm))


def test_a_nan_that_lerobot_sends_as_full_scale_raises_here():
    """Its clamp is max(low, min(high, x)), and min(high, NaN) is high: damiao.py, _float_to_uint."""
    assert encoded(MotorType.DM4310, 24.0, 0.3, math.nan, 0.0, 0.0)[:2] == b"\xff\xff"
    with pytest.raises(BadSetpoint):
        codec.mit(1, scale_of("dm4310"), math.nan, kp=24.0, kd=0.3)


@pytest.mark.parametrize(("joint", "kind"), list(zip(JOINTS, TYPES, strict=True)))
def test_commands_are_the_same_bytes(joint, kind):
    scale, differ = scale_of(joint.model), []
    for step in range(-500, 501):
        degrees, speed, torque_nm = step * 0.3, step * 0.5, step * 0.019
        ours = codec.mit(1, scale, math.radians(degrees), math.radians(speed), joint.kp, joint.kd, torque_nm)
        if ours != encoded(kind, joint.kp, joint.kd, degrees, speed, torque_nm):
            differ.append(degrees)
    assert differ == []


@pytest.fixture(params=[False, True], ids=["can", "can-fd"])
def driven(request):
    """Their bus on our motors; its connect() opens SocketCAN, so the bus object is put in."""
    with VirtualProcess("damiao", JOINTS) as virtual:
        theirs = lerobot_bus(request.param)
        theirs.canbus = UnixBus(virtual.port, fd=request.param)
        theirs._is_connected = True
        yield virtual, theirs
        theirs.canbus.shutdown()


def patiently(call, good, tries=50):
    """It waits 1 to 10 ms for an answer and keeps the old one when none came: ask until it heard."""
    for _ in range(tries):
        got = call()
        if good(got):
            return got
        time.sleep(0.02)
    raise AssertionError(f"LeRobot never heard it: {got}")


def test_lerobot_shakes_hands_moves_and_reads_our_motors(driven):
    virtual, theirs = driven
    theirs._handshake()  # enables every motor
    assert virtual.do("report")["torque_on"] == [True] * 3
    for name, joint in zip(theirs.motors, JOINTS, strict=True):
        theirs.write("Kp", name, joint.kp)
        theirs.write("Kd", name, joint.kd)
    goal = {"joint_1": 20.0, "joint_2": -15.0, "joint_3": 30.0}
    for _ in range(100):
        theirs.sync_write("Goal_Position", goal)
    states = patiently(
        theirs.sync_read_all_states,
        lambda said: all(abs(said[name]["position"] - at) < 2.0 for name, at in goal.items()),
    )
    at_rad = virtual.do("report")["position_rad"]
    for name, real in zip(goal, at_rad, strict=True):
        assert math.radians(states[name]["position"]) == pytest.approx(real, abs=0.02)
    theirs.disable_torque()
    patiently(lambda: virtual.do("report")["torque_on"], lambda on: not any(on))


def test_the_zero_that_lerobot_sets_is_ours(driven):
    """OpenArmFollower.calibrate: torque off, then this."""
    _, theirs = driven
    theirs.canbus.sent.clear()
    theirs.set_zero_position()
    sent = [(message.arbitration_id, bytes(message.data)) for message in theirs.canbus.sent]
    assert sent == [(joint.id, codec.special(joint.id, codec.SET_ZERO, False).data) for joint in JOINTS]


def test_what_lerobot_sends_is_what_our_codec_makes(driven):
    _, theirs = driven
    theirs.canbus.sent.clear()
    theirs._send_simple_command("joint_1", 0xFC)
    theirs._refresh_motor("joint_2")
    theirs._mit_control("joint_3", 24.0, 0.3, 10.0, 0.0, 0.0)
    sent = [(message.arbitration_id, bytes(message.data), message.is_fd) for message in theirs.canbus.sent]
    fd = theirs.use_can_fd
    mit = codec.mit(3, scale_of("dm4310"), math.radians(10.0), kp=24.0, kd=0.3)
    ours = [codec.special(1, codec.ENABLE, fd), codec.refresh(2, fd), codec.frame(3, mit, fd)]
    assert sent == [(frame.id, frame.data, frame.fd) for frame in ours]
    # the one difference: LeRobot 0.4.4 sends its CAN-FD frames without the bit-rate switch, at 1 Mbit throughout
    assert not any(message.bitrate_switch for message in theirs.canbus.sent)
    assert all(frame.brs == fd for frame in ours)
