"""Frames against bytes that LeRobot 0.4.4, openarm_can 1.4.1 and damiao-motor 1.0.6 make or read."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.arm import Fault
from firmware_bridge.damiao import codec, registers
from firmware_bridge.damiao.models import KD_MAX, KP_MAX, MODELS, Scale, named, scale_of
from firmware_bridge.errors import BadSetpoint, WrongJoint
from firmware_bridge.transport.base import Frame
from firmware_bridge.wire import can_ns
from tests.firmware_bridge.damiao.arms import JOINTS

DM4310, DM4340, DM8009 = MODELS["dm4310"], MODELS["dm4340"], MODELS["dm8009"]
RAD = math.pi / 180.0
EVERY_MODEL = st.sampled_from(sorted(MODELS.values()))


# --- MIT mode ---


def test_commands_are_lerobots_bytes():
    # _encode_mit_packet(type, kp, kd, degrees, degrees/s, N m), run in LeRobot 0.4.4
    assert codec.mit(1, DM4310, 45 * RAD, 0.0, 24.0, 0.3, 0.0).hex() == "880a7ff0c40f57ff"
    assert codec.mit(1, DM8009, -75 * RAD, 10 * RAD, 240.0, 5.0, -1.5).hex() == "72988077adfff7c6"
    assert codec.mit(1, DM4340, 0.0, 0.0, 240.0, 3.0, 2.0).hex() == "7fff7ff7ad999891"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["q", "dq", "kp", "kd", "tau"])
def test_what_is_not_finite_never_becomes_bytes(field, bad):
    # LeRobot 0.4.4 makes ffff7ff0000007ff of a NaN position: max(low, min(high, nan)) is `high`, full scale positive
    with pytest.raises(BadSetpoint, match="refused before the wire"):
        codec.mit(1, DM4310, **{"q": 0.0, field: bad})
    with pytest.raises(BadSetpoint):
        codec.position_bytes(1, 12.5, bad)


@pytest.mark.parametrize(
    ("field", "beyond"),
    [("q", 12.6), ("q", -12.6), ("dq", 30.1), ("kp", 501.0), ("kp", -1.0), ("kd", 5.1), ("tau", -10.1)],
)
def test_what_a_field_cannot_carry_is_refused_not_clipped(field, beyond):
    with pytest.raises(BadSetpoint, match=r"motor 3 .*\n  expected: .*\n  got:"):
        codec.mit(3, DM4310, **{"q": 0.0, field: beyond})


@pytest.mark.parametrize("what", [codec.ENABLE, codec.DISABLE, codec.SET_ZERO, codec.CLEAR])
def test_a_setpoint_that_reads_as_enable_disable_zero_or_clear_is_refused(what):
    almost_all_nm = (what - 0xFF + 0.5) / 4095 * 20.0 + 10.0  # the last byte of the torque
    with pytest.raises(BadSetpoint, match="would read as"):
        codec.mit(1, DM4310, 12.5, 30.0, 500.0, 5.0, almost_all_nm)
    assert codec.mit(1, DM4310, 12.49, 30.0, 500.0, 5.0, almost_all_nm)[7] == what


def test_all_at_full_scale_is_no_command_of_theirs():
    assert codec.mit(1, DM4310, 12.5, 30.0, 500.0, 5.0, 10.0) == b"\xff" * 8


@given(EVERY_MODEL, st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5))
def test_a_command_carries_its_values_to_within_one_step(scale, shares):
    q, dq, tau = (end * (2 * share - 1) for end, share in zip(scale, shares[:3], strict=True))
    kp, kd = KP_MAX * shares[3], KD_MAX * shares[4]
    try:
        word = int.from_bytes(codec.mit(1, scale, q, dq, kp, kd, tau), "big")
    except BadSetpoint:
        assert min(shares) > 0.99
        return
    steps = (word >> 48, 65535, q + scale.pmax_rad, 2 * scale.pmax_rad)
    fields = [
        steps,
        (word >> 36 & 4095, 4095, dq + scale.vmax_rad_s, 2 * scale.vmax_rad_s),
        (word >> 24 & 4095, 4095, kp, KP_MAX),
        (word >> 12 & 4095, 4095, kd, KD_MAX),
        (word & 4095, 4095, tau + scale.tmax_nm, 2 * scale.tmax_nm),
    ]
    for raw, most, value, span in fields:
        assert -1e-6 <= value / span * most - raw <= 1 + 1e-6  # cut, never rounded up


# --- states ---


def test_a_state_is_what_lerobot_reads_from_it():
    # _decode_motor_state(11 8c e0 7f f8 01 2a 1f, DM4310): degrees, degrees/s, N m, degrees Celsius
    said = codec.state(bytes.fromhex("118ce07ff8012a1f"), DM4310)
    assert said.id == 1
    assert said.status == codec.ENABLED
    assert said.position_rad / RAD == pytest.approx(72.05139893372855, abs=1e-9)
    assert said.velocity_rad_s / RAD == pytest.approx(-0.4197493004621401, abs=1e-9)
    assert said.torque_nm == pytest.approx(0.0073260073260073, abs=1e-9)
    assert (said.mos_c, said.rotor_c) == (42, 31)


@given(EVERY_MODEL, *(st.floats(-1.0, 1.0) for _ in range(3)), st.integers(0, 15), st.integers(0, 255))
def test_a_state_comes_back_to_within_one_step(scale, q, dq, tau, status, celsius):
    values = q * scale.pmax_rad, dq * scale.vmax_rad_s, tau * scale.tmax_nm
    said = codec.state(codec.state_data(5, status, scale, *values, celsius, 30), scale)
    assert (said.id, said.status, said.mos_c, said.rotor_c) == (5, status, celsius, 30)
    assert abs(said.position_rad - values[0]) <= 2 * scale.pmax_rad / 65535 + 1e-9
    assert abs(said.velocity_rad_s - values[1]) <= 2 * scale.vmax_rad_s / 4095 + 1e-9
    assert abs(said.torque_nm - values[2]) <= 2 * scale.tmax_nm / 4095 + 1e-9


def test_a_motor_beyond_full_scale_says_full_scale():
    data = codec.state_data(1, 1, DM4310, 99.0, -99.0, 99.0, 0, 0)
    assert codec.state(data, DM4310)[2:5] == pytest.approx((12.5, -30.0, 10.0))


def test_every_status_of_the_manuals_has_its_sentence_and_its_fault():
    # damiao-motor 1.0.6, core/motor.py, _STATE_NAME_MAP; 5 and 6: DAMIAO_Control_Arduino, DMMotor.h
    assert set(codec.SENTENCES) == {0x0, 0x1, 0x5, 0x6, 0x8, 0x9, 0xA, 0xB, 0xC, 0xD, 0xE}
    assert codec.FAULT_BITS[0x0] == codec.FAULT_BITS[0x1] == Fault.NONE
    assert codec.FAULT_BITS[0x8] == codec.FAULT_BITS[0x9] == Fault.VOLTAGE
    assert codec.FAULT_BITS[0xA] == codec.FAULT_BITS[0xE] == Fault.OVERLOAD
    assert codec.FAULT_BITS[0xB] == codec.FAULT_BITS[0xC] == Fault.OVERHEAT
    assert codec.FAULT_BITS[0xD] == Fault.WATCHDOG
    assert codec.FAULT_BITS[0x5] == Fault.ENCODER
    assert codec.FAULT_BITS[0x3] == codec.FAULT_BITS[0x6] == codec.FAULT_BITS[0xF] == Fault.OTHER
    assert "does not know" in codec.sentence(0x3)


# --- commands and registers ---


def test_enable_disable_zero_and_clear_are_seven_times_ff_and_a_byte():
    # openarm_can, create_enable_command etc.; clear: damiao-motor, encode_clear_error_msg
    assert codec.special(1, codec.ENABLE, False) == Frame(1, bytes.fromhex("fffffffffffffffc"))
    assert codec.special(1, codec.DISABLE, False).data.hex() == "fffffffffffffffd"
    assert codec.special(1, codec.SET_ZERO, False).data.hex() == "fffffffffffffffe"
    assert codec.special(1, codec.CLEAR, False).data.hex() == "fffffffffffffffb"


def test_requests_go_to_7ff_and_name_the_motor():
    # openarm_can, create_refresh_command, pack_query_param_data, pack_write_param_data; save: damiao-motor
    assert codec.refresh(0x12, False) == Frame(0x7FF, bytes.fromhex("1200cc0000000000"))
    assert codec.read(1, registers.PMAX, False).data.hex() == "0100331500000000"
    assert codec.write(1, registers.TIMEOUT, 2000, False).data.hex() == "01005509d0070000"
    assert codec.write(1, registers.PMAX, 12.5, False).data.hex() == "0100551500004841"
    assert codec.save(0x102, False).data.hex() == "0201aa0100000000"


def test_can_fd_frames_always_switch_the_bit_rate():
    # openarm_can, create_canfd_frame: flags = CANFD_BRS
    assert codec.refresh(1, True) == Frame(0x7FF, bytes.fromhex("0100cc0000000000"), False, True, True)


@pytest.mark.parametrize("value", [-1, 1 << 32, 1.5, math.nan])
def test_a_register_refuses_what_it_cannot_hold(value):
    with pytest.raises(BadSetpoint, match="TIMEOUT for motor 1"):
        codec.write(1, registers.TIMEOUT, value, False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e39])
def test_a_float_register_refuses_what_it_cannot_hold(value):
    with pytest.raises(BadSetpoint, match="register 99"):
        codec.write(1, 99, value, False)


def test_answers_of_registers_are_read_whole_and_float():
    assert codec.register(bytes.fromhex("01003309d0070000"), 1) == (registers.TIMEOUT, 2000)
    assert codec.register(bytes.fromhex("0201551500004841"), 0x102) == (registers.PMAX, 12.5)


@pytest.mark.parametrize("strange", ["02003309d0070000", "01013309d0070000", "0100aa09d0070000", "01003309d00700"])
def test_an_answer_of_another_motor_or_another_kind_is_none(strange):
    assert codec.register(bytes.fromhex(strange), 1) is None


def test_force_position_is_openarms_frame():
    # openarm_can, pack_posforce_control_data: f32 rad, u16 rad/s * 100, u16 share * 10000, little-endian
    assert codec.force_position(8, DM4310, 1.0, 25.0, 1.5).hex() == "0000803fc409dc05"


@pytest.mark.parametrize(
    ("q", "speed", "torque"),
    [(math.nan, 1, 1), (12.6, 1, 1), (0, math.nan, 1), (0, 100.1, 1), (0, -1, 1), (0, 1, math.nan), (0, 1, 10.1)],
)
def test_force_position_refuses_what_it_cannot_carry(q, speed, torque):
    with pytest.raises(BadSetpoint, match="refused before the wire"):
        codec.force_position(8, DM4310, q, speed, torque)


def test_the_watchdog_is_counted_in_50_us_and_never_zero():
    assert codec.timeout_units(0.1) == 2000
    assert codec.timeout_units(0.02) == 400
    assert codec.timeout_units(50e-6) == 1
    for bad in (0.0, 49e-6, math.nan, 1e6):
        with pytest.raises(BadSetpoint, match="watchdog"):
            codec.timeout_units(bad)


# --- models ---


def test_models_are_found_by_name_or_by_their_own_scale():
    assert scale_of("DM4310") == Scale(12.5, 30.0, 10.0)
    assert scale_of("dm4340@12.5,8,28") == Scale(12.5, 8.0, 28.0)
    assert "dm6006" in named(Scale(12.5, 45.0, 20.0))
    assert named(Scale(1.0, 2.0, 3.0)) == "@1,2,3"


@pytest.mark.parametrize(
    "bad", ["dm1", "dm4340@", "x@1,2,3", "dm4340@1,2", "dm4340@1,2,x", "dm4340@1,2,-3", "dm4340@1,2,nan"]
)
def test_a_model_nobody_knows_is_refused(bad):
    if bad == "dm4340@":
        assert scale_of(bad) == DM4340
        return
    with pytest.raises(WrongJoint, match=r"name plate"):
        scale_of(bad)


# --- wire ---


def test_one_cycle_of_six_joints_takes_the_bits_of_facts_section_6():
    assert codec.cycle_ns(JOINTS[:6], 1_000_000) == 1_332_000  # 12 frames of 47 + 64 bits; 751 Hz
    worst_ns = 12 * can_ns(codec.refresh(1, False), 1_000_000, worst=True)
    assert worst_ns == 1_620_000  # + 24 stuff bits a frame; 617 Hz


def test_can_fd_shortens_the_cycle():
    # 14 frames: 32 bits at 1 Mbit and 5 + 64 + 27 at 5 Mbit
    assert codec.cycle_ns(JOINTS, 1_000_000, 5_000_000) == 14 * (32_000 + 96 * 200)


# --- words ---


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (codec.special(3, codec.ENABLE, False), "motor 3: enable"),
        (codec.refresh(3, True), "motor 3: say your state"),
        (codec.read(3, 21, False), "motor 3: say PMAX"),
        (codec.write(3, 9, 2000, False), "motor 3: set TIMEOUT to 2000"),
        (codec.write(3, 21, 12.5, False), "motor 3: set PMAX to 12.5"),
        (codec.save(3, False), "motor 3: save all registers"),
        (Frame(0x7FF, bytes.fromhex("0300770000000000")), "motor 3: unknown request 0x77"),
        (Frame(0x7FF, bytes.fromhex("030033f000000000")), "motor 3: say register 240"),
        (Frame(0x308, bytes.fromhex("0000803fc409dc05")), "motor 8: to 1 rad, at most 25 rad/s, 15 % torque"),
        (Frame(1, codec.mit(1, DM4310, 6.25, 0.0, 24.0, 0.3, 0.0)), "q +0.5000 PMAX, dq -0.0002 VMAX, kp 23.93"),
        (Frame(0x11, bytes.fromhex("118ce07ff8012a1f")), "motor ..1 (enabled) q +0.1006 PMAX"),
        (Frame(0x11, bytes.fromhex("d18ce07ff8012a1f")), "it switched itself off"),
        (Frame(0x11, bytes.fromhex("01003309d0070000")), "motor 1 says TIMEOUT = 2000"),
        (Frame(0x11, bytes.fromhex("010033f000000000")), "motor ..1 (disabled, no torque)"),
        (Frame(0x11, b"\1\2"), "no Damiao frame"),
        (Frame(0x11, bytes(8), extended=True), "no Damiao frame"),
    ],
)
def test_any_frame_is_explained_in_words(frame, words):
    assert words in codec.describe(frame)


@given(st.integers(0, 0x7FF), st.binary(max_size=16), st.booleans())
def test_no_frame_makes_describe_raise(can_id, data, extended):
    assert codec.describe(Frame(can_id, data, extended))


@given(st.binary(min_size=8, max_size=8), EVERY_MODEL)
def test_any_eight_bytes_are_a_state_within_full_scale(data, scale):
    said = codec.state(data, scale)
    assert abs(said.position_rad) <= scale.pmax_rad * (1 + 1e-12)
    assert abs(said.velocity_rad_s) <= scale.vmax_rad_s * (1 + 1e-12)
    assert abs(said.torque_nm) <= scale.tmax_nm * (1 + 1e-12)


def test_the_committed_corpus_of_the_fuzzer_is_explained_without_an_exception():
    files = sorted((Path(__file__).parents[1] / "fuzz" / "corpus" / "damiao").iterdir())
    assert 10 <= len(files) <= 50
    for file in files:
        data = file.read_bytes()
        assert len(data) <= 200
        assert codec.describe(Frame(int.from_bytes(data[:2], "big") & 0x7FF, data[3:67]))
        codec.register(data[3:67], data[1])
