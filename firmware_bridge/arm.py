"""The arm as the servo loop sees it: absolute set-points out, joint states with their age in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class Mode(IntEnum):
    """What the device does with set-points."""

    DISARMED = 0  # takes none; torque may be off
    ARMED = 1  # follows accepted commands
    STOPPED = 2  # latched: holds the last accepted set-point until it is armed again


class Fault(IntFlag):
    """Latched reasons of a stop; arming clears them."""

    NONE = 0
    WATCHDOG = 1  # no accepted command for the watchdog time
    STOP = 2  # the host sent STOP


class ChannelLike(Protocol):
    """One channel of a set-point; `profiles` describes its channels with these names too."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def minimum(self) -> float: ...
    @property
    def maximum(self) -> float: ...


@dataclass(frozen=True)
class ChannelLimits:
    """One channel: name, unit and the closed range of its set-points in that unit."""

    name: str
    unit: str
    minimum: float
    maximum: float


@dataclass(frozen=True)
class JointState:
    """One reading. `stamp_ns` is when the device sampled it, on the host's CLOCK_MONOTONIC."""

    position: Float32  # (n,), units of the channels
    velocity: Float32 | None  # (n,), units of the channels per second; None when the device has none
    faults: int  # bits of Fault, latched
    stamp_ns: int
    device_us: int  # the device's own clock, u32
    last_seq: int  # sequence number of the message this reading answers
    mode: int = Mode.DISARMED
    verdict: int = 0  # edgelink Verdict of that message; 0 = accepted
    rejected: int = 0  # messages the device has refused since it started, u16
    effort: Float32 | None = None  # (n,) N m or N; NaN where not measured, None when the protocol has none


@dataclass(frozen=True)
class ArmInfo:
    """What connecting found out. `held_setpoint` (n,) is what the device holds now, in channel units."""

    port: str
    schema_hash: int
    channels: int
    watchdog_ms: int
    clock_offset_us: int  # device clock minus host CLOCK_MONOTONIC, modulo 2**32
    rtt_us: int  # of the exchange the offset comes from
    held_setpoint: Float32


@dataclass
class LinkCounts:
    """What the link did since connect()."""

    sent: int = 0  # commands written
    late: int = 0  # commands found expired immediately before the write: never written
    overtaken: int = 0  # commands whose write ended after their expiry (the device refuses those itself)
    replies: int = 0  # states taken
    stale_replies: int = 0  # states older than one already taken
    bad_replies: int = 0  # states with non-finite positions or the wrong number of channels
    refused: int = 0  # states that say "the message I answer was refused"
    refusals: dict[int, int] = field(default_factory=dict)  # verdict -> times


class Arm(Protocol):
    """One arm. Nothing here blocks longer than its text says; times are CLOCK_MONOTONIC nanoseconds."""

    counts: LinkCounts

    def connect(self) -> ArmInfo:
        """Open, check that both sides speak the same schema, estimate the device clock. Never arms."""

    def arm(self) -> None:
        """Clear a latched stop and take set-points; the device's watchdog runs from here."""

    def disarm(self) -> None:
        """Take no more set-points."""

    def request_state(self) -> None:
        """Ask for a state without commanding anything; it arrives through poll()."""

    def send(self, setpoint: Float32, expiry_ns: int) -> int:
        """Command float32 (n,) unless it has expired: time after the write, 0 when nothing was written."""

    def poll(self) -> JointState | None:
        """Newest state that arrived since the last call, or None. Does not wait."""

    def stop(self) -> bool:
        """Latched stop, position held; True when the device confirmed it."""

    def close(self) -> None:
        """Stop an armed arm and release the port. Never raises; a second call does nothing."""
