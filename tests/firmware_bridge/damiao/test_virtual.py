"""The virtual motors by themselves: frames and microseconds in, frames out."""

import struct

import pytest

from firmware_bridge.damiao import codec, registers
from firmware_bridge.damiao.models import MODELS
from firmware_bridge.damiao.virtual import make
from firmware_bridge.errors import BridgeError
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.__main__ import plant_of
from firmware_bridge.virtual.device import brown_out
from tests.firmware_bridge.damiao.arms import GRIPPER, JOINTS

DM8009 = MODELS["dm8009"]
ALL = (*JOINTS, GRIPPER)


@pytest.fixture
def motors():
    return make(ALL, plant_of(list(ALL), 0.2), {})


def ask(device, frame, now_us=0):
    """The one answer, or None."""
    replies = device.feed(frame, now_us)
    assert len(replies) <= 1
    return replies[0].data if replies else None


def status_of(device, motor=1, now_us=0):
    return ask(device, codec.refresh(motor, False), now_us).data[0] >> 4


def enabled(device, motor=1, now_us=0):
    assert ask(device, codec.special(motor, codec.ENABLE, False), now_us).data[0] == codec.ENABLED << 4 | motor


def run(device, start_us, end_us, frame=None, every_us=1000):
    for now_us in range(start_us, end_us, every_us):
        device.tick(now_us)
        if frame is not None:
            device.feed(frame, now_us)


def hold(motor=1, q=0.0, kp=240.0):
    return codec.frame(motor, codec.mit(motor, DM8009, q, kp=kp, kd=5.0), False)


def test_a_motor_starts_disabled_and_says_so(motors):
    answer = ask(motors, codec.refresh(1, False))
    assert answer.id == 0x11
    assert answer.data[0] == 0x01  # status 0, id 1
    assert len(answer.data) == 8


def test_answers_come_as_they_were_asked_can_2_0_or_fd(motors):
    assert not ask(motors, codec.refresh(1, False)).fd
    assert ask(motors, codec.refresh(1, True))[3:5] == (True, True)


def test_a_command_to_a_disabled_motor_moves_nothing_and_is_answered(motors):
    assert ask(motors, hold(q=1.0)).data[0] >> 4 == codec.DISABLED
    assert motors.report()["refused"] == 1
    assert not motors.plant.torque_on[0]


def test_an_enabled_motor_follows_and_holds_against_gravity(motors):
    enabled(motors)
    run(motors, 0, 500_000, hold(q=0.5))
    assert motors.plant.position[0] == pytest.approx(0.5, abs=0.01)
    said = codec.state(ask(motors, hold(q=0.5), 500_000).data, DM8009)
    assert said.position_rad == pytest.approx(0.5, abs=0.01)
    assert said.torque_nm == pytest.approx(0.2, abs=0.05)


def test_without_torque_the_arm_falls(motors):
    enabled(motors)
    run(motors, 0, 300_000, hold(q=0.0))
    ask(motors, codec.special(1, codec.DISABLE, False), 300_000)
    run(motors, 300_000, 800_000)
    assert motors.plant.position[0] < -0.5


def test_the_timeout_latches_lost_and_lets_the_arm_fall(motors):
    ask(motors, codec.write(1, registers.TIMEOUT, 400, False))  # 20 ms
    enabled(motors)
    run(motors, 0, 19_000)
    assert status_of(motors, now_us=20_000) == codec.ENABLED
    assert status_of(motors, now_us=20_100) == codec.LOST
    assert ask(motors, hold(), 21_000).data[0] >> 4 == codec.LOST  # commands do not wake it
    assert ask(motors, codec.special(1, codec.ENABLE, False), 21_000).data[0] >> 4 == codec.LOST
    assert not motors.plant.torque_on[0]
    assert ask(motors, codec.special(1, codec.CLEAR, False), 22_000).data[0] >> 4 == codec.DISABLED


def test_a_request_for_state_feeds_no_timeout(motors):
    ask(motors, codec.write(1, registers.TIMEOUT, 400, False))
    enabled(motors)
    run(motors, 0, 30_000, codec.refresh(1, False))
    assert status_of(motors, now_us=30_000) == codec.LOST


def test_timeout_zero_never_ends(motors):
    enabled(motors)
    run(motors, 0, 3_000_000, every_us=10_000)
    assert status_of(motors, now_us=3_000_000) == codec.ENABLED


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("overload", 0xE),
        ("over-current", 0xA),
        ("overheat", 0xC),
        ("overheat-mos", 0xB),
        ("voltage", 0x9),
        ("over-voltage", 0x8),
        ("encoder", 0x5),
    ],
)
def test_a_fault_switches_off_until_it_is_cleared(motors, name, status):
    enabled(motors)
    motors.fault(0, name)
    assert status_of(motors) == status
    assert not motors.plant.torque_on[0]
    assert ask(motors, codec.special(1, codec.DISABLE, False)).data[0] >> 4 == status
    assert ask(motors, codec.special(1, codec.CLEAR, False)).data[0] >> 4 == codec.DISABLED


def test_a_fault_it_does_not_know_is_refused(motors):
    with pytest.raises(ValueError, match="overload"):
        motors.fault(0, "gremlins")


def test_written_registers_live_until_the_supply_goes(motors):
    ask(motors, codec.write(1, registers.TIMEOUT, 400, False))
    assert codec.register(ask(motors, codec.read(1, registers.TIMEOUT, False)).data, 1) == (registers.TIMEOUT, 400)
    brown_out(motors, 1000)
    assert codec.register(ask(motors, codec.read(1, registers.TIMEOUT, False)).data, 1) == (registers.TIMEOUT, 0)


def test_saved_registers_outlive_the_supply_and_saving_needs_a_disabled_motor(motors):
    ask(motors, codec.write(1, registers.TIMEOUT, 400, False))
    enabled(motors)
    assert ask(motors, codec.save(1, False)) is None
    ask(motors, codec.special(1, codec.DISABLE, False))
    assert ask(motors, codec.save(1, False)) is not None
    brown_out(motors, 1000)
    assert codec.register(ask(motors, codec.read(1, registers.TIMEOUT, False)).data, 1) == (registers.TIMEOUT, 400)


def test_a_brown_out_disables(motors):
    enabled(motors)
    brown_out(motors, 1000)
    assert status_of(motors, now_us=1000) == codec.DISABLED


def test_a_read_only_register_keeps_its_value(motors):
    before = ask(motors, codec.read(1, registers.SW_VER, False)).data
    ask(motors, codec.write(1, registers.SW_VER, 99, False))
    assert ask(motors, codec.read(1, registers.SW_VER, False)).data == before


def test_zero_here_makes_it_say_zero_and_needs_a_disabled_motor(motors):
    motors.plant.position[0] = 1.0
    enabled(motors)
    ask(motors, codec.special(1, codec.SET_ZERO, False))
    assert codec.state(ask(motors, codec.refresh(1, False)).data, DM8009).position_rad == pytest.approx(1.0, abs=1e-3)
    ask(motors, codec.special(1, codec.DISABLE, False))
    ask(motors, codec.special(1, codec.SET_ZERO, False))
    assert codec.state(ask(motors, codec.refresh(1, False)).data, DM8009).position_rad == pytest.approx(0.0, abs=1e-3)


def test_the_gripper_pushes_no_harder_and_moves_no_faster_than_told(motors):
    scale = MODELS["dm4310"]
    enabled(motors, 8)
    start_rad = float(motors.plant.position[7])
    motors.plant.stuck[7] = True
    closing = codec.frame(0x308, codec.force_position(8, scale, 0.0, 0.5, 2.0), False)
    run(motors, 0, 1_500_000, closing)
    assert motors.plant.effort[7] == pytest.approx(2.0, abs=0.01)
    motors.plant.stuck[7] = False
    ask(motors, codec.special(8, codec.DISABLE, False), 1_500_000)
    motors.plant.position[7], motors.plant.velocity[7] = start_rad, 0.0
    enabled(motors, 8, 1_500_000)
    run(motors, 1_500_000, 2_000_000, closing)
    assert 0.1 < motors.plant.position[7] - start_rad < 0.3  # 0.5 s at 0.5 rad/s


def test_a_frame_of_another_mode_is_not_answered(motors):
    assert ask(motors, codec.frame(0x301, codec.force_position(1, DM8009, 0.0, 1.0, 1.0), False)) is None
    assert ask(motors, codec.frame(8, codec.mit(8, MODELS["dm4310"], 0.0), False)) is None
    assert motors.report()["foreign"] == 2


def test_a_position_that_is_no_number_moves_nothing(motors):
    enabled(motors, 8)
    ask(motors, Frame(0x308, struct.pack("<fHH", float("nan"), 100, 100)))
    assert motors.plant.kp[7] == 0.0


@pytest.mark.parametrize(
    "strange",
    [
        Frame(0x123, bytes(8)),
        Frame(1, bytes(7)),
        Frame(1, bytes(8), extended=True),
        Frame(0x7FF, bytes.fromhex("6300cc0000000000")),
        Frame(0x7FF, bytes.fromhex("0100770900000000")),
        Frame(0x7FF, bytes.fromhex("010033f000000000")),
    ],
)
def test_what_is_not_for_them_is_not_answered(motors, strange):
    assert ask(motors, strange) is None
    assert motors.report()["foreign"] == 1


def test_an_option_it_does_not_know_is_refused():
    with pytest.raises(BridgeError, match="reply_delay_us"):
        make(JOINTS, plant_of(list(JOINTS), 0.2), {"speed": 1})
