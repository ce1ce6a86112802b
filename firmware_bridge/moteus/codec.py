"""moteus' register protocol: values to CAN-FD frames and back. Pure.

Sources: mjbots/moteus, docs/protocol/can.md (identifiers, subframes) and docs/protocol/registers.md (scales, modes).
An identifier is source << 8 | destination, its bit 15 set where an answer is wanted; a frame holds subframes: write
0x00, read 0x10, reply 0x20 (+ 4 times the resolution + the count, 0: the count follows), errors 0x30 and 0x31,
diagnostic text 0x40..0x42, and 0x50 for nothing, with which frames are padded to a length that CAN-FD has.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from firmware_bridge.arm import Joint
from firmware_bridge.errors import BadSetpoint, ForeignBytes, explain
from firmware_bridge.moteus import registers as reg
from firmware_bridge.moteus.registers import ERRORS, FLOAT, INT8, INT16, INT32, SENTENCES, Mode, Register
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.kernel_can import FD_LENGTHS
from firmware_bridge.wire import can_ns

REPLY_WANTED = 0x8000
BROADCAST = 0x7F
WRITE, READ, REPLY, WRITE_ERROR, READ_ERROR = 0x00, 0x10, 0x20, 0x30, 0x31
TEXT_IN, TEXT_OUT, TEXT_POLL, NOP = 0x40, 0x41, 0x42, 0x50
TEXT_CHANNEL = 1
REV = 2.0 * math.pi  # rad per revolution
MOST_REV = 32768.0  # the controller counts turns in 16 bits
_RAW = (struct.Struct("<b"), struct.Struct("<h"), struct.Struct("<i"), struct.Struct("<f"))
_MOST = (127, 32767, 2147483647)  # one less than the negative end, which stands for NaN
_PADDED: Final = tuple(next(size for size in FD_LENGTHS if size >= length) for length in range(65))
RESOLUTIONS: Final = {"float": FLOAT, "int16": INT16}
Number = float | int


class Subframe(NamedTuple):
    """One register of a subframe (`value` None: asked for), an error (`value` its number), or a diagnostic text."""

    kind: int  # WRITE, READ, REPLY, WRITE_ERROR, READ_ERROR, TEXT_IN, TEXT_OUT, TEXT_POLL
    register: int  # channel of a text
    resolution: int
    value: Number | None = None  # as on the wire, not scaled; of TEXT_POLL the most bytes to send
    text: bytes = b""


class Status(NamedTuple):
    """What a joint answers in a cycle; NaN where the device reports none."""

    mode: int
    position_rev: float
    velocity_rev_s: float
    torque_nm: float
    voltage_v: float
    temperature_c: float
    fault: int


# --- frames and numbers ------------------------------------------------------------------------------------------


def frame(destination: int, data: bytes, reply: bool = True, source: int = 0) -> Frame:
    """`data` padded with NOP; extended only where the identifier needs it. Raises BadSetpoint."""
    whole = 0 <= source < 0x80 and 0 < destination < 0x80
    if not whole or len(data) > 64:
        raise _refused(f"a frame from {source} to {destination}, {len(data)} bytes", "ids 1..127, up to 64 bytes")
    can_id = source << 8 | destination | (REPLY_WANTED if reply else 0)
    return Frame(can_id, data.ljust(_PADDED[len(data)], b"\x50"), can_id > 0x7FF, True, True)


def counts(value: float | None, scale: float, resolution: int) -> bytes:
    """`value` in one register's bytes; None is "not given". Raises BadSetpoint: nothing is clipped."""
    if resolution == FLOAT:
        return _float(math.nan if value is None else value, value is None)
    if value is None:
        return _RAW[resolution].pack(-_MOST[resolution] - 1)
    if not math.isfinite(value) or abs(value / scale) > _MOST[resolution]:
        raise _refused(f"{value}", f"a number within +-{_MOST[resolution] * scale:g}")
    return _RAW[resolution].pack(int(value / scale))


def number(value: float, resolution: int) -> bytes:
    """A register without a unit, as a device sends it; cut off at the ends of an integer."""
    if resolution == FLOAT:
        return _RAW[FLOAT].pack(value)
    return _RAW[resolution].pack(max(-_MOST[resolution] - 1, min(_MOST[resolution], int(value))))


def saturated(value: float, scale: float, resolution: int) -> bytes:
    """A register as a device sends it: cut off at the ends, NaN as the negative end. Commands use `counts`."""
    if resolution == FLOAT:
        return _RAW[FLOAT].pack(value)
    if math.isnan(value):
        return _RAW[resolution].pack(-_MOST[resolution] - 1)
    most = _MOST[resolution]
    return _RAW[resolution].pack(int(max(-most, min(most, value / scale))))


def scaled(raw: Number, scale: float, resolution: int) -> float:
    """A register's value; NaN for the negative end, which means so."""
    if resolution != FLOAT and raw == -_MOST[resolution] - 1:
        return math.nan
    return raw * scale if resolution != FLOAT else float(raw)


def write(register: int, values: Sequence[bytes], resolution: int) -> bytes:
    """A write subframe of registers in a row."""
    return _head(WRITE, register, len(values), resolution) + b"".join(values)


def read(register: int, count: int, resolution: int) -> bytes:
    """A read subframe of registers in a row."""
    return _head(READ, register, count, resolution)


def _head(kind: int, register: int, count: int, resolution: int) -> bytes:
    first = kind | resolution << 2
    return (bytes((first | count,)) if count <= 3 else bytes((first,)) + varuint(count)) + varuint(register)


def varuint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _float(value: float, unset: bool = False) -> bytes:
    if not unset and not math.isfinite(value):
        raise _refused(f"{value}", "a finite number")  # NaN would mean "where you are now" or "no limit"
    try:
        return _RAW[FLOAT].pack(value)
    except OverflowError:
        raise _refused(f"{value}", "a number that a 32-bit float can carry") from None


def _refused(got: str, expected: str) -> BadSetpoint:
    todo = "limit set-points before they are sent"
    return BadSetpoint(explain("a value that no moteus frame carries", expected, got, todo))


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
    return write(Register.MODE, [_RAW[INT8].pack(value)], INT8)


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
            raise _refused(f"kp, kd scale {gains.kp_scale:g}, {gains.kd_scale:g}", "scales within 0..1")
        if watchdog_s is not None and not watchdog_s > 0.0:
            raise _refused(f"watchdog {watchdog_s} s", "a positive time: 0 would mean the device's own")
        if gains.max_torque_nm is not None and not gains.max_torque_nm >= 0.0:
            raise _refused(f"maximum torque {gains.max_torque_nm} N m", "0 or more")
        r = resolution
        self._resolution, self._raw = r, _RAW[r]
        self._most_rev = MOST_REV if r == FLOAT else _MOST[r] * reg.POSITION_SCALE[r]
        self._before = mode(Mode.POSITION) + _head(WRITE, Register.COMMAND_POSITION, 6, r)
        rest = counts(0.0, reg.VELOCITY_SCALE[r], r)
        rest += counts(gains.torque_ff_nm, reg.TORQUE_SCALE[r], r)
        rest += counts(gains.kp_scale, reg.SHARE_SCALE[r], r) + counts(gains.kd_scale, reg.SHARE_SCALE[r], r)
        rest += counts(gains.max_torque_nm, reg.TORQUE_SCALE[r], r)
        rest += write(Register.TIMEOUT, [counts(watchdog_s, reg.TIME_SCALE[r], r)], r) + after
        size = _PADDED[len(self._before) + self._raw.size + len(rest)]
        self._after = rest.ljust(size - len(self._before) - self._raw.size, b"\x50")

    def data(self, position_rad: float) -> bytes:
        """A whole frame's bytes. Raises BadSetpoint for NaN, infinity and what the register cannot carry."""
        rev = position_rad / REV
        if not -self._most_rev <= rev <= self._most_rev:  # NaN fails too: it would mean "where you are now"
            raise _refused(f"{position_rad} rad", f"an angle within +-{self._most_rev:g} revolutions")
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
        raise _refused(f"{len(text)} bytes of text", "up to 61")
    return bytes((TEXT_IN, TEXT_CHANNEL, len(text))) + text


def text_poll(most: int = 48) -> bytes:
    """Ask for up to `most` bytes of the device's diagnostic answer."""
    return bytes((TEXT_POLL, TEXT_CHANNEL, most))


_STATUS: Final = tuple(Register(number) for number in (0x000, 0x001, 0x002, 0x003, 0x00D, 0x00E, 0x00F))

# --- answers -----------------------------------------------------------------------------------------------------

_FAST: Final = {
    24: (struct.Struct("<2sb2s3f2sbbb2s"), b"\x2f\x01", FLOAT, b"\x50\x50"),
    16: (struct.Struct("<2sb2s3h2sbbb0s"), b"\x27\x01", INT16, b""),
}


def status(data: bytes) -> Status | None:
    """The answer to a `query`; None where it is not one whole answer. Never raises."""
    known = _FAST.get(len(data))
    if known is not None:
        layout, motion, r, pad = known
        m, at, moves, position, velocity, torque, tail, volt, temp, fault, rest = _unpacked(layout, data)
        whole = m == b"\x21\x00" and moves == motion and tail == b"\x23\x0d" and rest == pad
        if whole and -128 not in (at, fault):  # -128: the device does not know
            return Status(
                at,
                scaled(position, reg.POSITION_SCALE[r], r),
                scaled(velocity, reg.VELOCITY_SCALE[r], r),
                scaled(torque, reg.TORQUE_SCALE[r], r),
                scaled(volt, 0.5, INT8),
                scaled(temp, 1.0, INT8),
                fault,
            )
    return _status_of_any_layout(data)


def _unpacked(
    layout: struct.Struct, data: bytes
) -> tuple[bytes, int, bytes, float, float, float, bytes, int, int, int, bytes]:
    found: tuple[bytes, int, bytes, float, float, float, bytes, int, int, int, bytes] = layout.unpack(data)
    return found


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


def subframes(data: bytes) -> Iterator[Subframe]:
    """Every register of a frame, in order. Raises ForeignBytes where the frame breaks off or is no moteus frame."""
    at = 0
    while at < len(data):
        first, at = data[at], at + 1
        if first == NOP:
            continue
        if first < 0x30:
            part, at = _registers(first, data, at)
            yield from part
        elif first in (WRITE_ERROR, READ_ERROR):
            register, at = _varuint_at(data, at)
            number, at = _varuint_at(data, at)
            yield Subframe(first, register, INT8, number)
        elif first in (TEXT_IN, TEXT_OUT, TEXT_POLL):
            channel, at = _varuint_at(data, at)
            size, at = _varuint_at(data, at)
            if first == TEXT_POLL:
                yield Subframe(first, channel, INT8, size)
                continue
            yield Subframe(first, channel, INT8, None, _bytes_at(data, at, size))
            at += size
        else:
            raise _foreign(data, f"subframe {first:#04x}")


def _registers(first: int, data: bytes, at: int) -> tuple[list[Subframe], int]:
    kind, r, count = first & 0xF0, first >> 2 & 3, first & 3
    if not count:
        count, at = _varuint_at(data, at)
    register, at = _varuint_at(data, at)
    if count > 64:
        raise _foreign(data, f"{count} registers in one frame")
    if kind == READ:
        return [Subframe(kind, register + i, r) for i in range(count)], at
    raw = _RAW[r]
    body = _bytes_at(data, at, count * raw.size)
    return [Subframe(kind, register + i, r, raw.unpack_from(body, i * raw.size)[0]) for i in range(count)], at + len(
        body
    )


def _varuint_at(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(5):
        byte = _bytes_at(data, at + i, 1)[0]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80 and value < 1 << 32:
            return value, at + i + 1
    raise _foreign(data, "a number of more than 32 bits")


def _bytes_at(data: bytes, at: int, size: int) -> bytes:
    part = data[at : at + size]
    if len(part) != size:
        raise _foreign(data, "a frame that breaks off")
    return part


def _foreign(data: bytes, got: str) -> ForeignBytes:
    return ForeignBytes(
        explain("not a moteus frame", "whole subframes", f"{got} in {data.hex()}", "check who else is on the bus")
    )


# --- for people, and for the bench -------------------------------------------------------------------------------


def sentence(code: int) -> str:
    """What a code of `joint_faults` means."""
    return SENTENCES.get(code, f"code {code}, unknown to this version") if code else "no fault"


def describe(unit: Frame) -> str:
    """One frame in words. Never raises."""
    source, destination = unit.id >> 8 & 0x7F, unit.id & 0x7F
    way = f"moteus {source} -> {destination}" + (", answer wanted" if unit.id & REPLY_WANTED else "")
    try:
        parts = [_in_words(part) for part in subframes(unit.data)]
    except ForeignBytes:
        return f"{way}: not moteus: {unit.data.hex()}"
    return f"{way}: {'; '.join(parts) or 'nothing'}"


def _in_words(part: Subframe) -> str:
    if part.kind in (TEXT_IN, TEXT_OUT):
        return f"text {part.text!r}"
    if part.kind == TEXT_POLL:
        return f"asks for up to {part.value} bytes of text"
    name = Register(part.register).name.lower() if part.register in set(Register) else f"register {part.register:#05x}"
    if part.kind in (WRITE_ERROR, READ_ERROR):
        verb = "write" if part.kind == WRITE_ERROR else "read"
        return f"{verb} of {name} refused: {ERRORS.get(int(part.value or 0), f'error {part.value}')}"
    if part.value is None:
        return f"asks {name}"
    return f"{name} {'=' if part.kind == WRITE else 'is'} {_value(part, part.value)}"


def _value(part: Subframe, raw: Number) -> str:
    if part.register == Register.MODE and raw in set(Mode):
        return Mode(int(raw)).name.lower().replace("_", " ")
    if part.register == Register.FAULT and raw == raw // 1:
        return sentence(int(raw))
    scales = reg.SCALES.get(part.register)
    if scales is None:
        return f"{raw:g}"
    return f"{scaled(raw, scales[part.resolution], part.resolution):g} {reg.UNITS[scales]}".rstrip()


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None, form: int = FLOAT) -> int:
    """Wire time of one cycle: a command with its question and an answer for each joint."""
    command = PositionCommand(Gains(), 0.1, form, query(form)).data(0.0)
    answer = bytes(24 if form == FLOAT else 16)
    sent = sum(can_ns(frame(joint.id, command), baud, data_baud) for joint in joints)
    ids = (joint.id << 8 for joint in joints)
    return sent + sum(can_ns(Frame(i, answer, i > 0x7FF, True, True), baud, data_baud) for i in ids)
