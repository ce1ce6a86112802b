"""edgelink v2, pure: one message to the bytes of its frame, and the body of a frame to its message.

The layout is told in `codec.py`. Every length that a message may have is a `struct.Struct` made once.
"""

from __future__ import annotations

import struct
from binascii import crc32, crc_hqx
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from firmware_bridge.arm import ChannelLike, Mode
from firmware_bridge.cobs import cobs_decode, cobs_encode
from firmware_bridge.edgelink.limits import MAX_CHANNELS, Limits
from firmware_bridge.edgelink.messages import (
    ArmRequest,
    Command,
    Disarm,
    Hello,
    HelloAck,
    Kind,
    Message,
    Ping,
    State,
    Stop,
    Verdict,
)

HEADER = struct.Struct("<BBH")  # type, flags (0 in v2), seq
CRC = struct.Struct("<H")
_HELLO = struct.Struct("<I")  # schema hash
_HELLO_ACK = struct.Struct("<IIHB")  # schema hash, device us, watchdog ms, channels; channels x f32
_EXPIRY = struct.Struct("<I")  # device clock us
_STATE = struct.Struct("<IBBHH")  # device us, mode, verdict, faults, rejected; channels x f32, channels x f16
_NOTHING = struct.Struct("<")
_FLOAT_BYTES = 4
_EFFORT_BYTES = 2  # f16: a measured torque has no more than its 11 bits, and 6 joints keep 1 kHz at 921,600 baud
MAX_EFFORT = 65504.0  # the largest f16
_MODES = frozenset(int(mode) for mode in Mode)
# The longest body, a STATE of 208 bytes: below 254, so that a COBS code of 0xFF never occurs.
MAX_BODY = HEADER.size + _STATE.size + MAX_CHANNELS * (_FLOAT_BYTES + _EFFORT_BYTES) + CRC.size
MAX_ENCODED = MAX_BODY + 1
SHORTEST_BODY = HEADER.size + CRC.size
_FRAMING = 3  # bytes: leading zero, COBS overhead, trailing zero

LAYOUT = " ".join(
    [
        "edgelink/2 cobs crc-16/ccitt-false float32 state=position:f32,effort:f16",
        *(f"{part.format}" for part in (HEADER, _HELLO, _HELLO_ACK, _EXPIRY, _STATE)),
        *(f"{code.name}={code.value}" for code in (*Kind, *Verdict)),
    ]
)


def schema_hash(channels: Iterable[ChannelLike]) -> int:
    """u32 over message layout and channels' names and units: equal on both sides, or nothing moves."""
    text = ",".join(f"{channel.name}:{channel.unit}" for channel in channels)
    return crc32(f"{LAYOUT}|{text}".encode())


def command_wire_bytes(channels: int) -> int:
    """Bytes one COMMAND takes on the wire."""
    return _FRAMING + HEADER.size + _EXPIRY.size + channels * _FLOAT_BYTES + CRC.size


def state_wire_bytes(channels: int) -> int:
    """Bytes one STATE takes on the wire."""
    return _FRAMING + HEADER.size + _STATE.size + channels * (_FLOAT_BYTES + _EFFORT_BYTES) + CRC.size


@dataclass(frozen=True)
class _Form:
    """Header and payload of one kind of message, without the CRC: by its number of channels, and by its length."""

    kind: int
    by_channels: tuple[struct.Struct, ...]
    by_length: dict[int, struct.Struct]

    def pack(self, channels: int, seq: int, *fields: float) -> bytes:
        """Raises ValueError for more channels than any frame has."""
        if channels >= len(self.by_channels):
            raise ValueError(f"a {Kind(self.kind).name} has at most {len(self.by_channels) - 1} values, got {channels}")
        return self.by_channels[channels].pack(self.kind, 0, seq & 0xFFFF, *fields)


def _form(kind: Kind, head: struct.Struct, per_channel: str = "") -> _Form:
    """`per_channel`: struct codes of what follows `head`, each once for every channel."""
    first = HEADER.format + head.format[1:]
    room = MAX_BODY - CRC.size - HEADER.size - head.size
    most = room // struct.calcsize(f"<{per_channel}") if per_channel else 0
    shapes = [struct.Struct(first + "".join(f"{n}{code}" for code in per_channel)) for n in range(most + 1)]
    return _Form(int(kind), tuple(shapes), {shape.size: shape for shape in shapes})


_COMMAND_FORM = _form(Kind.COMMAND, _EXPIRY, "f")
_STATE_FORM = _form(Kind.STATE, _STATE, "fe")
_ACK_FORM = _form(Kind.HELLO_ACK, _HELLO_ACK, "f")
_HELLO_FORM = _form(Kind.HELLO, _HELLO)
_ARM_FORM = _form(Kind.ARM, _EXPIRY)
_EMPTY_FORMS = {kind: _form(kind, _NOTHING) for kind in (Kind.DISARM, Kind.STOP, Kind.PING)}


def frame(body: bytes) -> bytes:
    """`body` (header and payload) with its CRC, stuffed, between two zeros."""
    return b"\0" + cobs_encode(body + CRC.pack(crc_hqx(body, 0xFFFF))) + b"\0"


def checksums(body: bytes) -> tuple[int, int]:
    """(CRC at the end of a body, CRC of the bytes before it)."""
    return body[-2] | body[-1] << 8, crc_hqx(body[: -CRC.size], 0xFFFF)


def encode(message: Message, limits: Limits | None = None) -> bytes:
    """One whole frame. A COMMAND needs the channels' `limits`: BadSetpoint for what must not reach a wire."""
    if isinstance(message, Command):
        if limits is None:
            raise ValueError("a COMMAND is encoded against the limits of its channels, got none")
        limits.require(message.setpoint)
    return frame(_WRITERS[type(message)](message))


def _write_command(message: Command) -> bytes:
    setpoint = message.setpoint
    return _COMMAND_FORM.pack(len(setpoint), message.seq, message.expiry_us & 0xFFFF_FFFF, *setpoint)


def _write_state(message: State) -> bytes:
    """Effort as float16; what is larger than any float16 arrives as the largest."""
    count = len(message.position)
    if len(message.effort) != count:
        raise ValueError(f"a STATE has one effort per channel, got {len(message.effort)} for {count}")
    efforts = [value if value != value else max(-MAX_EFFORT, min(value, MAX_EFFORT)) for value in message.effort]
    head = message.device_us, message.mode, message.verdict, message.faults, message.rejected
    return _STATE_FORM.pack(count, message.seq, *head, *message.position, *efforts)


def _write_ack(message: HelloAck) -> bytes:
    count = len(message.held)
    head = message.schema, message.device_us, message.watchdog_ms, count
    return _ACK_FORM.pack(count, message.seq, *head, *message.held)


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    Command: _write_command,
    State: _write_state,
    HelloAck: _write_ack,
    Hello: lambda message: _HELLO_FORM.pack(0, message.seq, message.schema),
    ArmRequest: lambda message: _ARM_FORM.pack(0, message.seq, message.expiry_us & 0xFFFF_FFFF),
    Disarm: lambda message: _EMPTY_FORMS[Kind.DISARM].pack(0, message.seq),
    Stop: lambda message: _EMPTY_FORMS[Kind.STOP].pack(0, message.seq),
    Ping: lambda message: _EMPTY_FORMS[Kind.PING].pack(0, message.seq),
}


def decode_body(body: bytes) -> Message | None:
    """The message in an unstuffed, CRC-checked body, or None when it is none of edgelink v2."""
    form, reader = _READERS.get(body[0], _NOBODY)
    shape = form.by_length.get(len(body) - CRC.size)
    if shape is None or body[1]:  # a flag that v2 does not have
        return None
    return reader(shape.unpack_from(body)[2:])


def _read_ack(fields: tuple[Any, ...]) -> HelloAck | None:
    seq, schema, device_us, watchdog_ms, channels, *held = fields
    return HelloAck(seq, schema, device_us, watchdog_ms, tuple(held)) if len(held) == channels else None


def _read_state(fields: tuple[Any, ...]) -> State | None:
    seq, device_us, mode, verdict, faults, rejected = fields[:6]
    middle = (6 + len(fields)) // 2
    position, effort = fields[6:middle], fields[middle:]
    return State(seq, device_us, mode, verdict, faults, rejected, position, effort) if mode in _MODES else None


_READERS: dict[int, tuple[_Form, Callable[[tuple[Any, ...]], Message | None]]] = {
    Kind.HELLO: (_HELLO_FORM, lambda fields: Hello(*fields)),
    Kind.ARM: (_ARM_FORM, lambda fields: ArmRequest(*fields)),
    Kind.DISARM: (_EMPTY_FORMS[Kind.DISARM], lambda fields: Disarm(*fields)),
    Kind.COMMAND: (_COMMAND_FORM, lambda fields: Command(fields[0], fields[1], fields[2:])),
    Kind.STOP: (_EMPTY_FORMS[Kind.STOP], lambda fields: Stop(*fields)),
    Kind.PING: (_EMPTY_FORMS[Kind.PING], lambda fields: Ping(*fields)),
    Kind.HELLO_ACK: (_ACK_FORM, _read_ack),
    Kind.STATE: (_STATE_FORM, _read_state),
}
_NOBODY = (_Form(0, (), {}), lambda fields: None)


class WholeState:
    """Reads the usual answer in one go: exactly one sound frame, a STATE of `channels`; leaves everything else."""

    def __init__(self, channels: int) -> None:
        self._length = state_wire_bytes(channels)
        self._body = struct.Struct(_STATE_FORM.by_channels[channels].format + CRC.format[1:])
        self._effort_at = 8 + channels  # of the fields

    def read(self, data: bytes) -> State | None:
        """None: what `data` is, the decoder must find out."""
        last = self._length - 1
        if len(data) != self._length or data[0] or data.find(0, 1) != last:
            return None
        body = cobs_decode(data[1:last])
        if body is None:
            return None
        fields = self._body.unpack(body)
        kind, flags, seq, device_us, mode, verdict, faults, rejected = fields[:8]
        if fields[-1] != crc_hqx(body[: -CRC.size], 0xFFFF) or kind != Kind.STATE or flags or mode not in _MODES:
            return None
        position, effort = fields[8 : self._effort_at], fields[self._effort_at : -1]
        return State(seq, device_us, mode, verdict, faults, rejected, position, effort)
