"""edgelink v2 for people: what a frame says, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.arm import Fault, Mode
from firmware_bridge.cobs import cobs_decode
from firmware_bridge.edgelink.frames import MAX_ENCODED, SHORTEST_BODY, checksums, decode_body
from firmware_bridge.edgelink.messages import (
    SENTENCES,
    ArmRequest,
    Command,
    Disarm,
    Hello,
    HelloAck,
    Message,
    Ping,
    State,
    Stop,
)


def describe(unit: bytes) -> str:
    """What a frame says, in words; never raises. What is none begins with "not edgelink"."""
    encoded = unit.strip(b"\0")
    body = cobs_decode(encoded) if encoded else None
    if body is None or len(body) < SHORTEST_BODY or len(encoded) > MAX_ENCODED:
        return f"not edgelink: {len(unit)} bytes that no COBS frame of it has"
    carried, counted = checksums(body)
    if carried != counted:
        return f"not edgelink: CRC {carried:#06x}, its bytes give {counted:#06x}"
    message = decode_body(body)
    if message is None:
        return f"not edgelink/2: type {body[0]:#04x} with {len(body) - SHORTEST_BODY} bytes is none of its messages"
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
