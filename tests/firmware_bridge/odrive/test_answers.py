"""What the driver makes of each frame that arrives, without a bus: the quick way reads as the codec does."""

import math
import struct

import pytest

from firmware_bridge.arm import Fault, Mode
from firmware_bridge.odrive import codec, models
from firmware_bridge.odrive.codec import TURN_RAD, Command
from firmware_bridge.odrive.driver import ODriveArm
from firmware_bridge.transport.base import Frame
from tests.firmware_bridge.odrive.arms import JOINTS

# Get_Encoder_Estimates of node 3 (0x069): 0.25 turns, -1 turn/s; Get_Torques of node 3 (0x07C): 0.5 and 0.75 N m
ESTIMATES = Frame(0x069, bytes.fromhex("00 00 80 3e 00 00 80 bf"))
TORQUES = Frame(0x07C, bytes.fromhex("00 00 00 3f 00 00 40 3f"))


class Line:
    """Hands over `arrived` once."""

    name = "line"

    def __init__(self):
        self.arrived = []

    def read(self):
        frames, self.arrived = self.arrived, []
        return frames


def heartbeat(node, error=0, state=codec.CLOSED_LOOP):
    return Frame(codec.can_id(node, Command.HEARTBEAT), struct.pack("<IBBBx", error, state, 0, 0))


@pytest.fixture
def arm():
    made = ODriveArm(Line(), JOINTS)
    assert heard(made, *(heartbeat(joint.id) for joint in JOINTS)) == []
    return made


@pytest.fixture
def effort_arm():
    made = ODriveArm(Line(), JOINTS, None, {"effort": True})
    heard(made, *(heartbeat(joint.id) for joint in JOINTS))
    return made


def heard(arm, *frames):
    arm.transport.arrived = list(frames)
    return list(arm._readings())


def flipped():
    """An answer with each single bit of its identifier and its data turned round, and of other lengths and kinds."""
    for bit in range(11):
        yield ESTIMATES._replace(id=ESTIMATES.id ^ 1 << bit)
    for bit in range(64):
        yield ESTIMATES._replace(data=(int.from_bytes(ESTIMATES.data, "little") ^ 1 << bit).to_bytes(8, "little"))
    for length in (*range(8), 12, 64):
        yield ESTIMATES._replace(data=bytes(length), fd=length > 8)
    for kind in ("extended", "fd", "remote"):
        yield ESTIMATES._replace(**{kind: True})


def by_the_codec(frame):
    """Joint, rad and rad/s of an answer; None for what is none of these joints'."""
    message = codec.decode(frame)
    nodes = [joint.id for joint in JOINTS]
    if message is None or message.command is not Command.GET_ENCODER_ESTIMATES or message.node not in nodes:
        return None
    return nodes.index(message.node), message.values[0] * TURN_RAD, message.values[1] * TURN_RAD


def test_an_answer_is_the_angle_and_the_rate_of_its_joint(arm):
    (reading,) = heard(arm, ESTIMATES)
    assert reading[:3] == (2, math.pi / 2, -2 * math.pi)
    assert math.isnan(reading.effort_nm)
    assert math.isnan(reading.temperature_c)
    assert reading[5:] == (Fault.NONE, 0)


@pytest.mark.parametrize("frame", list(flipped()), ids=str)
def test_a_frame_with_one_bit_turned_round_reads_as_the_codec_reads_it(arm, frame):
    before, found, expected = arm.counts.foreign, heard(arm, frame), by_the_codec(frame)
    if expected is None:
        beat = codec.decode(frame)
        known = beat is not None and beat.command is Command.HEARTBEAT  # 0x069 is one bit from 0x061
        assert (found, arm.counts.foreign - before) == ([], 0 if known else 1)
    else:
        assert [repr(reading[:3]) for reading in found] == [repr(expected)]
        assert arm.counts.foreign == before


def test_with_effort_an_answer_is_two_frames_and_each_counts_once(effort_arm):
    assert heard(effort_arm, TORQUES) == []  # before its position: of an earlier cycle
    (reading,) = heard(effort_arm, ESTIMATES, TORQUES)
    assert reading[:4] == (2, math.pi / 2, -2 * math.pi, 0.75)
    assert heard(effort_arm, TORQUES) == []
    assert effort_arm.counts.foreign == 2


def test_without_effort_torques_are_nobodys_answer(arm):
    assert heard(arm, TORQUES) == []
    assert arm.counts.foreign == 1


def test_a_spoiled_heartbeat_is_nobodys_and_changes_nothing(arm):
    assert heard(arm, Frame(0x061, bytes(7)), Frame(0x061, bytes(8), remote=True)) == []
    assert arm.counts.foreign == 2
    assert heard(arm, ESTIMATES)[0].faults == Fault.NONE


def test_an_error_of_a_heartbeat_is_the_fault_of_its_joint_until_it_is_gone(arm):
    heard(arm, heartbeat(3, error=0x2000, state=1))
    (reading,) = heard(arm, ESTIMATES)
    assert (reading.faults, reading.code) == (Fault.OVERHEAT, 0x2000)
    heard(arm, heartbeat(3, state=1))
    assert heard(arm, ESTIMATES)[0].code == 0


def test_an_armed_axis_that_left_closed_loop_stays_a_fault_until_it_is_armed_again(arm):
    arm.mode = Mode.ARMED
    heard(arm, heartbeat(3, state=codec.IDLE), heartbeat(3))
    (reading,) = heard(arm, ESTIMATES)
    assert (reading.faults, reading.code) == (Fault.RESET, models.LOST_CLOSED_LOOP)


def silent_for_long(arm, *joints):
    """As if the newest heartbeats of these joints (indices) had come when the machine started."""
    arm._beats.patience_ns = 3_600_000_000_000  # an hour: what comes now is new on any machine
    for joint in joints:
        arm._beats._came_ns[joint] = -arm._beats.patience_ns
    arm._beats._oldest_ns = min(arm._beats._came_ns)


def test_heartbeats_that_lie_behind_the_answers_are_not_missing(arm):
    silent_for_long(arm, *range(6))  # the host slept: what came meanwhile is read at once
    (reading,) = heard(arm, ESTIMATES, *(heartbeat(joint.id) for joint in JOINTS))
    assert reading.faults == Fault.NONE
    silent_for_long(arm, *range(6))
    (reading,) = heard(arm, ESTIMATES)
    assert (reading.faults, reading.code) == (Fault.OTHER, models.NO_HEARTBEAT)


def test_one_axis_without_heartbeat_is_the_one_that_is_named(arm):
    silent_for_long(arm, 2)
    second = ESTIMATES._replace(id=codec.can_id(2, Command.GET_ENCODER_ESTIMATES))
    assert [reading.code for reading in heard(arm, second, ESTIMATES)] == [0, models.NO_HEARTBEAT]
