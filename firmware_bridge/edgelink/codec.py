"""edgelink v2, pure: messages to bytes and bytes to messages.

A frame on the wire is

    00 | COBS( type u8 | flags u8 | seq u16 | payload | crc u16 ) | 00

little endian throughout; the CRC is CRC-16/CCITT (poly 0x1021, start 0xFFFF) over everything before it.
The zero in front costs one byte and keeps line noise between two frames from spoiling the second. Clocks are
the device's microseconds modulo 2**32 (71.6 minutes).

What there is to say stands in `messages`, which set-points may be said in `limits`, the bytes of a frame in `frames`,
a stream of them in `stream`, their sentences for people in `words`; this module is all of it under one name.
"""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.arm import Joint
from firmware_bridge.edgelink.frames import (
    MAX_BODY,
    MAX_EFFORT,
    MAX_ENCODED,
    command_wire_bytes,
    decode_body,
    encode,
    schema_hash,
    state_wire_bytes,
)
from firmware_bridge.edgelink.limits import MAX_CHANNELS, Limits, as_float32
from firmware_bridge.edgelink.messages import (
    SENTENCES,
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
    is_newer,
    ticks_until,
)
from firmware_bridge.edgelink.stream import Decoder, DecoderCounts, split
from firmware_bridge.edgelink.words import describe
from firmware_bridge.wire import uart_ns

__all__ = [
    "MAX_BODY",
    "MAX_CHANNELS",
    "MAX_EFFORT",
    "MAX_ENCODED",
    "SENTENCES",
    "ArmRequest",
    "Command",
    "Decoder",
    "DecoderCounts",
    "Disarm",
    "Hello",
    "HelloAck",
    "Kind",
    "Limits",
    "Message",
    "Ping",
    "State",
    "Stop",
    "Verdict",
    "as_float32",
    "command_wire_bytes",
    "cycle_ns",
    "decode_body",
    "describe",
    "encode",
    "is_newer",
    "schema_hash",
    "split",
    "state_wire_bytes",
    "ticks_until",
]


def cycle_ns(joints: Sequence[Joint], baud: int, data_baud: int | None = None) -> int:
    """Wire time of one cycle, a COMMAND and the STATE that answers it, without the device's return delay."""
    del data_baud  # CAN's
    return uart_ns(command_wire_bytes(len(joints)), baud) + uart_ns(state_wire_bytes(len(joints)), baud)
