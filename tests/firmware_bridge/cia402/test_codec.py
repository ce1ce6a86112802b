"""CANopen's bytes. Literals: CiA 301 (NMT `01 id`, SYNC 0x080 empty, heartbeat 0x700 + id, SDO `40 index sub`, abort
0x80) and CiA 402-2 (controlwords 06, 07, 0F, 80; statuswords 0x0231 ready, 0x0237 enabled, 0x0218 fault)."""

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Fault
from firmware_bridge.cia402 import codec, sentences, states
from firmware_bridge.cia402.states import State
from firmware_bridge.errors import BadSetpoint
from firmware_bridge.transport.base import Frame
from tests.firmware_bridge.cia402.arms import COUNTS_PER_RAD, JOINTS


@pytest.mark.parametrize(
    ("frame", "can_id", "data"),
    [
        (codec.SYNC, 0x080, ""),
        (codec.nmt(codec.START, 5), 0x000, "01 05"),
        (codec.nmt(codec.PRE_OPERATIONAL, 127), 0x000, "80 7f"),
        (codec.heartbeat(127), 0x77F, "05"),
        (codec.command(1, states.ENABLE, 1000), 0x201, "0f 00 e8 03 00 00"),
        (codec.command(6, states.QUICK_STOP, -1), 0x206, "02 00 ff ff ff ff"),
        (codec.upload_request(3, 0x1018, 1), 0x603, "40 18 10 01 00 00 00 00"),
    ],
)
def test_frame_has_the_bytes_of_the_standard(frame, can_id, data):
    assert (frame.id, frame.data) == (can_id, bytes.fromhex(data))


def test_half_a_turn_is_half_the_counts():
    (frame,) = codec.command_frames([0x201], 0x0F, [math.pi], [COUNTS_PER_RAD])
    assert frame == Frame(0x201, bytes.fromhex("0f 00 00 80 00 00"))


@given(st.floats(-2.0e5, 2.0e5))
def test_position_returns_from_a_round_trip_within_half_a_count(value_rad):
    (frame,) = codec.command_frames([0x201], 0x0F, [value_rad], [COUNTS_PER_RAD])
    back = codec.COMMAND.unpack(frame.data)[1] / COUNTS_PER_RAD
    assert abs(back - value_rad) <= 0.5 / COUNTS_PER_RAD + 1e-9


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.1e5 * 2, -2.1e5 * 2])
def test_value_that_int32_counts_cannot_carry_is_refused(value):
    with pytest.raises(BadSetpoint, match="607A"):
        codec.command_frames([0x201], 0x0F, [value], [COUNTS_PER_RAD])


def test_ends_of_int32_are_exact():
    assert codec.counts(-(2**31), 1.0) == -(2**31)
    assert codec.counts(2**31 - 2, 1.0) == 2**31 - 2
    with pytest.raises(BadSetpoint):
        codec.counts(2**31 - 1, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: codec.node_id(0),
        lambda: codec.node_id(128),
        lambda: codec.nmt(3, 1),
        lambda: codec.command(1, 0x10000, 0),
        lambda: codec.command(1, 0, 2**31),
    ],
)
def test_what_a_field_cannot_carry_is_refused(make):
    with pytest.raises(BadSetpoint):
        make()


def test_emergency_of_a_lost_heartbeat():
    found = codec.emergency(bytes.fromhex("30 81 11 00 00 00 00 00"))
    assert found == (0x8130, 0x11, bytes(5))
    assert sentences.faults_of(found.code) == Fault.WATCHDOG
    assert codec.emergency(bytes(7)) is None


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        (Frame(0x581, bytes.fromhex("43 00 10 00 92 01 02 00")), 0x00020192),
        (Frame(0x581, bytes.fromhex("4f 00 10 00 08 ff ff ff")), 8),
        (Frame(0x581, bytes.fromhex("42 00 10 00 01 02 03 04")), 0x04030201),  # size not said
        (Frame(0x581, bytes.fromhex("41 00 10 00 05 00 00 00")), None),  # segmented
        (Frame(0x581, bytes.fromhex("43 18 10 01 92 01 02 00")), None),  # another object
        (Frame(0x581, bytes.fromhex("80 00 10 00 00 00 02 06")), None),
        (Frame(0x601, bytes.fromhex("43 00 10 00 92 01 02 00")), None),
        (Frame(0x581, bytes(7)), None),
        (Frame(0x581, bytes.fromhex("43 00 10 00 92 01 02 00"), extended=True), None),
    ],
)
def test_expedited_answers_are_read(frame, value):
    assert codec.uploaded(frame, 0x1000, 0) == value


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (codec.SYNC, "sync"),
        (Frame(0x080, b"\x05"), "sync, counter 5"),
        (Frame(0x000, bytes((1, 0))), "nmt to all nodes: start"),
        (Frame(0x000, bytes((0x81, 3))), "nmt to node 3: reset the node"),
        (Frame(0x000, bytes((9, 3))), "unknown command 0x09"),
        (Frame(0x000, b"\x01"), "wrong length"),
        (Frame(0x201, bytes.fromhex("0f 00 e8 03 00 00")), "node 1: rpdo1 controlword 000F (enable operation), targ"),
        (Frame(0x201, bytes.fromhex("05 00 e8 03 00 00")), "no command of CiA 402"),
        (Frame(0x181, bytes.fromhex("37 02 e8 03 00 00")), "(operation enabled: follows its target), position 1000"),
        (Frame(0x181, bytes.fromhex("01 00 e8 03 00 00")), "no state"),
        (Frame(0x281, bytes.fromhex("00 00 01 00 f6 ff")), "velocity 65536 counts/s, torque -1 % of rated"),
        (Frame(0x381, b"\x01\x02"), "node 1: tpdo3 01 02"),
        (Frame(0x381, b""), "node 1: tpdo3 empty"),
        (Frame(0x081, bytes.fromhex("11 86 20 00 00 00 00 00")), "following error too large (EMCY 8611), register 0x"),
        (Frame(0x081, b"\x00"), "emcy ? 00"),
        (Frame(0x701, b"\x00"), "node 1: heartbeat boot-up"),
        (Frame(0x701, b"\x63"), "unknown state 0x63"),
        (Frame(0x701, b"", remote=True), "node 1: heartbeat asked for"),
        (Frame(0x601, bytes.fromhex("2f 60 60 00 08 00 00 00")), "sdo request write 6060:00 = 08"),
        (Frame(0x581, bytes.fromhex("60 60 60 00 00 00 00 00")), "sdo answer written 6060:00"),
        (Frame(0x601, bytes.fromhex("40 41 60 00 00 00 00 00")), "sdo request read 6041:00"),
        (Frame(0x581, bytes.fromhex("4b 41 60 00 37 02 00 00")), "sdo answer read 6041:00 = 0237"),
        (Frame(0x581, bytes.fromhex("42 41 60 00 37 02 00 00")), "sdo answer read 6041:00 = 00000237"),
        (Frame(0x581, bytes.fromhex("80 41 60 00 02 00 01 06")), "abort 6041:00: the object can only be read (SDO abo"),
        (Frame(0x581, bytes.fromhex("01 41 42 43 44 45 46 47")), "segment or block"),
        (Frame(0x581, b"\x60"), "sdo answer 60"),
        (Frame(0x77F, b""), "heartbeat empty"),
        (Frame(0x780, b""), "not of the pre-defined connection set"),
        (Frame(0x200, bytes(6)), "not of the pre-defined connection set"),
        (Frame(0x201, b"", extended=True), "not CANopen"),
        (b"\x01", "no CAN frame: 01"),
    ],
)  # fmt: skip
def test_any_frame_is_explained_in_words(unit, words):
    assert words in codec.describe(unit)


@given(st.integers(0, 0x1FFF_FFFF), st.binary(max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_garbage_never_raises(can_id, data, extended, fd, remote):
    frame = Frame(can_id, data, extended, fd, False, remote)
    assert codec.describe(frame)
    codec.uploaded(frame, 0x1000, 0)
    codec.emergency(data)


def test_cycle_is_two_pdos_a_joint_and_a_sync():
    """47 + 8n bits: PDO of six bytes 95, SYNC 47; 842 Hz at most for six joints at 1 Mbit."""
    assert codec.cycle_ns(JOINTS, 1_000_000) == (6 * 2 * 95 + 47) * 1000 == 1_187_000
    assert codec.cycle_ns(JOINTS, 1_000_000, motion=True) == (6 * 3 * 95 + 47) * 1000


@pytest.mark.parametrize(
    ("statusword", "state"),
    [
        (0x0200, State.NOT_READY),
        (0x0250, State.SWITCH_ON_DISABLED),
        (0x0231, State.READY),
        (0x0233, State.SWITCHED_ON),
        (0x1237, State.OPERATION_ENABLED),
        (0x0217, State.QUICK_STOP),
        (0x021F, State.FAULT_REACTION),
        (0x0218, State.FAULT),
        (0x0001, None),
    ],
)
def test_statusword_tells_the_state(statusword, state):
    assert states.state_of(statusword) is state


def test_each_state_goes_up_one_transition_and_faults_are_reset_by_an_edge():
    assert states.towards_enabled(State.SWITCH_ON_DISABLED, 0) == 0x06
    assert states.towards_enabled(State.READY, 6) == 0x07
    assert states.towards_enabled(State.SWITCHED_ON, 7) == 0x0F
    assert states.towards_enabled(State.QUICK_STOP, 2) == 0x0F
    assert states.towards_enabled(State.FAULT, 0x0F) == 0x80
    assert states.towards_enabled(State.FAULT, 0x80) == 0x00
    assert states.towards_enabled(State.NOT_READY, 0) == states.towards_enabled(None, 0) == 0x00


def test_stopped_means_no_torque_unless_it_is_to_hold():
    assert states.stopped(State.QUICK_STOP, hold=True)
    assert not states.stopped(State.QUICK_STOP, hold=False)
    assert states.stopped(State.SWITCH_ON_DISABLED, hold=False)
    assert not states.stopped(State.OPERATION_ENABLED, hold=True)
    assert not states.stopped(None, hold=True)


def test_every_code_has_a_sentence():
    assert sentences.sentence(0) == "no error"
    assert sentences.sentence(0x2311) == "current (EMCY 2311)"  # its family
    assert sentences.sentence(0xA000) == "unknown error (EMCY A000)"
    assert "restarted" in sentences.sentence(sentences.BOOTED)
    assert sentences.faults_of(0x3211) == Fault.VOLTAGE
    assert sentences.faults_of(0) == Fault.NONE
    assert sentences.abort(0x06090030) == "value out of the object's range (SDO abort 06090030)"
    assert sentences.abort(1) == "unknown abort code (SDO abort 00000001)"


def test_status_and_command_have_six_bytes():
    assert (codec.COMMAND.size, codec.STATUS.size, codec.MOTION.size) == (6, 6, 6)
    assert struct.calcsize("<Hi") == 6


def test_committed_corpus_of_the_fuzzer_is_explained_without_an_exception():
    files = sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "cia402").iterdir())
    assert 10 <= len(files) <= 50
    for file in files:
        word, payload = int.from_bytes(file.read_bytes()[:2], "big"), file.read_bytes()[2:]
        assert len(payload) <= 198
        frame = Frame(word & 0xFFF, payload, bool(word & 0x1000), bool(word & 0x2000), False, bool(word & 0x4000))
        assert codec.describe(frame)
