"""Damiao's frames, pure: values to frames and frames to values. CAN 2.0 or CAN-FD, 11-bit ids, 8 bytes.

    to the motor, id = ESC_ID           q16 dq12 kp12 kd12 tau12, big-endian (MIT mode)
                                        FF * 7, then FC enable, FD disable, FE zero here, FB clear error
    to the motor, id = 0x300 + ESC_ID   f32 position, u16 speed * 100, u16 torque share * 10000 (force-position mode)
    to all, id = 0x7FF                  id low, id high, 33 read | 55 write | AA save | CC your state, register, value
    from the motor, id = MST_ID         id | status << 4, q16 dq12 tau12, MOS degC, rotor degC
                                        id low, id high, 33 | 55, register, value (u32 or f32, little-endian)

Integers span minus to plus of PMAX, VMAX, TMAX in 2^bits - 1 steps, cut towards minus as the public encoders cut.
Sources: openarm_can 1.4.1, dm_motor_control.cpp; LeRobot 0.4.4, motors/damiao/damiao.py; damiao-motor 1.0.6,
core/motor.py (status codes, register answers). Statuses 5 and 6: DAMIAO_Control_Arduino, DMMotor.h.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

from firmware_bridge.arm import Fault, Joint
from firmware_bridge.damiao.models import KD_MAX, KP_MAX, Scale
from firmware_bridge.damiao.registers import REGISTERS, TIMEOUT_MAX_S, TIMEOUT_UNIT_S, WHOLE, from_raw, to_raw
from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.transport.base import Frame
from firmware_bridge.wire import can_ns

ALL_ID = 0x7FF  # every motor listens; the first two bytes say who is meant
FORCE_ID = 0x300  # added to ESC_ID
ENABLE, DISABLE, SET_ZERO, CLEAR = 0xFC, 0xFD, 0xFE, 0xFB
READ, WRITE, SAVE, REFRESH = 0x33, 0x55, 0xAA, 0xCC

DISABLED, ENABLED, SENSOR, PARAMETER = 0x0, 0x1, 0x5, 0x6
OVER_VOLTAGE, UNDER_VOLTAGE, OVER_CURRENT, MOS_HOT, ROTOR_HOT, LOST, OVERLOAD = 0x8, 0x9, 0xA, 0xB, 0xC, 0xD, 0xE
SENTENCES = {
    DISABLED: "disabled, no torque",
    ENABLED: "enabled",
    SENSOR: "the encoder failed",
    PARAMETER: "a parameter in the motor is wrong",
    OVER_VOLTAGE: "the supply is above its limit (OV_Value): a long brake or the wrong supply",
    UNDER_VOLTAGE: "the supply is below its limit (UV_Value)",
    OVER_CURRENT: "the current is above its limit (OC_Value)",
    MOS_HOT: "the driver's transistors are above their temperature (OT_Value)",
    ROTOR_HOT: "the winding is too hot",
    LOST: "no command came for the time in register 9: it switched itself off",
    OVERLOAD: "overloaded",
}
_FAULTS = {
    DISABLED: Fault.NONE,
    ENABLED: Fault.NONE,
    SENSOR: Fault.ENCODER,
    OVER_VOLTAGE: Fault.VOLTAGE,
    UNDER_VOLTAGE: Fault.VOLTAGE,
    OVER_CURRENT: Fault.OVERLOAD,
    MOS_HOT: Fault.OVERHEAT,
    ROTOR_HOT: Fault.OVERHEAT,
    LOST: Fault.WATCHDOG,
    OVERLOAD: Fault.OVERLOAD,
}
FAULT_BITS = tuple(int(_FAULTS.get(status, Fault.OTHER)) for status in range(16))

_U16, _U12 = 65535, 4095
_SPECIAL = b"\xff" * 7
STEP16, STEP12 = 2.0 / _U16, 2.0 / _U12
_FORCE = struct.Struct("<fHH")
STATE = struct.Struct(">BHBHBB")  # id and status, q, upper 8 bits of dq, lower 4 and tau, two temperatures
_WORDS = {ENABLE: "enable", DISABLE: "disable", SET_ZERO: "zero here", CLEAR: "clear error"}
_SPEED_MAX, _SHARE_MAX = 100.0, 1.0  # rad/s, of TMAX


class State(NamedTuple):
    """What a motor says of itself."""

    id: int  # lowest 4 bits of ESC_ID
    status: int
    position_rad: float
    velocity_rad_s: float
    torque_nm: float
    mos_c: int
    rotor_c: int


# --- to the motor ---------------------------------------------------------------------------------------------


def mit(
    motor: int, scale: Scale, q: float, dq: float = 0.0, kp: float = 0.0, kd: float = 0.0, tau: float = 0.0
) -> bytes:
    """8 bytes of MIT mode: rad, rad/s, N m/rad, N m s/rad, N m. Raises BadSetpoint for what the fields cannot carry.

    Also for the four combinations of full scale that a motor would read as enable, disable, zero or clear error.
    """
    data = position_bytes(motor, scale.pmax_rad, q) + mit_tail(motor, scale, dq, kp, kd, tau)
    if data[:7] == _SPECIAL and data[7] in _WORDS:
        raise BadSetpoint(
            explain(
                f"a set-point for motor {motor} that it would read as '{_WORDS[data[7]]}'",
                "position, velocity, kp, kd and torque not all at full scale",
                f"{q:g} rad, {dq:g} rad/s, kp {kp:g}, kd {kd:g}, {tau:g} N m",
                "lower one of them in the arm's profile",
            )
        )
    return data


def position_bytes(motor: int, pmax_rad: float, q: float) -> bytes:
    """The first two bytes of MIT mode: all that changes from one set-point to the next."""
    if not -pmax_rad <= q <= pmax_rad:  # NaN fails too
        raise cannot_carry(motor, "position", -pmax_rad, pmax_rad, "rad", q)
    return int((q + pmax_rad) / (2.0 * pmax_rad) * _U16).to_bytes(2, "big")


def mit_tail(motor: int, scale: Scale, dq: float, kp: float, kd: float, tau: float) -> bytes:
    """The other six."""
    v = _share(motor, "velocity", -scale.vmax_rad_s, scale.vmax_rad_s, "rad/s", dq)
    p = _share(motor, "kp", 0.0, KP_MAX, "N m/rad", kp)
    d = _share(motor, "kd", 0.0, KD_MAX, "N m s/rad", kd)
    t = _share(motor, "torque", -scale.tmax_nm, scale.tmax_nm, "N m", tau)
    return (v << 36 | p << 24 | d << 12 | t).to_bytes(6, "big")


def force_position(motor: int, scale: Scale, q: float, speed_rad_s: float, torque_nm: float) -> bytes:
    """8 bytes of force-position mode: go to `q` no faster and no harder than this. Raises BadSetpoint.

    The torque is sent as a share of TMAX; the motor takes it as that share of its greatest current.
    """
    if not -scale.pmax_rad <= q <= scale.pmax_rad:
        raise cannot_carry(motor, "position", -scale.pmax_rad, scale.pmax_rad, "rad", q)
    if not 0.0 <= speed_rad_s <= _SPEED_MAX:
        raise cannot_carry(motor, "speed", 0.0, _SPEED_MAX, "rad/s", speed_rad_s)
    if not 0.0 <= torque_nm <= scale.tmax_nm:
        raise cannot_carry(motor, "torque limit", 0.0, scale.tmax_nm, "N m", torque_nm)
    return _FORCE.pack(q, int(speed_rad_s * 100.0), int(torque_nm / scale.tmax_nm * 10000.0))


def frame(can_id: int, data: bytes, fd: bool) -> Frame:
    """As CAN-FD always with the bit-rate switch: without it the data would run at the slow rate."""
    return Frame(can_id, data, False, fd, fd)


def special(motor: int, what: int, fd: bool) -> Frame:
    """ENABLE, DISABLE, SET_ZERO or CLEAR."""
    return frame(motor, _SPECIAL + bytes([what]), fd)


def refresh(motor: int, fd: bool) -> Frame:
    """Asks for a state without commanding anything."""
    return frame(ALL_ID, bytes([motor & 0xFF, motor >> 8, REFRESH, 0, 0, 0, 0, 0]), fd)


def read(motor: int, register: int, fd: bool) -> Frame:
    """Asks for a register."""
    return frame(ALL_ID, bytes([motor & 0xFF, motor >> 8, READ, register, 0, 0, 0, 0]), fd)


def write(motor: int, register: int, value: float, fd: bool) -> Frame:
    """Sets a register until the supply goes (it is not saved). Raises BadSetpoint."""
    highest = 0xFFFF_FFFF if register in WHOLE else 3.4e38
    lowest = 0 if register in WHOLE else -highest
    if not lowest <= value <= highest or (register in WHOLE and value != int(value)):
        raise cannot_carry(motor, REGISTERS.get(register, f"register {register}"), lowest, highest, "", value)
    return frame(ALL_ID, bytes([motor & 0xFF, motor >> 8, WRITE, register]) + to_raw(register, value), fd)


def save(motor: int, fd: bool) -> Frame:
    """Writes all registers of a disabled motor to its flash. The driver never does."""
    return frame(ALL_ID, bytes([motor & 0xFF, motor >> 8, SAVE, 1, 0, 0, 0, 0]), fd)


# --- from the motor -------------------------------------------------------------------------------------------


def state(data: bytes, scale: Scale) -> State:
    """A motor's 8 bytes. Any 8 bytes are some state: the caller knows by id, and `register`, whose and what."""
    head, q, high, low, mos_c, rotor_c = STATE.unpack(data)
    pmax_rad, vmax_rad_s, tmax_nm = scale
    return State(
        head & 0x0F,
        head >> 4,
        q * (pmax_rad * STEP16) - pmax_rad,
        (high << 4 | low >> 12) * (vmax_rad_s * STEP12) - vmax_rad_s,
        (low & 0xFFF) * (tmax_nm * STEP12) - tmax_nm,
        mos_c,
        rotor_c,
    )


def state_data(
    motor: int, status: int, scale: Scale, q: float, dq: float, tau: float, mos_c: int, rotor_c: int
) -> bytes:
    """What a motor sends; beyond full scale it says full scale."""
    pmax, vmax, tmax = scale
    q = -pmax if q < -pmax else min(q, pmax)
    dq = -vmax if dq < -vmax else min(dq, vmax)
    tau = -tmax if tau < -tmax else min(tau, tmax)
    raw_dq, raw_tau = int((dq + vmax) / (2.0 * vmax) * _U12), int((tau + tmax) / (2.0 * tmax) * _U12)
    raw_q = int((q + pmax) / (2.0 * pmax) * _U16)
    return STATE.pack(motor & 0x0F | status << 4, raw_q, raw_dq >> 4, (raw_dq & 0x0F) << 12 | raw_tau, mos_c, rotor_c)


def register(data: bytes, motor: int) -> tuple[int, float] | None:
    """(register, value) if these 8 bytes answer a read or write of `motor`; None if they do not.

    A disabled motor at its lowest position could look the same: its PMAX is then out of the arm's range by far.
    """
    if len(data) != 8 or data[0] != motor & 0xFF or data[1] != motor >> 8 or data[2] not in (READ, WRITE):
        return None
    return data[3], from_raw(data[3], data[4:])


def timeout_units(seconds: float) -> int:
    """For register 9, 50 us each, never longer than asked; 0 would switch the watchdog off. Raises BadSetpoint."""
    if not TIMEOUT_UNIT_S <= seconds <= TIMEOUT_MAX_S:
        got = f"{seconds:g} s"
        expected = f"{TIMEOUT_UNIT_S:g}..{TIMEOUT_MAX_S:g} s"
        raise BadSetpoint(explain("a watchdog that Damiao cannot have", expected, got, "correct watchdog_s"))
    return math.floor(seconds / TIMEOUT_UNIT_S + 1e-6)  # 0.1 / 50e-6 is 1999.9999999999998


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None) -> int:
    """Wire time of one cycle, without the motors' own delays: one frame there and one back per joint."""
    unit = frame(0, bytes(8), data_baud is not None)
    return 2 * len(joints) * can_ns(unit, baud, data_baud)


# --- for people -----------------------------------------------------------------------------------------------


def describe(unit: Frame) -> str:
    """One frame in words; position, velocity and torque as shares of full scale, which only the model knows."""
    if unit.extended or unit.remote or len(unit.data) != 8:
        return f"{unit}: no Damiao frame (they have 11-bit ids and 8 bytes)"
    data = unit.data
    if unit.id == ALL_ID:
        return _describe_question(data)
    if data[:7] == _SPECIAL and data[7] in _WORDS:
        return f"motor {unit.id}: {_WORDS[data[7]]}"
    if unit.id & 0x700 == FORCE_ID:
        q, speed, share = _FORCE.unpack(data)
        return f"motor {unit.id - FORCE_ID}: to {q:.4g} rad, at most {speed / 100:g} rad/s, {share / 100:g} % torque"
    word = int.from_bytes(data, "big")
    command = (
        f"q {_signed(word >> 48, _U16)} PMAX, dq {_signed(word >> 36 & _U12, _U12)} VMAX, "
        f"kp {(word >> 24 & _U12) / _U12 * KP_MAX:.4g}, kd {(word >> 12 & _U12) / _U12 * KD_MAX:.4g}, "
        f"tau {_signed(word & _U12, _U12)} TMAX"
    )
    return f"id {unit.id:#05x}: if to a motor, {command}; if from one, {_describe_answer(data)}"


def sentence(status: int) -> str:
    """What a status says."""
    return SENTENCES.get(status, f"status {status:#x}, which this release does not know")


def _describe_question(data: bytes) -> str:
    motor, what = data[0] | data[1] << 8, data[2]
    name = REGISTERS.get(data[3], f"register {data[3]}")
    if what == READ:
        return f"motor {motor}: say {name}"
    if what == WRITE:
        return f"motor {motor}: set {name} to {from_raw(data[3], data[4:]):g}"
    if what == SAVE:
        return f"motor {motor}: save all registers"
    if what == REFRESH:
        return f"motor {motor}: say your state"
    return f"motor {motor}: unknown request {what:#04x}"


def _describe_answer(data: bytes) -> str:
    found = register(data, data[0] | data[1] << 8)
    if found is not None and found[0] in REGISTERS:
        return f"motor {data[0] | data[1] << 8} says {REGISTERS[found[0]]} = {found[1]:g}"
    word = int.from_bytes(data[:6], "big")
    return (
        f"motor ..{data[0] & 15:x} ({sentence(data[0] >> 4)}) q {_signed(word >> 24 & _U16, _U16)} PMAX, "
        f"dq {_signed(word >> 12 & _U12, _U12)} VMAX, tau {_signed(word & _U12, _U12)} TMAX, "
        f"MOS {data[6]} degC, rotor {data[7]} degC"
    )


def _signed(raw: int, steps: int) -> str:
    return f"{2.0 * raw / steps - 1.0:+.4f}"


def _share(motor: int, what: str, low: float, high: float, unit: str, value: float) -> int:
    if not low <= value <= high:  # NaN fails too
        raise cannot_carry(motor, what, low, high, unit, value)
    return int((value - low) / (high - low) * _U12)


def cannot_carry(motor: int, what: str, low: float, high: float, unit: str, value: float) -> BadSetpoint:
    """For the caller to raise."""
    todo = "limit set-points before they are sent; correct kp, kd, torque_ff in the profile"
    return BadSetpoint(
        explain(f"{what} for motor {motor} refused before the wire", f"{low:g}..{high:g} {unit}", f"{value:g}", todo)
    )
