"""The line between host and virtual device: how long it is busy, and what goes wrong on it. Pure, ns and seeded chance.

A half-duplex line (Feetech, Dynamixel, CAN) carries one thing at a time, whoever sends; a full-duplex one has a lane
for each direction. Every busy interval is logged, so that a bench can compare a cycle with the wire it used.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from firmware_bridge.transport.base import Frame
from firmware_bridge.virtual.device import Reply
from firmware_bridge.wire import can_ns, uart_ns

TO_DEVICE, TO_HOST = 0, 1
_LOGGED = 1_000_000  # intervals kept, the oldest go first


@dataclass
class Line:
    """`baud` None: as fast as it goes. `data_baud`: of CAN-FD's data phase."""

    baud: int | None = None
    data_baud: int | None = None
    full_duplex: bool = False
    busy: list[tuple[int, int, int]] = field(default_factory=list)  # (start ns, end ns, direction)
    _free_ns: list[int] = field(default_factory=lambda: [0, 0])

    def carry(self, unit: bytes | Frame, direction: int, ready_ns: int) -> int:
        """When the last bit of `unit` is over, if it may start at `ready_ns` or as soon as the line is free."""
        if self.baud is None:
            return ready_ns
        lane = direction if self.full_duplex else 0
        start_ns = max(ready_ns, self._free_ns[lane])
        took = can_ns(unit, self.baud, self.data_baud) if isinstance(unit, Frame) else uart_ns(len(unit), self.baud)
        self._free_ns[lane] = end_ns = start_ns + took
        if len(self.busy) >= _LOGGED:
            del self.busy[: _LOGGED // 2]
        self.busy.append((start_ns, end_ns, direction))
        return end_ns


@dataclass
class Trouble:
    """What happens to the device's packets on their way. Chances are per packet; `joints` are silent ones."""

    flip: float = 0.0  # one bit
    cut: float = 0.0  # the second half is lost
    twice: float = 0.0
    swap: float = 0.0  # with the one behind it
    foreign: float = 0.0  # noise in front of it
    echo: bool = False  # the host hears itself (a half-duplex adapter that does not mute)
    wrong_echo: bool = False  # and not even right
    silent: set[int] = field(default_factory=set)
    latency_us: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError, TypeError for what is no trouble."""
        for name in ("flip", "cut", "twice", "swap", "foreign"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: a chance of 0..1, got {getattr(self, name)}")
        if not 0 <= self.latency_us <= 60_000_000:
            raise ValueError(f"latency_us: 0..60000000, got {self.latency_us}")
        self._chance = random.Random(self.seed)

    def echo_of(self, heard: Any) -> Any | None:
        """What the host hears of its own words, while it says them; None: nothing, its adapter mutes."""
        if self.wrong_echo:
            return _with(heard, _flipped(_payload(heard), self._chance))
        return heard if self.echo else None

    def after(self, replies: list[Reply]) -> list[Reply]:
        """`replies` as they reach the host."""
        late = [reply._replace(delay_us=reply.delay_us + self.latency_us) for reply in replies]
        out: list[Reply] = []
        for reply in late:
            if reply.joint not in self.silent:
                out += self._spoiled(reply)
        for i in range(len(out) - 1):
            if self._chance.random() < self.swap:
                out[i], out[i + 1] = out[i + 1], out[i]
        return out

    def _spoiled(self, reply: Reply) -> list[Reply]:
        payload, rng = _payload(reply.data), self._chance
        if rng.random() < self.flip:
            payload = _flipped(payload, rng)
        if rng.random() < self.cut:
            payload = payload[: len(payload) // 2]
        out = [reply._replace(data=_with(reply.data, payload))]
        if rng.random() < self.twice:
            out += out
        if rng.random() < self.foreign:
            noise = rng.randbytes(max(1, len(payload)))
            out.insert(0, reply._replace(data=_noise(reply.data, noise, rng)))
        return out


def _payload(unit: Any) -> bytes:
    data: bytes = unit.data if isinstance(unit, Frame) else unit
    return data


def _with(unit: Any, payload: bytes) -> Any:
    return unit._replace(data=payload) if isinstance(unit, Frame) else payload


def _noise(unit: Any, noise: bytes, rng: random.Random) -> Any:
    return unit._replace(id=rng.randrange(0x800), data=noise, extended=False) if isinstance(unit, Frame) else noise


def _flipped(payload: bytes, rng: random.Random) -> bytes:
    if not payload:
        return payload
    at = rng.randrange(8 * len(payload))
    spoiled = bytearray(payload)
    spoiled[at // 8] ^= 1 << at % 8
    return bytes(spoiled)
