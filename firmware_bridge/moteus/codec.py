"""moteus' commands and answers: values to CAN-FD frames and back. Pure.

Sources: mjbots/moteus, docs/protocol/can.md (example frames) and docs/protocol/registers.md (scales, modes). The parts
of a frame are in `subframes`, numbers in `scaling`, sentences in `words`; all of it is reached from here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from firmware_bridge.arm import Joint
from firmware_bridge.errors import ForeignBytes
from firmware_bridge.moteus import registers as reg
from firmware_bridge.moteus.registers import FLOAT, INT8, INT16, INT32, Mode, Register
from firmware_bridge.moteus.scaling import MOST, RAW, counts, cut_off, number, refused, saturated, scaled
from firmware_bridge.moteus.subframes import (
    BROADCAST,
    NOP,
    READ,
    READ_ERROR,
    REPLY,
    REPLY_WANTED,
    TEXT_CHANNEL,
    TEXT_IN,
    TEXT_OUT,
    TEXT_POLL,
    WRITE,
    WRITE_ERROR,
    Subframe,
    frame,
    head,
    padded,
    read,
    subframes,
    varuint,
    write,
)  # fmt: skip
from firmware_bridge.moteus.words import describe, sentence
from firmware_bridge.transport.base import Frame
from firmware_bridge.wire import can_ns

__all__ = [
    "BROADCAST", "NOP", "RAW", "READ", "READ_ERROR", "REPLY", "REPLY_WANTED", "TEXT_CHANNEL", "TEXT_IN", "TEXT_OUT",
    "TEXT_POLL", "WRITE", "WRITE_ERROR", "Gains", "PositionCommand", "Status", "Subframe", "counts", "cycle_ns",
    "describe", "frame", "head", "mode", "number", "padded", "query", "read", "saturated", "scaled", "sentence",
    "status", "status_answer", "stay_within", "subframes", "text_in", "text_out", "text_poll", "values",
    "varuint", "write",
]  # fmt: skip
REV = 2.0 * math.pi  # rad per revolution
MOST_REV = 32768.0  # the controller counts turns in 16 bits
RESOLUTIONS: Final = {"float": FLOAT, "int16": INT16}
_VOLT = reg.VOLTAGE_SCALE[INT8]


class Status(NamedTuple):
    """What a joint answers in a cycle; NaN where the device reports none."""

    mode: int
    position_rev: float
    velocity_rev_s: float
    torque_nm: float
    voltage_v: float
    temperature_c: float
    fault: int


# --- commands ----------------------------------------------------------------------------------------------------

QUERY: Final = read(Register.MODE, 1, INT8) + read(Register.POSITION, 3, FLOAT) + read(Register.VOLTAGE, 3, INT8)
QUERY_INT16: Final = read(Register.MODE, 1, INT8) + read(Register.POSITION, 3, INT16) + read(Register.VOLTAGE, 3, INT8)
IDENTIFY: Final = read(Register.MODEL, 3, INT32)
READ_TIMEOUT: Final = read(Register.MODE, 1, INT8) + read(Register.TIMEOUT, 1, FLOAT)


def query(resolution: int) -> bytes:
    """The question for a Status."""
    return QUERY if resolution == FLOAT else QUERY_INT16


def mode(value: Mode) -> bytes:
    """Write the mode alone: stop, brake, zero velocity."""
    return write(Register.MODE, [RAW[INT8].pack(value)], INT8)


class Gains(NamedTuple):
    """What goes with each position, in the device's frame. Scales shrink its own kp and kd: 0..1."""

    kp_scale: float = 1.0
    kd_scale: float = 1.0
    torque_ff_nm: float = 0.0
    max_torque_nm: float | None = None  # None: the device's own


class PositionCommand:
    """Position mode for one joint, all but the position encoded once: `data(rad)` costs one pack.

    `watchdog_s` None: hold without end, for a stop. Raises BadSetpoint.
    """

    def __init__(self, gains: Gains, watchdog_s: float | None, resolution: int, after: bytes = b"") -> None:
        if not (0.0 <= gains.kp_scale <= 1.0 and 0.0 <= gains.kd_scale <= 1.0):
            raise refused(f"kp, kd scale {gains.kp_scale:g}, {gains.kd_scale:g}", "scales within 0..1")
        if watchdog_s is not None and not watchdog_s > 0.0:
            raise refused(f"watchdog {watchdog_s} s", "a positive time: 0 would mean the device's own")
        if gains.max_torque_nm is not None and not gains.max_torque_nm >= 0.0:
            raise refused(f"maximum torque {gains.max_torque_nm} N m", "0 or more")
        r = resolution
        self._resolution, self._raw = r, RAW[r]
        self._most_rev = MOST_REV if r == FLOAT else MOST[r] * reg.POSITION_SCALE[r]
        self._before = mode(Mode.POSITION) + head(WRITE, Register.COMMAND_POSITION, 6, r)
        rest = counts(0.0, reg.VELOCITY_SCALE[r], r)
        rest += counts(gains.torque_ff_nm, reg.TORQUE_SCALE[r], r)
        rest += counts(gains.kp_scale, reg.SHARE_SCALE[r], r) + counts(gains.kd_scale, reg.SHARE_SCALE[r], r)
        rest += counts(gains.max_torque_nm, reg.TORQUE_SCALE[r], r)
        rest += write(Register.TIMEOUT, [counts(watchdog_s, reg.TIME_SCALE[r], r)], r) + after
        in_front = len(self._before) + self._raw.size
        self._after = padded(bytes(in_front) + rest)[in_front:]

    def data(self, position_rad: float) -> bytes:
        """A whole frame's bytes. Raises BadSetpoint for NaN, infinity and what the register cannot carry."""
        rev = position_rad / REV
        if not -self._most_rev <= rev <= self._most_rev:  # NaN fails too: it would mean "where you are now"
            raise refused(f"{position_rad} rad", f"an angle within +-{self._most_rev:g} revolutions")
        raw = rev if self._resolution == FLOAT else int(rev / reg.POSITION_SCALE[self._resolution])
        return self._before + self._raw.pack(raw) + self._after


def stay_within(lower_rad: float | None, upper_rad: float | None, gains: Gains, watchdog_s: float | None) -> bytes:
    """Mode 13, floats: free between the bounds, None no bound; pushed back from outside. Raises BadSetpoint."""
    bounds = [None if bound is None else bound / REV for bound in (lower_rad, upper_rad)]
    values = (*bounds, gains.torque_ff_nm, gains.kp_scale, gains.kd_scale, gains.max_torque_nm, watchdog_s)
    return mode(Mode.STAY_WITHIN) + write(Register.WITHIN_LOWER, [counts(v, 1.0, FLOAT) for v in values], FLOAT)


def text_in(text: bytes) -> bytes:
    """Diagnostic text to the device, up to 61 bytes. Raises BadSetpoint."""
    if len(text) > 61:
        raise refused(f"{len(text)} bytes of text", "up to 61")
    return bytes((TEXT_IN, TEXT_CHANNEL, len(text))) + text


def text_poll(most: int = 48) -> bytes:
    """Ask for up to `most` bytes of the device's diagnostic answer."""
    return bytes((TEXT_POLL, TEXT_CHANNEL, most))


# --- answers -----------------------------------------------------------------------------------------------------

_STATUS: Final = tuple(Register(number) for number in (0x000, 0x001, 0x002, 0x003, 0x00D, 0x00E, 0x00F))
# An answer to a question as it is usually laid out, by its length: three subframes, and padding
_LAYOUTS: Final = {24: struct.Struct("<2sb2s3f2sbbb2s"), 16: struct.Struct("<2sb2s3h2sbbb0s")}
_FLOATS: Final = (b"\x21\x00", b"\x2f\x01", b"\x23\x0d", b"\x50\x50")  # mode, motion, voltage.., padding
_INT16S: Final = (b"\x21\x00", b"\x27\x01", b"\x23\x0d", b"")
_UNKNOWN = -128  # an int8 that the device does not know
_status = partial(tuple.__new__, Status)  # a Status of all its fields, in half the time of Status(...)


def status(data: bytes) -> Status | None:
    """The answer to a `query`; None where it is not one whole answer. Never raises."""
    layout = _LAYOUTS.get(len(data))
    if layout is None:
        return _status_of_any_layout(data)
    m, at, moves, position, velocity, torque, tail, volt, temp, fault, rest = layout.unpack(data)
    heads = m, moves, tail, rest
    if _UNKNOWN in (at, volt, temp, fault) or heads not in (_FLOATS, _INT16S):
        return _status_of_any_layout(data)
    if heads == _INT16S:
        position = scaled(position, reg.POSITION_SCALE[INT16], INT16)
        velocity = scaled(velocity, reg.VELOCITY_SCALE[INT16], INT16)
        torque = scaled(torque, reg.TORQUE_SCALE[INT16], INT16)
    return _status((at, position, velocity, torque, volt * _VOLT, float(temp), fault))


def status_answer(of: Status, form: int) -> bytes:
    """What a device answers to a `query` of that form, padded."""
    volt, temp = cut_off(of.voltage_v, _VOLT, INT8), cut_off(of.temperature_c, 1.0, INT8)
    mode, motion, tail, rest = _FLOATS if form == FLOAT else _INT16S
    numbers: tuple[float, ...] = of[1:4]
    if form != FLOAT:
        scales = (reg.POSITION_SCALE, reg.VELOCITY_SCALE, reg.TORQUE_SCALE)
        numbers = tuple(cut_off(value, scale[form], form) for value, scale in zip(numbers, scales, strict=True))
    layout = _LAYOUTS[24 if form == FLOAT else 16]
    return layout.pack(mode, of.mode, motion, *numbers, tail, volt, temp, min(of.fault, MOST[INT8]), rest)


def _status_of_any_layout(data: bytes) -> Status | None:
    """A device may group its registers otherwise than they were asked for."""
    try:
        found = values(data)
    except ForeignBytes:
        return None
    if not all(register in found for register in _STATUS):
        return None
    at, position, velocity, torque, volt, temp, fault = (found[register] for register in _STATUS)
    if not (math.isfinite(at) and math.isfinite(fault)):
        return None
    return Status(int(at), position, velocity, torque, volt, temp, int(fault))


def values(data: bytes) -> dict[int, float]:
    """Registers of the replies in a frame, scaled. Raises ForeignBytes for a frame that is not whole."""
    out: dict[int, float] = {}
    for part in subframes(data):
        if part.kind == REPLY and part.value is not None:
            if part.register in reg.SCALES:
                out[part.register] = scaled(part.value, reg.SCALES[part.register][part.resolution], part.resolution)
            else:
                out[part.register] = part.value  # a number without a unit: its negative end is a number too
    return out


def text_out(data: bytes) -> bytes | None:
    """The device's diagnostic text in a frame, None when it carries none. Never raises."""
    try:
        return next((part.text for part in subframes(data) if part.kind == TEXT_OUT), None)
    except ForeignBytes:
        return None


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None, form: int = FLOAT) -> int:
    """Wire time of one cycle: a command with its question and an answer for each joint."""
    command = PositionCommand(Gains(), 0.1, form, query(form)).data(0.0)
    answer = bytes(24 if form == FLOAT else 16)
    sent = sum(can_ns(frame(joint.id, command), baud, data_baud) for joint in joints)
    ids = (joint.id << 8 for joint in joints)
    return sent + sum(can_ns(Frame(i, answer, i > 0x7FF, True, True), baud, data_baud) for i in ids)
