"""edgelink v2, pure: messages to bytes and bytes to messages.

A frame on the wire is

    00 | COBS( type u8 | flags u8 | seq u16 | payload | crc u16 ) | 00

little endian throughout; the CRC is CRC-16/CCITT (poly 0x1021, start 0xFFFF) over everything before it.
The zero in front costs one byte and keeps line noise between two frames from spoiling the second. Clocks are
the device's microseconds modulo 2**32 (71.6 minutes).
"""

from __future__ import annotations

import math
import re
import struct
from binascii import crc32, crc_hqx
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from firmware_bridge.arm import ChannelLike, Fault, Joint, Mode
from firmware_bridge.cobs import cobs_decode, cobs_encode
from firmware_bridge.errors import BadSetpoint, explain
from firmware_bridge.wire import uart_ns

MAX_CHANNELS = 32
_HEADER = struct.Struct("<BBH")  # type, flags (0 in v2), seq
_CRC = struct.Struct("<H")
_HELLO = struct.Struct("<I")  # schema hash
_HELLO_ACK = struct.Struct("<IIHB")  # schema hash, device us, watchdog ms, channels; channels x f32
_EXPIRY = struct.Struct("<I")  # device clock us
_STATE = struct.Struct("<IBBHH")  # device us, mode, verdict, faults, rejected; channels x f32, channels x f16
_FLOAT_BYTES = 4
_EFFORT_BYTES = 2  # f16: a measured torque has no more than its 11 bits, and 6 joints keep 1 kHz at 921,600 baud
MAX_EFFORT = 65504.0  # the largest f16
_MODES = frozenset(int(mode) for mode in Mode)
# The longest body, a STATE of 208 bytes: below 254, so that a COBS code of 0xFF never occurs.
MAX_BODY = _HEADER.size + _STATE.size + MAX_CHANNELS * (_FLOAT_BYTES + _EFFORT_BYTES) + _CRC.size
MAX_ENCODED = MAX_BODY + 1
_UNIT = re.compile(rb"\0*[^\0]+\0?|\0+")
_FRAMING = 3  # bytes: leading zero, COBS overhead, trailing zero


class Kind(IntEnum):
    """First byte of a frame. The device's own messages have bit 7 set."""

    HELLO = 0x01
    ARM = 0x02
    DISARM = 0x03
    COMMAND = 0x04
    STOP = 0x05
    PING = 0x06
    HELLO_ACK = 0x81
    STATE = 0x84


class Verdict(IntEnum):
    """What the device did with the message that a state answers."""

    ACCEPTED = 0
    NO_HELLO = 1
    NOT_ARMED = 2
    OLD_SEQUENCE = 3
    EXPIRED = 4
    TOO_FAR_AHEAD = 5
    WRONG_COUNT = 6
    NOT_FINITE = 7
    OUT_OF_LIMIT = 8


LAYOUT = " ".join(
    [
        "edgelink/2 cobs crc-16/ccitt-false float32 state=position:f32,effort:f16",
        *(f"{part.format}" for part in (_HEADER, _HELLO, _HELLO_ACK, _EXPIRY, _STATE)),
        *(f"{code.name}={code.value}" for code in (*Kind, *Verdict)),
    ]
)

SENTENCES: dict[int, str] = {
    Verdict.ACCEPTED: "accepted",
    Verdict.NO_HELLO: "the device has not been greeted with its own schema since it started",
    Verdict.NOT_ARMED: "the device is not armed",
    Verdict.OLD_SEQUENCE: "the sequence number is that of an earlier message, or older",
    Verdict.EXPIRED: "the message arrived after its expiry",
    Verdict.TOO_FAR_AHEAD: "the expiry is further ahead than any honest command's",
    Verdict.WRONG_COUNT: "the number of channels is not the device's",
    Verdict.NOT_FINITE: "a set-point is NaN or infinite",
    Verdict.OUT_OF_LIMIT: "a set-point is outside its channel's range",
}


@dataclass(frozen=True)
class Hello:
    """Host to device: is this your schema? Disarms."""

    seq: int
    schema: int


@dataclass(frozen=True)
class HelloAck:
    """Device to host: its schema, clock, watchdog and the set-point it holds."""

    seq: int
    schema: int
    device_us: int
    watchdog_ms: int
    held: tuple[float, ...]


@dataclass(frozen=True)
class ArmRequest:
    """Host to device: take commands. Expires like a command, so that an old one never arms."""

    seq: int
    expiry_us: int


@dataclass(frozen=True)
class Disarm:
    """Host to device: take no more commands."""

    seq: int


@dataclass(frozen=True)
class Command:
    """Host to device: absolute set-point in channel units, void after `expiry_us` of the device's clock."""

    seq: int
    expiry_us: int
    setpoint: tuple[float, ...]


@dataclass(frozen=True)
class Stop:
    """Host to device: latch a stop and hold. Taken whatever its sequence number."""

    seq: int


@dataclass(frozen=True)
class Ping:
    """Host to device: send a state. Does not feed the watchdog."""

    seq: int


@dataclass(frozen=True)
class State:
    """Device to host, answering message `seq`: position in channel units and effort, sampled at `device_us`.

    `effort` has one value per channel: N m of a turning, N of a sliding joint; NaN where none is measured.
    """

    seq: int
    device_us: int
    mode: int
    verdict: int
    faults: int
    rejected: int
    position: tuple[float, ...]
    effort: tuple[float, ...]


Message = Hello | HelloAck | ArmRequest | Disarm | Command | Stop | Ping | State
Reader = Callable[[int, bytes], Message | None]


def schema_hash(channels: Iterable[ChannelLike]) -> int:
    """u32 over message layout and channels' names and units: equal on both sides, or nothing moves."""
    text = ",".join(f"{channel.name}:{channel.unit}" for channel in channels)
    return crc32(f"{LAYOUT}|{text}".encode())


def as_float32(value: float) -> float:
    """The number that arrives when `value` travels as float32."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


class Limits:
    """Closed ranges per channel, rounded to float32 like the set-points (0.05 travels as 0.0500000007)."""

    def __init__(self, channels: Sequence[ChannelLike]) -> None:
        if not 1 <= len(channels) <= MAX_CHANNELS:
            raise ValueError(f"edgelink carries 1..{MAX_CHANNELS} channels, got {len(channels)}")
        self.names = tuple(channel.name for channel in channels)
        self.low = tuple(as_float32(channel.minimum) for channel in channels)
        self.high = tuple(as_float32(channel.maximum) for channel in channels)

    def __len__(self) -> int:
        return len(self.names)

    def judge(self, values: Sequence[float]) -> Verdict:
        """ACCEPTED, or the first of WRONG_COUNT, NOT_FINITE, OUT_OF_LIMIT that holds."""
        if len(values) != len(self.names):
            return Verdict.WRONG_COUNT
        if not all(map(math.isfinite, values)):
            return Verdict.NOT_FINITE
        ranges = zip(self.low, values, self.high, strict=True)
        inside = all(low <= value <= high for low, value, high in ranges)
        return Verdict.ACCEPTED if inside else Verdict.OUT_OF_LIMIT

    def require(self, values: Sequence[float]) -> None:
        """Raises BadSetpoint, naming the channels, unless every value may be commanded."""
        verdict = self.judge(values)
        if verdict is not Verdict.ACCEPTED:
            ranges = ", ".join(
                f"{name} {low:g}..{high:g}" for name, low, high in zip(self.names, self.low, self.high, strict=True)
            )
            raise BadSetpoint(
                explain(
                    f"set-point refused before the wire: {SENTENCES[verdict]}",
                    ranges,
                    ", ".join(f"{value:g}" for value in values),
                    "limit set-points before they are sent; the arm keeps its last accepted one",
                )
            )


def ticks_until(later_us: int, earlier_us: int) -> int:
    """later - earlier on a clock that wraps at 2**32: -2**31 .. 2**31 - 1."""
    return ((later_us - earlier_us + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def is_newer(seq: int, than: int) -> bool:
    """Whether `seq` comes after `than` on a counter that wraps at 2**16."""
    return 0 < (seq - than) & 0xFFFF < 0x8000


def command_wire_bytes(channels: int) -> int:
    """Bytes one COMMAND takes on the wire."""
    return _FRAMING + _HEADER.size + _EXPIRY.size + channels * _FLOAT_BYTES + _CRC.size


def state_wire_bytes(channels: int) -> int:
    """Bytes one STATE takes on the wire."""
    return _FRAMING + _HEADER.size + _STATE.size + channels * (_FLOAT_BYTES + _EFFORT_BYTES) + _CRC.size


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None) -> int:
    """Wire time of one cycle, a COMMAND and the STATE that answers it, without the device's return delay."""
    del data_baud  # CAN's
    return uart_ns(command_wire_bytes(len(joints)), baud) + uart_ns(state_wire_bytes(len(joints)), baud)


def split(data: bytes) -> list[bytes]:
    """A stream cut at its zeros, in order and without a byte lost: frames, and what is between them."""
    return _UNIT.findall(data)


def _frame(kind: Kind, seq: int, payload: bytes) -> bytes:
    body = _HEADER.pack(kind, 0, seq & 0xFFFF) + payload
    return b"\0" + cobs_encode(body + _CRC.pack(crc_hqx(body, 0xFFFF))) + b"\0"


def _floats(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def _efforts(state: State) -> bytes:
    """As float16; what is larger than any float16 arrives as the largest."""
    if len(state.effort) != len(state.position):
        raise ValueError(f"a STATE has one effort per channel, got {len(state.effort)} for {len(state.position)}")
    sound = [value if value != value else max(-MAX_EFFORT, min(value, MAX_EFFORT)) for value in state.effort]
    return struct.pack(f"<{len(sound)}e", *sound)


def encode(message: Message, limits: Limits | None = None) -> bytes:
    """One whole frame. A COMMAND needs the channels' `limits`: BadSetpoint for what must not reach a wire."""
    seq = message.seq
    if isinstance(message, Command):
        if limits is None:
            raise ValueError("a COMMAND is encoded against the limits of its channels, got none")
        limits.require(message.setpoint)
        payload = _EXPIRY.pack(message.expiry_us & 0xFFFF_FFFF) + _floats(message.setpoint)
        return _frame(Kind.COMMAND, seq, payload)
    if isinstance(message, State):
        head = _STATE.pack(message.device_us, message.mode, message.verdict, message.faults, message.rejected)
        return _frame(Kind.STATE, seq, head + _floats(message.position) + _efforts(message))
    if isinstance(message, HelloAck):
        head = _HELLO_ACK.pack(message.schema, message.device_us, message.watchdog_ms, len(message.held))
        return _frame(Kind.HELLO_ACK, seq, head + _floats(message.held))
    if isinstance(message, Hello):
        return _frame(Kind.HELLO, seq, _HELLO.pack(message.schema))
    if isinstance(message, ArmRequest):
        return _frame(Kind.ARM, seq, _EXPIRY.pack(message.expiry_us & 0xFFFF_FFFF))
    kinds = {Disarm: Kind.DISARM, Stop: Kind.STOP, Ping: Kind.PING}
    return _frame(kinds[type(message)], seq, b"")


def decode_body(body: bytes) -> Message | None:
    """The message in an unstuffed, CRC-checked body, or None when it is none of edgelink v2."""
    kind, flags, seq = _HEADER.unpack_from(body)
    payload = body[_HEADER.size : -_CRC.size]
    reader = _READERS.get(kind)
    if flags or reader is None:
        return None
    try:
        return reader(seq, payload)
    except struct.error:
        return None


def _read_hello(seq: int, payload: bytes) -> Message:
    return Hello(seq, *_HELLO.unpack(payload))


def _read_arm(seq: int, payload: bytes) -> Message:
    return ArmRequest(seq, *_EXPIRY.unpack(payload))


def _read_floats(payload: bytes, start: int) -> tuple[float, ...]:
    count = (len(payload) - start) // _FLOAT_BYTES
    return struct.unpack(f"<{count}f", payload[start:])


def _read_command(seq: int, payload: bytes) -> Message:
    (expiry_us,) = _EXPIRY.unpack_from(payload)
    return Command(seq, expiry_us, _read_floats(payload, _EXPIRY.size))


def _read_hello_ack(seq: int, payload: bytes) -> Message | None:
    schema, device_us, watchdog_ms, channels = _HELLO_ACK.unpack_from(payload)
    held = _read_floats(payload, _HELLO_ACK.size)
    return HelloAck(seq, schema, device_us, watchdog_ms, held) if len(held) == channels else None


def _read_state(seq: int, payload: bytes) -> Message | None:
    device_us, mode, verdict, faults, rejected = _STATE.unpack_from(payload)
    values = payload[_STATE.size :]
    count = len(values) // (_FLOAT_BYTES + _EFFORT_BYTES)
    numbers = struct.unpack(f"<{count}f{count}e", values)
    position, effort = numbers[:count], numbers[count:]
    return State(seq, device_us, mode, verdict, faults, rejected, position, effort) if mode in _MODES else None


def _read_empty(kind: Callable[[int], Message]) -> Reader:
    return lambda seq, payload: None if payload else kind(seq)


_READERS: dict[int, Reader] = {
    Kind.HELLO: _read_hello,
    Kind.ARM: _read_arm,
    Kind.DISARM: _read_empty(Disarm),
    Kind.COMMAND: _read_command,
    Kind.STOP: _read_empty(Stop),
    Kind.PING: _read_empty(Ping),
    Kind.HELLO_ACK: _read_hello_ack,
    Kind.STATE: _read_state,
}
_SHORTEST_BODY = _HEADER.size + _CRC.size


@dataclass
class DecoderCounts:
    """What a decoder threw away, and what it passed on."""

    frames: int = 0
    bad_stuffing: int = 0
    bad_crc: int = 0
    bad_message: int = 0  # right CRC, but no message of edgelink v2
    too_short: int = 0
    too_long: int = 0

    @property
    def spoiled(self) -> int:
        """Frames thrown away, for whatever reason."""
        return self.bad_stuffing + self.bad_crc + self.bad_message + self.too_short + self.too_long


class Decoder:
    """Bytes in any pieces to messages. Never raises, and is in step again at the next zero."""

    def __init__(self) -> None:
        self.counts = DecoderCounts()
        self._partial = b""
        self._skipping = False  # inside a frame that is too long to be one

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes, in order of arrival."""
        *whole, rest = (self._partial + data).split(b"\0")
        messages = []
        for encoded in whole:
            skipped, self._skipping = self._skipping, False
            message = None if skipped else self._open(encoded)
            if message is not None:
                messages.append(message)
        self._keep(rest)
        return messages

    def _keep(self, rest: bytes) -> None:
        """Hold the start of a frame for the next call, never more than one frame may have."""
        if len(rest) > MAX_ENCODED:
            self.counts.too_long += not self._skipping
            self._skipping = True
        self._partial = b"" if self._skipping else rest

    def _open(self, encoded: bytes) -> Message | None:
        if not encoded:  # two delimiters in a row
            return None
        counts = self.counts
        if len(encoded) > MAX_ENCODED:
            counts.too_long += 1
            return None
        body = cobs_decode(encoded)
        if body is None:
            counts.bad_stuffing += 1
            return None
        if len(body) < _SHORTEST_BODY:
            counts.too_short += 1
            return None
        if crc_hqx(body[: -_CRC.size], 0xFFFF) != _CRC.unpack_from(body, len(body) - _CRC.size)[0]:
            counts.bad_crc += 1
            return None
        message = decode_body(body)
        if message is None:
            counts.bad_message += 1
        else:
            counts.frames += 1
        return message


def describe(unit: bytes) -> str:
    """What a frame says, in words; never raises. What is none begins with "not edgelink"."""
    encoded = unit.strip(b"\0")
    body = cobs_decode(encoded) if encoded else None
    if body is None or len(body) < _SHORTEST_BODY or len(encoded) > MAX_ENCODED:
        return f"not edgelink: {len(unit)} bytes that no COBS frame of it has"
    crc = _CRC.unpack_from(body, len(body) - _CRC.size)[0]
    counted = crc_hqx(body[: -_CRC.size], 0xFFFF)
    if crc != counted:
        return f"not edgelink: CRC {crc:#06x}, its bytes give {counted:#06x}"
    message = decode_body(body)
    if message is None:
        return f"not edgelink/2: type {body[0]:#04x} with {len(body) - _SHORTEST_BODY} bytes is none of its messages"
    return f"edgelink {_HEADINGS[type(message)]}, sequence {message.seq}{_details(message)}"


def _details(message: Message) -> str:
    if isinstance(message, Hello):
        return f", schema {message.schema:#010x}"
    if isinstance(message, HelloAck):
        return (
            f", schema {message.schema:#010x}, device clock {message.device_us} us, watchdog {message.watchdog_ms} ms, "
            f"holds {_listed(message.held)}"
        )
    if isinstance(message, ArmRequest):
        return f", void after {message.expiry_us} us of the device's clock"
    if isinstance(message, Command):
        return (
            f": {_listed(message.setpoint)} in channel units, void after {message.expiry_us} us of the device's clock"
        )
    if isinstance(message, State):
        return (
            f" at {message.device_us} us of the device's clock: mode {Mode(message.mode).name}, "
            f"{SENTENCES.get(message.verdict, f'verdict {message.verdict}')}, faults {_named(message.faults)}, "
            f"{message.rejected} refused so far, position {_listed(message.position)}, effort {_listed(message.effort)}"
        )
    return ""


def _named(faults: int) -> str:
    return "|".join(fault.name or "" for fault in Fault if fault and faults & fault) or "none"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "nothing"


_HEADINGS: dict[type, str] = {
    Hello: "HELLO from the host: is this your schema? Disarms",
    HelloAck: "HELLO_ACK from the device",
    ArmRequest: "ARM from the host: take commands, clear a latched stop",
    Disarm: "DISARM from the host: take no more commands",
    Command: "COMMAND from the host",
    Stop: "STOP from the host: latch a stop and hold",
    Ping: "PING from the host: send a state",
    State: "STATE from the device",
}
