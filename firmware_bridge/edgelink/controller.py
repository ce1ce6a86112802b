"""The device's side of edgelink as a pure state machine: bytes and a clock in, bytes and plant steps out.

It starts disarmed and holds a set-point. It refuses, and counts, what is not whole, not newer, not in time,
not finite or not within its own limits (compiled in, not taken from the host). Only accepted commands feed
its watchdog; when that runs out it latches a stop and holds the last accepted set-point until armed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np

from firmware_bridge.arm import ChannelLike, Fault, Float32, Mode
from firmware_bridge.edgelink import codec
from firmware_bridge.edgelink.codec import (
    ArmRequest,
    Command,
    Decoder,
    Disarm,
    Hello,
    HelloAck,
    Limits,
    Message,
    Ping,
    State,
    Stop,
    Verdict,
    is_newer,
    ticks_until,
)

WATCHDOG_US = 100_000  # us without an accepted command until the stop latches (moteus: 100 ms too)
MAX_AHEAD_US = 1_000_000  # us: an expiry further ahead is no honest command (and could be a wrapped, old one)

Request = ArmRequest | Disarm | Command | Stop | Ping
# Tuples: a union of classes is made anew wherever isinstance is asked with one.
_REQUESTS = (ArmRequest, Disarm, Command, Stop, Ping)
_IN_SEQUENCE = (ArmRequest, Disarm, Command)
_ALWAYS_SAFE = (Stop, Ping)


class Plant(Protocol):
    """What the set-points move."""

    def step(self, setpoint: Float32) -> Float32:
        """Advance one period towards the absolute set-point (n,); returns position()."""

    def position(self) -> Float32:
        """Measured position (n,), channel units."""

    def effort(self) -> Float32:
        """Measured effort (n,), N m or N; NaN where none is measured."""


class IntegratorPlant:
    """Kinematic plant: each period the position goes a fixed share of the way to the set-point.

    A spring pulls it there: effort = `stiffness` (N/m, N m/rad) times the distance that is left. `wall` (n,): the
    highest positions that an obstacle leaves free, inf where there is none.
    """

    def __init__(
        self, position: Float32, share: float = 0.5, stiffness: float = 100.0, wall: Float32 | None = None
    ) -> None:
        self._position = np.array(position, np.float32)
        self._setpoint = self._position.copy()
        self._share, self._stiffness = np.float32(share), np.float32(stiffness)
        self._wall = np.full_like(self._position, np.inf) if wall is None else np.array(wall, np.float32)

    def step(self, setpoint: Float32) -> Float32:
        self._setpoint = np.array(setpoint, np.float32)
        self._position += self._share * (setpoint - self._position)
        self._position = np.minimum(self._position, self._wall)
        return self.position()

    def effort(self) -> Float32:
        return self._stiffness * (self._setpoint - self._position)

    def position(self) -> Float32:
        return self._position.copy()


@dataclass
class DeviceCounts:
    """What the device took and what it refused."""

    accepted: int = 0
    watchdog_trips: int = 0
    refused: dict[str, int] = field(default_factory=lambda: {v.name.lower(): 0 for v in Verdict if v})


class VirtualDevice:
    """One arm controller. `held`: the set-point at power-on; times are its own microseconds, unwrapped."""

    def __init__(
        self, plant: Plant, channels: Sequence[ChannelLike], held: Float32, watchdog_us: int = WATCHDOG_US
    ) -> None:
        self._plant = plant
        self._limits = Limits(channels)
        self._schema = codec.schema_hash(channels)
        self._watchdog_us = watchdog_us
        self._decoder = Decoder()
        self._greeted = False
        self._last_seq = 0
        self._fed_us = 0  # last accepted command, or arming
        self.held = np.array(held, np.float32)
        self.mode = Mode.DISARMED
        self.faults = Fault.NONE
        self.commands_since_arming = 0
        self.counts = DeviceCounts()

    def feed(self, data: bytes, now_us: int) -> bytes:
        """Take bytes from the host; returns the bytes to send back."""
        return b"".join(self.answers(data, now_us))

    def answers(self, data: bytes, now_us: int) -> list[bytes]:
        """Take bytes from the host; returns the frames to send back, one for each message that has an answer."""
        self._check_watchdog(now_us)
        replies = [self._answer(message, now_us) for message in self._decoder.feed(data)]
        return [reply for reply in replies if reply]

    def tick(self, now_us: int) -> bool:
        """One period: watchdog, then the plant's step, if it moves at all. True when it stepped."""
        self._check_watchdog(now_us)
        moving = self.mode is not Mode.DISARMED and self.commands_since_arming > 0
        if moving:
            self._plant.step(self.held)
        return moving

    def counts_dict(self) -> dict[str, object]:
        """All counts, of the device and of its decoder, for a report."""
        return {**asdict(self.counts), "decoder": asdict(self._decoder.counts)}

    def _check_watchdog(self, now_us: int) -> None:
        if self.mode is Mode.ARMED and now_us - self._fed_us > self._watchdog_us:
            self.mode = Mode.STOPPED
            self.faults |= Fault.WATCHDOG
            self.counts.watchdog_trips += 1

    def _answer(self, message: Message, now_us: int) -> bytes:
        if isinstance(message, Hello):
            return self._greet(message, now_us)
        if not isinstance(message, _REQUESTS):
            return b""  # another device's answer: an echo on the line
        verdict = self._verdict(message, now_us)
        if verdict is Verdict.ACCEPTED:
            self._obey(message, now_us)
        else:
            self.counts.refused[verdict.name.lower()] += 1
        return self._state(message.seq, verdict, now_us)

    def _greet(self, hello: Hello, now_us: int) -> bytes:
        """A new host: whatever the last one did, nothing is armed."""
        self.mode = Mode.DISARMED
        self._greeted = hello.schema == self._schema
        self._last_seq = hello.seq
        held = tuple(self.held.tolist())
        ack = HelloAck(hello.seq, self._schema, now_us & 0xFFFF_FFFF, self._watchdog_us // 1000, held)
        return codec.encode(ack)

    def _verdict(self, message: Request, now_us: int) -> Verdict:
        if isinstance(message, _ALWAYS_SAFE):  # always safe, so never refused
            return Verdict.ACCEPTED
        if not self._greeted:
            return Verdict.NO_HELLO
        if not is_newer(message.seq, self._last_seq):
            return Verdict.OLD_SEQUENCE
        if isinstance(message, Disarm):
            return Verdict.ACCEPTED
        left_us = ticks_until(message.expiry_us, now_us & 0xFFFF_FFFF)
        if left_us <= 0:
            return Verdict.EXPIRED
        if left_us > MAX_AHEAD_US:
            return Verdict.TOO_FAR_AHEAD
        return self._verdict_on_setpoint(message) if isinstance(message, Command) else Verdict.ACCEPTED

    def _verdict_on_setpoint(self, command: Command) -> Verdict:
        verdict = self._limits.judge(command.setpoint)
        if verdict is Verdict.ACCEPTED and self.mode is not Mode.ARMED:
            return Verdict.NOT_ARMED
        return verdict

    def _obey(self, message: Request, now_us: int) -> None:
        if isinstance(message, _IN_SEQUENCE):
            self._last_seq = message.seq
        if isinstance(message, Command):
            self.held = np.array(message.setpoint, np.float32)
            self._fed_us = now_us
            self.commands_since_arming += 1
            self.counts.accepted += 1
        elif isinstance(message, ArmRequest):
            self._arm(now_us)
        elif isinstance(message, Disarm):
            self.mode = Mode.DISARMED
        elif isinstance(message, Stop) and self.mode is not Mode.DISARMED:
            self.mode = Mode.STOPPED
            self.faults |= Fault.STOP

    def _arm(self, now_us: int) -> None:
        """Clears a latched stop: the only thing that does."""
        if self.mode is not Mode.ARMED:
            self.commands_since_arming = 0
        self.mode = Mode.ARMED
        self.faults = Fault.NONE
        self._fed_us = now_us

    def _state(self, seq: int, verdict: Verdict, now_us: int) -> bytes:
        position = tuple(self._plant.position().tolist())
        rejected = sum(self.counts.refused.values()) & 0xFFFF
        device_us = now_us & 0xFFFF_FFFF
        effort = tuple(self._plant.effort().tolist())
        return codec.encode(State(seq, device_us, self.mode, verdict, self.faults, rejected, position, effort))
