"""edgelink v2: what host and device say to each other, and the counters that wrap. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


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


def ticks_until(later_us: int, earlier_us: int) -> int:
    """later - earlier on a clock that wraps at 2**32: -2**31 .. 2**31 - 1."""
    return ((later_us - earlier_us + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def is_newer(seq: int, than: int) -> bool:
    """Whether `seq` comes after `than` on a counter that wraps at 2**16."""
    return 0 < (seq - than) & 0xFFFF < 0x8000
