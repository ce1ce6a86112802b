"""The arm as the servo loop sees it: absolute set-points out, joint states with their age in."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BridgeError, Expired, explain

Float32 = NDArray[np.float32]


class Mode(IntEnum):
    """What the device does with set-points."""

    DISARMED = 0  # takes none; torque may be off
    ARMED = 1  # follows accepted commands
    STOPPED = 2  # latched: holds the last accepted set-point until it is armed again


class Fault(IntFlag):
    """Why a device does not follow, the same bits for every protocol; which joint, `JointState.joint_faults` tells."""

    NONE = 0
    WATCHDOG = 1  # no accepted command for the watchdog time
    STOP = 2  # the host sent STOP
    OVERLOAD = 4  # current or torque beyond what the actuator allows
    OVERHEAT = 8
    VOLTAGE = 16  # supply too low or too high
    ENCODER = 32
    LIMIT = 64  # the device found itself outside its own limits
    RESET = 128  # the device restarted since it was armed: power came back
    OTHER = 256  # the protocol's own code in `joint_faults` has the sentence


class StopKind(IntEnum):
    """What a stop leaves the actuators doing, where the protocol can; never more torque than the kind before."""

    HOLD = 0  # torque on, at the last commanded position (category-2-style)
    DAMP = 1  # torque against motion only: a hanging arm sinks slowly
    FREE = 2  # no torque: a hanging arm falls


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
class Joint:
    """One actuator on a bus, and how its channel counts.

    position [unit] = direction * (device angle [rad] - zero_rad) * ratio; velocity alike, effort divided by `ratio`.
    """

    name: str
    unit: str  # of the channel: rad, m, or 1
    minimum: float  # closed range of set-points, unit
    maximum: float
    id: int  # on its bus
    model: str  # as the protocol's table of models names it
    direction: int = 1  # 1 or -1
    zero_rad: float = 0.0  # device angle where the channel reads 0
    ratio: float = 1.0  # unit per rad of the device's own angle
    kp: float | None = None  # N m/rad, of modes that take gains with each command
    kd: float | None = None  # N m s/rad
    torque_ff: float = 0.0  # N m, added to every command of such modes
    max_effort: float | None = None  # N m or N: written into the actuator's own limit at connect where it has one
    reply_id: int | None = None  # CAN id of its answers where that is not derived from `id`

    def to_channel(self, device_rad: float) -> float:
        """Channel units of a device angle."""
        return self.direction * (device_rad - self.zero_rad) * self.ratio

    def to_device(self, value: float) -> float:
        """Device angle, rad, of a channel value."""
        return self.direction * value / self.ratio + self.zero_rad

    @property
    def width(self) -> float:
        """Of the range, unit."""
        return self.maximum - self.minimum

    @property
    def device_range_rad(self) -> tuple[float, float]:
        """The range of set-points as device angles, ascending."""
        ends = self.to_device(self.minimum), self.to_device(self.maximum)
        return min(ends), max(ends)


@dataclass(frozen=True)
class JointInfo:
    """One row of the table that connecting prints: what the joint says of itself."""

    name: str
    id: int
    model: str
    firmware: str
    range: tuple[float, float]  # of set-points that reach it: profile and device, in channel units
    watchdog_s: float | None  # read back; None: it has none
    return_delay_s: float | None
    voltage_v: float | None = None
    temperature_c: float | None = None
    note: str = ""  # what a user should know, one line


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
    temperature: Float32 | None = None  # (n,) degrees Celsius; NaN where not measured
    joint_faults: tuple[int, ...] = ()  # (n,) the protocol's own codes, 0 = none; () when it has none per joint


@dataclass(frozen=True)
class ArmInfo:
    """What connecting found out. `held_setpoint` (n,) is what the device holds now, in channel units."""

    port: str
    schema_hash: int  # 0 where the protocol has none
    channels: int
    watchdog_ms: int  # shortest of its joints, read back; 0: a joint has none
    clock_offset_us: int  # device clock minus host CLOCK_MONOTONIC, modulo 2**32; 0 where it has no clock
    rtt_us: int  # of the exchange the offset comes from, or of the first read
    held_setpoint: Float32
    joints: tuple[JointInfo, ...] = ()


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
    incomplete: int = 0  # cycles that ended without the answer of every joint
    foreign: int = 0  # answers of nobody that was asked, echoes, spoiled frames


class Arm(Protocol):
    """One arm. Nothing here blocks longer than its text says; times are CLOCK_MONOTONIC nanoseconds."""

    @property
    def counts(self) -> LinkCounts:
        """Since connect(); of several buses together."""

    last_asked: int  # `last_seq` of the state that answers what was sent last
    held: Float32  # (n,) the set-point that the device holds, known since connect() and arm()

    def silence(self) -> BridgeError:
        """The error to raise when no whole answer came: who stayed silent, and what to do."""

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

    def wait_readable(self, deadline_ns: int) -> bool:
        """Wait until something can be polled, or the deadline; False when nothing came."""

    def stop(self, kind: StopKind = StopKind.HOLD) -> bool:
        """Latched stop; True when the device confirmed it. Up to 0.3 s."""

    def close(self) -> None:
        """Stop an armed arm and release the port. Never raises; a second call does nothing."""


AWAKE_NS = 100_000  # on either side of the moment at which the wire is done


def exchange(arm: Arm, setpoint: Float32, deadline_ns: int, wire_ns: int = 0) -> JointState:
    """Command float32 (n,) and wait for the state that answers it: one whole cycle.

    For callers without a loop of their own. `wire_ns`: how long command and answers take on the wire
    (`profiles.bridge.wire_s`). Around that moment the answer is looked for without sleeping, for at most 2 AWAKE_NS of
    processor time: who sleeps is woken some 50 us late. 0: always sleep.

    Raises Expired when the deadline had passed before the first byte; NoAnswer, or JointSilent which names the joints,
    at the deadline; and what `send` and `poll` raise.
    """
    sent_ns = arm.send(setpoint, deadline_ns)
    if not sent_ns:
        raise Expired(explain("the command was not sent", "a deadline ahead", "it had passed", "give more time"))
    asked, done_ns = arm.last_asked, sent_ns + wire_ns if wire_ns else 0
    while _readable(arm, deadline_ns, done_ns):
        state = arm.poll()
        if state is not None and state.last_seq == asked:
            return state
        if time.monotonic_ns() >= deadline_ns:  # a babbling bus is readable for ever
            break
    raise arm.silence()


def _readable(arm: Arm, deadline_ns: int, done_ns: int) -> bool:
    """`arm.wait_readable`, awake around `done_ns`."""
    awake_ns, asleep_ns = min(done_ns - AWAKE_NS, deadline_ns), min(done_ns + AWAKE_NS, deadline_ns)
    now_ns = time.monotonic_ns()
    if now_ns < awake_ns and arm.wait_readable(awake_ns):
        return True
    while now_ns < asleep_ns:
        if arm.wait_readable(now_ns):
            return True
        now_ns = time.monotonic_ns()
    return arm.wait_readable(deadline_ns)
