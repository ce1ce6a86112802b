"""moteus frames, byte for byte. Sources: docs/protocol/can.md (its example frame), docs/protocol/registers.md."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.errors import BadSetpoint, ForeignBytes
from firmware_bridge.moteus import codec
from firmware_bridge.moteus import registers as reg
from firmware_bridge.moteus.codec import REV, Gains, PositionCommand, Status
from firmware_bridge.moteus.registers import FLOAT, INT8, INT16, INT32, SENTENCES, Mode, Register
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.kernel_can import FD_LENGTHS
from tests.firmware_bridge.moteus.arms import JOINTS

GAINS = Gains(0.5, 0.25, 0.1, 2.5)
# mode 10; six floats from 0x20: 0.25 rev, 0, 0.1 N m, 0.5, 0.25, 2.5 N m; 0x27 = 0.1 s; the question; NOPs to 48
FLOATS = "01000a 0c0620 0000803e 00000000 cdcccc3d 0000003f 0000803e 00002040 0d27cdcccc3d 1100 1f01 130d 505050505050"
# the same in int16: 2500 x 0.0001 rev, 10 x 0.01 N m, 16383 / 32767, 8191 / 32767, 250 x 0.01 N m, 100 x 0.001 s
INT16S = "01000a 040620 c409 0000 0a00 ff3f ff1f fa00 05276400 1100 1701 130d 50505050"
DOC_COMMAND = "01000a07206000200150ff140400130d"
DOC_REPLY = "2404000a005000000170ff230d181400"


def test_a_position_with_its_question_in_floats():
    command = PositionCommand(GAINS, 0.1, FLOAT, codec.query(FLOAT))
    assert command.data(REV / 4) == bytes.fromhex(FLOATS)


def test_a_position_with_its_question_in_int16():
    command = PositionCommand(GAINS, 0.1, INT16, codec.query(INT16))
    assert command.data(REV / 4) == bytes.fromhex(INT16S)


def test_without_a_watchdog_its_register_is_nan():
    command = PositionCommand(Gains(), None, FLOAT)
    assert bytes.fromhex("0d270000c07f") in command.data(0.0)
    assert bytes.fromhex("05270080") in PositionCommand(Gains(), None, INT16).data(0.0)


def test_identifiers_carry_source_destination_and_the_wish_for_an_answer():
    assert codec.frame(1, b"\x11\x00") == Frame(0x8001, b"\x11\x00", True, True, True)
    assert codec.frame(1, b"\x11\x00", reply=False) == Frame(0x0001, b"\x11\x00", False, True, True)
    assert codec.frame(0x7E, b"", reply=False, source=0x10) == Frame(0x107E, b"", True, True, True)


@pytest.mark.parametrize("length", range(65))
def test_frames_are_padded_with_nop_to_a_length_that_can_fd_has(length):
    data = codec.frame(1, bytes(length)).data
    assert len(data) in FD_LENGTHS
    assert data == bytes(length) + b"\x50" * (len(data) - length)


def test_stop_brake_and_zero_velocity_write_the_mode_alone():
    assert codec.mode(Mode.STOPPED) == bytes.fromhex("010000")
    assert codec.mode(Mode.BRAKE) == bytes.fromhex("01000f")
    assert codec.mode(Mode.ZERO_VELOCITY) == bytes.fromhex("01000c")


def test_stay_within_writes_its_bounds_and_the_rest():
    data = codec.stay_within(-REV, None, Gains(), 0.5)
    # mode 13; seven floats from 0x40: -1 rev, none, 0 N m, 1, 1, own maximum, 0.5 s
    expected = "01000d 0c0740 000080bf 0000c07f 00000000 0000803f 0000803f 0000c07f 0000003f"
    assert data == bytes.fromhex(expected)


def test_questions_for_versions_and_the_timeout():
    assert bytes.fromhex("1b8002") == codec.IDENTIFY  # three int32 from 0x100, a varuint of two bytes
    assert bytes.fromhex("1100 1d27") == codec.READ_TIMEOUT


def test_diagnostic_text_and_the_question_for_more():
    assert codec.text_in(b"conf get x\n") == bytes.fromhex("40010b") + b"conf get x\n"
    assert codec.text_poll() == bytes.fromhex("420130")
    assert codec.text_out(bytes.fromhex("410102") + b"4\n" + b"\x50") == b"4\n"
    assert codec.text_out(bytes.fromhex("2100 00")) is None
    assert codec.text_out(bytes.fromhex("4101ff")) is None
    with pytest.raises(BadSetpoint, match="up to 61"):
        codec.text_in(bytes(62))


def test_the_example_of_the_documents_reads_as_they_say():
    assert codec.status(bytes.fromhex(DOC_REPLY)) == Status(10, 0.008, 0.064, -1.44, 12.0, 20.0, 0)
    command = list(codec.subframes(bytes.fromhex(DOC_COMMAND)))
    assert [(part.register, part.value) for part in command[:4]] == [(0, 10), (0x20, 96), (0x21, 288), (0x22, -176)]
    assert [part.register for part in command[4:]] == [0, 1, 2, 3, 0x0D, 0x0E, 0x0F]


def test_an_answer_in_floats():
    # mode 10, 0.25 rev, -1.5 rev/s, 2.0 N m, 24 V, -5 deg C, code 103
    data = bytes.fromhex("21000a 2f01 0000803e 0000c0bf 00000040 230d30fb67 5050")
    assert codec.status(data) == Status(10, 0.25, -1.5, 2.0, 24.0, -5.0, 103)


def test_an_answer_in_int16():
    data = bytes.fromhex("21000b 2701 c409 0000 9cff 230d 301f00")
    assert codec.status(data) == Status(11, 0.25, 0.0, -1.0, 24.0, 31.0, 0)


def test_the_negative_end_of_an_integer_is_not_a_number():
    status = codec.status(bytes.fromhex("210000 2701 0080 0080 0080 230d 808000"))
    assert status is not None
    assert all(math.isnan(value) for value in status[1:6])
    assert math.isnan(codec.scaled(-2147483648, 1.0, INT32))
    assert codec.scaled(-2147483648.0, 1.0, FLOAT) == -2147483648.0


@pytest.mark.parametrize(
    "data",
    [
        "",
        "50" * 24,
        "21000a 2f01 0000803e 0000c0bf 00000040 230d30fb67 5051",  # what is no padding
        "21000a 2f01 0000803e 0000c0bf 00000040 230d30fb67",  # a length CAN-FD does not have, but whole
        "21000a 2f02 0000803e 0000c0bf 00000040 230d30fb67 5050",  # registers 2..4
        "01000a 2f01 0000803e 0000c0bf 00000040 230d30fb67 5050",  # a write
        "2d00 0000c07f 2f01 0000803e 0000c0bf 00000040 230d30fb67",  # mode NaN
        "21000a 2701 c409 0000 9cff 230d 30",
    ],
)
def test_an_answer_that_is_not_whole_is_none(data):
    whole = "21000a 2f01 0000803e 0000c0bf 00000040 230d30fb67"
    assert (codec.status(bytes.fromhex(data)) is not None) == (data == whole)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 32769 * REV, -32769 * REV])
@pytest.mark.parametrize("resolution", [FLOAT, INT16])
def test_a_position_that_no_register_carries_is_refused(bad, resolution):
    with pytest.raises(BadSetpoint):
        PositionCommand(Gains(), 0.1, resolution).data(bad)


def test_int16_refuses_what_float_carries():
    with pytest.raises(BadSetpoint, match=r"3\.2767 revolutions"):
        PositionCommand(Gains(), 0.1, INT16).data(3.3 * REV)
    PositionCommand(Gains(), 0.1, FLOAT).data(3.3 * REV)


@pytest.mark.parametrize(
    ("gains", "watchdog_s"),
    [
        (Gains(kp_scale=1.1), 0.1),
        (Gains(kd_scale=-0.1), 0.1),
        (Gains(kp_scale=math.nan), 0.1),
        (Gains(torque_ff_nm=math.nan), 0.1),
        (Gains(torque_ff_nm=1e39), 0.1),
        (Gains(max_torque_nm=-1.0), 0.1),
        (Gains(max_torque_nm=math.inf), 0.1),
        (Gains(), 0.0),
        (Gains(), math.nan),
    ],
)
def test_gains_and_times_that_mean_something_else_are_refused(gains, watchdog_s):
    with pytest.raises(BadSetpoint):
        PositionCommand(gains, watchdog_s, FLOAT)


def test_int16_refuses_a_torque_beyond_its_register():
    with pytest.raises(BadSetpoint, match=r"327\.67"):
        PositionCommand(Gains(torque_ff_nm=400.0), 0.1, INT16)


@pytest.mark.parametrize("ids", [(0, 0), (0x80, 0), (1, 0x80)])
def test_identifiers_out_of_range_are_refused(ids):
    with pytest.raises(BadSetpoint):
        codec.frame(ids[0], b"", source=ids[1])


def test_more_than_a_frame_is_refused():
    with pytest.raises(BadSetpoint):
        codec.frame(1, bytes(65))


@given(st.floats(-32768.0, 32768.0))
def test_a_position_comes_back_within_a_float(rev):
    command = PositionCommand(Gains(), 0.1, FLOAT, codec.query(FLOAT)).data(rev * REV)
    sent = {part.register: part.value for part in codec.subframes(command) if part.kind == codec.WRITE}
    assert sent[Register.COMMAND_POSITION] == pytest.approx(rev, rel=1e-6, abs=1e-9)


@given(st.integers(0, 0x3FFF), st.integers(1, 12), st.sampled_from([INT8, INT16, INT32, FLOAT]), st.integers(-128, 127))
def test_written_registers_read_back(register, count, resolution, value):
    data = codec.write(register, [codec.number(value, resolution)] * count, resolution)
    found = list(codec.subframes(data))
    assert [part.register for part in found] == list(range(register, register + count))
    assert all((part.kind, part.resolution, part.value) == (codec.WRITE, resolution, value) for part in found)


@given(st.integers(0, 0x3FFF), st.integers(1, 12), st.sampled_from([INT8, INT16, INT32, FLOAT]))
def test_questions_read_back(register, count, resolution):
    found = list(codec.subframes(codec.read(register, count, resolution)))
    assert [(part.kind, part.register) for part in found] == [(codec.READ, register + i) for i in range(count)]


@given(st.floats(-1e6, 1e6) | st.just(math.nan), st.sampled_from([INT8, INT16, INT32, FLOAT]))
def test_what_a_device_sends_is_cut_off_and_never_breaks(value, resolution):
    raw = codec.saturated(value, 0.01, resolution)
    assert len(raw) == (1, 2, 4, 4)[resolution]
    codec.number(0.0 if math.isnan(value) else value, resolution)


@given(st.binary(max_size=64), st.integers(0, 0x1FFFFFFF))
def test_no_garbage_raises(data, can_id):
    assert isinstance(codec.describe(Frame(can_id, data, True, True)), str)
    codec.status(data)
    codec.text_out(data)


CORPUS = sorted((Path(__file__).parents[1] / "fuzz/corpus/moteus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_the_corpus_of_the_fuzzer_raises_nothing_and_reads_the_same_both_ways(path):
    data = path.read_bytes()[4:68]
    codec.text_out(data)
    assert "moteus" in codec.describe(Frame(0x8001, data, True, True, True))
    quick = codec.status(data)
    assert quick is None or quick == codec._status_of_any_layout(data)


@pytest.mark.parametrize("data", ["2000", "20ffffffffff0f", "2041 00", "60", "43", "3101", "2100", "20ff0100", "4001"])
def test_a_frame_that_is_none_is_foreign(data):
    with pytest.raises(ForeignBytes):
        assert list(codec.subframes(bytes.fromhex(data + "ff" * (data == "2000"))))


def test_an_empty_frame_has_no_registers():
    assert list(codec.subframes(b"\x50" * 8)) == []
    assert codec.values(b"") == {}


def test_frames_in_words():
    assert codec.describe(Frame(0x8001, bytes.fromhex(DOC_COMMAND), True, True, True)) == (
        "moteus 0 -> 1, answer wanted: mode = position; command_position = 0.0096 rev; command_velocity = 0.072 rev/s; "
        "feed_forward = -1.76 N m; asks mode; asks position; asks velocity; asks torque; asks voltage; "
        "asks temperature; asks fault"
    )
    assert codec.describe(Frame(0x100, bytes.fromhex("2301 010022"))).startswith("moteus 1 -> 0: position is 0.01 rev")
    assert codec.describe(Frame(0x100, bytes.fromhex("210f22"))) == (
        "moteus 1 -> 0: fault is the supply voltage is above servo.max_voltage: "
        "the supply cannot take back what braking returns"
    )
    refused = codec.describe(Frame(0x100, bytes.fromhex("30b8020131200131a00109")))
    assert "write of register 0x138 refused: there is no such register in that type" in refused
    assert "read of command_position refused" in refused
    assert "read of register 0x0a0 refused: error 9" in refused
    assert codec.describe(Frame(1, codec.text_in(b"d stop\n"))) == "moteus 0 -> 1: text b'd stop\\n'"
    assert codec.describe(Frame(1, codec.text_poll(9))) == "moteus 0 -> 1: asks for up to 9 bytes of text"
    assert codec.describe(Frame(1, b"\x60")) == "moteus 0 -> 1: not moteus: 60"
    assert codec.describe(Frame(1, b"\x50")) == "moteus 0 -> 1: nothing"
    assert codec.describe(Frame(0x100, bytes.fromhex("210063 2d0f0000c07f 2b80020a000000"))).startswith(
        "moteus 1 -> 0: not moteus"
    )
    assert codec.describe(Frame(0x100, bytes.fromhex("210063 298102 00010100"))) == (
        "moteus 1 -> 0: mode is 99; firmware is 65792"
    )


def test_every_code_has_its_sentence():
    assert codec.sentence(0) == "no fault"
    assert codec.sentence(38) == "too hot"
    assert codec.sentence(250) == "code 250, unknown to this version"
    documented = [*range(32, 49), *range(96, 104)]
    assert set(documented) <= SENTENCES.keys()
    assert all(reg.OWN_CODE + mode in SENTENCES for mode in Mode if mode is not Mode.POSITION)


def test_wire_time_of_a_cycle():
    # 1 Mbit/s and 5 Mbit/s, without stuff bits that depend on the data: a 48-byte command has 36 + 12 + 3 bits slow
    # and 5 + 384 + 32 fast, an answer of 24 bytes to ids below 8 has 17 + 12 + 3 slow and 5 + 192 + 32 fast
    one = (36 + 12 + 3) * 1000 + (5 + 384 + 32) * 200 + (17 + 12 + 3) * 1000 + (5 + 192 + 32) * 200
    four = JOINTS[:4]  # ids 1..4
    assert codec.cycle_ns(four, 1_000_000, 5_000_000) == 4 * one == 852_000
    assert codec.cycle_ns(four, 1_000_000, 5_000_000, INT16) < codec.cycle_ns(four, 1_000_000, 5_000_000)
    assert codec.cycle_ns(four, 1_000_000) > 2 * codec.cycle_ns(four, 1_000_000, 5_000_000)
