"""The virtual ODrive without a bus: what its firmware does with frames and time."""

import json
import math

import pytest

from firmware_bridge.odrive import codec
from firmware_bridge.odrive.board import PARAMETERS, flat_endpoints
from firmware_bridge.odrive.codec import CLOSED_LOOP, IDLE, Command
from firmware_bridge.odrive.virtual import make
from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.__main__ import plant_of
from tests.firmware_bridge.odrive.arms import ENDPOINTS, JOINTS

WATCHDOG_ON, WATCHDOG_S = (PARAMETERS[f"axis0.config.{name}"][0] for name in ("enable_watchdog", "watchdog_timeout"))


@pytest.fixture
def device():
    return make(JOINTS, plant_of(list(JOINTS), 0.2), {})


def tell(device, command, *values, node=1, now_us=0):
    return device.feed(codec.encode(node, command, *values), now_us)


def ask(device, command, node=1, now_us=0):
    (reply,) = device.feed(codec.request(node, command), now_us)
    return codec.decode(reply.data).values


def watch(device, seconds):
    device.feed(codec.write_parameter(1, WATCHDOG_S, "float", seconds), 0)
    device.feed(codec.write_parameter(1, WATCHDOG_ON, "bool", True), 0)


def test_endpoint_file_of_the_tests_is_the_one_of_the_device():
    assert json.loads(ENDPOINTS.read_text()) == flat_endpoints()


def test_watchdog_is_off_at_the_factory(device):
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP)
    device.tick(60_000_000)
    assert device.axes[0].state == CLOSED_LOOP


def test_watchdog_lets_the_motor_go_and_latches(device):
    watch(device, 0.1)
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP)
    device.tick(99_000)
    assert device.axes[0].state == CLOSED_LOOP
    device.tick(101_000)
    assert (device.axes[0].state, device.axes[0].errors) == (IDLE, 0x0100_0000)
    assert not device.plant.torque_on[0]
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP, now_us=102_000)
    assert device.axes[0].state == IDLE  # until the errors are cleared
    tell(device, Command.CLEAR_ERRORS, 0, now_us=103_000)
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP, now_us=103_000)
    assert device.axes[0].state == CLOSED_LOOP


def test_questions_do_not_feed_the_watchdog_and_commands_do(device):
    watch(device, 0.1)
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP)
    tell(device, Command.SET_INPUT_POS, 0.0, 0, 0, now_us=90_000)
    ask(device, Command.GET_ENCODER_ESTIMATES, now_us=150_000)
    assert device.axes[0].state == CLOSED_LOOP
    ask(device, Command.GET_ENCODER_ESTIMATES, now_us=191_000)
    assert device.axes[0].state == IDLE


def test_closed_loop_starts_where_the_joint_is(device):
    at = float(device.plant.position[0])
    tell(device, Command.SET_INPUT_POS, 3.0, 0, 0)
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP)
    assert device.plant.target[0] == at


def test_parameters_are_lost_with_the_power_unless_saved(device):
    watch(device, 0.5)
    device.power(False, 1)
    device.power(True, 2)
    assert device.axes[0].parameters["axis0.config.watchdog_timeout"] == 0.0
    watch(device, 0.5)
    tell(device, Command.REBOOT, codec.SAVE)
    tell(device, Command.REBOOT, codec.REBOOT)
    assert device.axes[0].parameters["axis0.config.watchdog_timeout"] == 0.5


def test_without_power_it_is_silent_and_loose(device):
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP)
    device.power(False, 1)
    assert device.feed(codec.request(1, Command.GET_VERSION), 2) == []
    assert device.tick(3) == []
    assert not device.plant.torque_on.any()


def test_cyclic_messages_come_at_their_rates(device):
    heard = [codec.decode(reply.data).command for t in range(0, 1_000_000, 1000) for reply in device.tick(t)]
    assert heard.count(Command.HEARTBEAT) == 6 * 10
    assert heard.count(Command.GET_ENCODER_ESTIMATES) == 6 * 100


@pytest.mark.parametrize(("name", "bit"), [("overload", 0x1000), ("overheat", 0x2000), ("voltage", 0x200)])
def test_fault_disarms_and_says_why(device, name, bit):
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP)
    device.fault(0, name)
    assert ask(device, Command.GET_ERROR) == (bit, bit)
    assert ask(device, Command.HEARTBEAT)[1] == IDLE


def test_unknown_fault_is_refused(device):
    with pytest.raises(ValueError, match="spinout"):
        device.fault(0, "lightning")


def test_emergency_stop_latches(device):
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP)
    tell(device, Command.ESTOP)
    assert ask(device, Command.GET_ERROR)[0] == 0x0200_0000


def test_broken_and_foreign_frames_are_dropped(device):
    before = device.report()["commands"]
    for frame in (
        Frame(0x02C, bytes(7)),
        Frame(0x02C, bytes(8), extended=True),
        Frame(0x40C, bytes(8)),  # node 32
        Frame(0x028, b"", remote=True),
    ):
        assert device.feed(frame, 0) == []
    assert device.report()["commands"] == before


def test_values_that_are_no_numbers_move_nothing(device):
    target = device.plant.target.copy()
    device.feed(Frame(0x02C, b"\x00\x00\xc0\x7f" + bytes(4)), 0)
    assert device.report()["bad_values"] == 1
    assert (device.plant.target == target).all()


def test_broadcast_question_for_addresses_is_answered_by_all(device):
    replies = device.feed(codec.request(codec.BROADCAST, Command.ADDRESS), 0)
    assert [codec.decode(reply.data).values[0] for reply in replies] == [1, 2, 3, 4, 5, 6]


def test_velocity_control_at_rest_damps_without_a_target(device):
    tell(device, Command.SET_AXIS_STATE, CLOSED_LOOP)
    tell(device, Command.SET_CONTROLLER_MODE, codec.VELOCITY_CONTROL, codec.PASSTHROUGH)
    tell(device, Command.SET_INPUT_VEL, 0.0, 0.0)
    assert (device.plant.kp[0], device.plant.target_velocity[0]) == (0.0, 0.0)


def test_unknown_endpoint_is_not_answered(device):
    assert device.feed(codec.read_parameter(1, 9999), 0) == []


def test_infinite_torque_limit_is_reported_as_a_number(device):
    (reply,) = device.feed(codec.read_parameter(1, PARAMETERS["axis0.config.torque_soft_max"][0]), 0)
    assert math.isfinite(codec.parameter(codec.decode(reply.data).values[1], "float"))
