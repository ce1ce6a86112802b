"""The servo loop's short way through the frames, held against the codec: the same bytes, the same values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Fault
from firmware_bridge.bus_arm import Reading
from firmware_bridge.damiao import codec, cycle, registers
from firmware_bridge.damiao.models import MODELS, scale_of
from firmware_bridge.errors import BadSetpoint
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame
from tests.firmware_bridge.damiao.arms import GRIPPER, JOINTS

ALL = (*JOINTS, GRIPPER)
SCALES = [scale_of(joint.model) for joint in ALL]
TABLE = cycle.senders([joint.id for joint in ALL], [joint.reply_id for joint in ALL], SCALES)
ENABLED_FRAME = Frame(0x11, bytes.fromhex("118ce07ff8012a1f"))  # the bytes of LeRobot's in test_codec.py


def read(frames, armed=True, statuses=None):
    return cycle.readings(frames, TABLE, armed, [0] * len(ALL) if statuses is None else statuses)


def by_the_codec(frame, armed):
    """The long way: who it is, then `codec.register`, then `codec.state`."""
    if frame.extended or frame.remote or len(frame.data) != 8:
        return []
    for i, joint in enumerate(ALL):
        if frame.id == joint.reply_id and frame.data[0] & 15 == joint.id & 15:
            said = codec.state(frame.data, SCALES[i])
            if codec.register(frame.data, joint.id) is not None:
                return []
            off = armed and said.status == codec.DISABLED
            faults = int(Fault.RESET) if off else codec.FAULT_BITS[said.status]
            code = 0 if said.status == codec.ENABLED else said.status
            return [Reading(i, *said[2:5], max(said.mos_c, said.rotor_c), faults, code)]
    return []


def test_a_state_is_what_lerobot_reads_from_it():
    (said,) = read([ENABLED_FRAME])
    assert said.joint == 0
    assert said.position_rad == pytest.approx(math.radians(72.05139893372855), abs=1e-9)  # dm8009: PMAX 12.5 too
    assert (said.temperature_c, said.faults, said.code) == (42, 0, 0)


@pytest.mark.parametrize("armed", [False, True])
@pytest.mark.parametrize("status", [codec.ENABLED, codec.DISABLED, codec.LOST, 0x3])
@pytest.mark.parametrize("fd", [False, True], ids=["can", "fd"])
def test_any_flipped_bit_reads_as_the_codec_reads_it(status, armed, fd):
    data = codec.state_data(3, status, SCALES[2], 0.4, -0.1, 1.0, 40, 50)
    raw = kernel_can.pack(Frame(0x13, data, False, fd, fd))
    taken = 0
    for bit in range(8 * len(raw)):
        spoiled = bytearray(raw)
        spoiled[bit // 8] ^= 1 << bit % 8
        frame, _ = kernel_can.unpack(bytes(spoiled))
        if frame is not None:
            assert read([frame], armed) == by_the_codec(frame, armed)
            taken += bool(read([frame], armed))
    assert taken >= 64 - 3  # of the data, none but bits of the motor's own id make it a stranger's


@given(st.sampled_from(ALL), st.binary(min_size=8, max_size=8), st.booleans())
def test_any_eight_bytes_read_as_the_codec_reads_them(joint, data, armed):
    frame = Frame(joint.reply_id, bytes([data[0] & 0xF0 | joint.id]) + data[1:])
    assert read([frame], armed) == by_the_codec(frame, armed)


def test_a_late_answer_about_a_register_is_no_state():
    for question in (codec.read(3, registers.TIMEOUT, False), codec.write(3, registers.TIMEOUT, 2000, False)):
        assert read([Frame(0x13, question.data)]) == []


@pytest.mark.parametrize(
    "strange",
    [
        Frame(0x14, ENABLED_FRAME.data),
        Frame(0x11, ENABLED_FRAME.data[:7]),
        Frame(0x11, b""),
        Frame(0x11, ENABLED_FRAME.data, extended=True),
        Frame(0x11, b"", remote=True),
        Frame(0x11, ENABLED_FRAME.data + bytes(4), fd=True),
    ],
)
def test_a_strangers_frame_is_nobodys_and_changes_no_status(strange):
    statuses = [codec.LOST] * len(ALL)
    assert read([strange], statuses=statuses) == []
    assert statuses == [codec.LOST] * len(ALL)
    assert cycle.whose(strange, TABLE) is None


def test_statuses_are_what_each_motor_said_last():
    statuses = [codec.DISABLED] * len(ALL)
    off = Frame(0x12, codec.state_data(2, codec.ROTOR_HOT, SCALES[1], 0.0, 0.0, 0.0, 30, 99))
    assert [reading.joint for reading in read([ENABLED_FRAME, off], statuses=statuses)] == [0, 1]
    assert statuses[:3] == [codec.ENABLED, codec.ROTOR_HOT, codec.DISABLED]
    assert cycle.whose(off, TABLE) == 1


def test_two_motors_that_would_say_the_same_share_entries():
    same = cycle.senders([1, 17], [0x11, 0x11], SCALES[:2])  # ids alike in their lowest four bits
    assert len(same) == 16
    assert len(cycle.senders([1, 2], [0, 0], SCALES[:2])) == 32  # MST_ID 0, as delivered: told by the first byte


@given(st.sampled_from(sorted(MODELS.values())), st.floats(-1.0, 1.0), st.booleans())
def test_a_command_is_the_codecs_frame(scale, share, fd):
    q = share * scale.pmax_rad
    tail = codec.mit_tail(5, scale, 0.0, 24.0, 0.3, 0.1)
    frame = cycle.mit_command(5, scale, tail, fd)(q)
    assert frame == codec.frame(5, codec.mit(5, scale, q, 0.0, 24.0, 0.3, 0.1), fd)
    forced = cycle.force_command(5, scale, 2.0, 0.5, fd)(q)
    assert forced == codec.frame(0x305, codec.force_position(5, scale, q, 2.0, 0.5), fd)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 12.6, -12.6])
def test_what_the_field_cannot_carry_never_becomes_a_frame(bad):
    scale = MODELS["dm4310"]
    tail = codec.mit_tail(5, scale, 0.0, 24.0, 0.3, 0.0)
    for command in (cycle.mit_command(5, scale, tail, False), cycle.force_command(5, scale, 2.0, 0.5, False)):
        with pytest.raises(BadSetpoint, match=r"position for motor 5 refused before the wire"):
            command(bad)
