"""What the bytes on the line say: late commands, commands beyond limits, when the arm came to rest. Pure.

Nothing here calls the limiter, the servo or the driver. Times are CLOCK_MONOTONIC ns of the line recorder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.control.ladder import Phase
from firmware_bridge.arm import Mode
from firmware_bridge.edgelink.codec import Command, Decoder, HelloAck, Message, State, Verdict
from profiles.model import ArmProfile

Log = Sequence[tuple[int, str, bytes]]  # time ns, kind (h d r p), bytes; see tests.faults.line
_WINDOW_NS = 1_000_000_000  # ns: an answer comes within this, a sequence number not twice
_STILL = 1e-7  # channel units: below it a set-point has not moved


@dataclass(frozen=True)
class Heard:
    """A log, decoded. Every list in the order of the line, with the time."""

    sent: list[tuple[int, Command]]  # what the host wrote
    delivered: list[tuple[int, Command]]  # what the device could read, whole and with a right checksum
    states: list[tuple[int, State]]  # what the device answered, to the host and to the recorder
    held: tuple[float, ...]  # set-point at the connection


def decode(log: Log) -> Heard:
    """The messages of a log."""
    decoders = {kind: Decoder() for kind in "hdrp"}
    found: dict[str, list[tuple[int, Message]]] = {kind: [] for kind in "hdrp"}
    for at_ns, kind, data in log:
        found[kind] += [(at_ns, message) for message in decoders[kind].feed(data)]
    replies = sorted(found["r"] + found["p"], key=lambda pair: pair[0])
    acks = [message for _, message in replies if isinstance(message, HelloAck)]
    return Heard(
        sent=[(at, message) for at, message in found["h"] if isinstance(message, Command)],
        delivered=[(at, message) for at, message in found["d"] if isinstance(message, Command)],
        states=[(at, message) for at, message in replies if isinstance(message, State)],
        held=acks[-1].held if acks else (),
    )


def clock_ns(heard: Heard) -> int:
    """Host time minus device time, ns: no reply arrives before its stamp, and none is stamped before its command.

    Raises ValueError without a state.
    """
    delivered = {command.seq: at for at, command in heard.delivered}
    above = min(at - state.device_us * 1000 for at, state in heard.states)
    below = [
        delivered[s.seq] - s.device_us * 1000
        for at, s in heard.states
        if 0 <= at - delivered.get(s.seq, 0) < _WINDOW_NS
    ]
    return (above + max(below)) // 2 if below else above


# --- late -------------------------------------------------------------------------------------------------------


def late_commands(heard: Heard, rows: NDArray[Any], ttl_ns: int, step_ns: int) -> int:
    """Commands whose first byte was written after their expiry, and commands the device obeyed after it.

    A written command counts unless a witness saw it in time: the host, whose stamp after the write (`write_ns` of its
    tick row) is not after `deadline_ns` + ttl; or the line recorder, which read it before the expiry in its own bytes.
    Both stamps lie after the first byte, so neither can excuse a late one.
    """
    return _written_late(heard, rows, ttl_ns, step_ns) + obeyed_late(heard)


def _written_late(heard: Heard, rows: NDArray[Any], ttl_ns: int, step_ns: int) -> int:
    written = rows[rows["write_ns"] > 0]
    expiry = written["deadline_ns"] + ttl_ns
    by_host = dict(zip(expiry.tolist(), (written["write_ns"] <= expiry).tolist(), strict=True))
    offset_ns = clock_ns(heard) if heard.states else 0
    known = np.array(sorted(by_host), np.int64)
    for at_ns, command in heard.sent:
        by_bytes = command.expiry_us * 1000 + offset_ns
        nearest = int(known[np.argmin(np.abs(known - by_bytes))]) if len(known) else by_bytes
        key = nearest if abs(nearest - by_bytes) < step_ns // 2 else by_bytes
        by_host[key] = by_host.get(key, False) or at_ns <= key
    return sum(not in_time for in_time in by_host.values())


def obeyed_late(heard: Heard) -> int:
    """Commands the device accepted at or after their expiry, both on its own clock."""
    expiry = {command.seq: (at, command.expiry_us) for at, command in heard.delivered}
    late = 0
    for at_ns, state in heard.states:
        delivered_ns, expiry_us = expiry.get(state.seq, (0, 0))
        answers = 0 <= at_ns - delivered_ns < _WINDOW_NS
        late += answers and state.verdict == Verdict.ACCEPTED and state.device_us >= expiry_us
    return late


# --- beyond limits ----------------------------------------------------------------------------------------------


def beyond_limits(heard: Heard, arm: ArmProfile, step_s: float) -> int:
    """Commands out of range, too fast, accelerated or jerked beyond the profile; and delivered ones nobody sent.

    Differences of the set-points on the wire over the time between their expiries, h. A set-point is float32, so
    each is known to q = half its spacing: a velocity to 2 q / h, an acceleration to 4 q / h^2, a jerk to 8 q / h^3.
    """
    count = sum(_breaks(heard, arm, step_s))
    said = {(command.seq, command.expiry_us, command.setpoint) for _, command in heard.sent}
    return count + sum((c.seq, c.expiry_us, c.setpoint) not in said for _, c in heard.delivered)


def _breaks(heard: Heard, arm: ArmProfile, step_s: float) -> list[bool]:
    low, high, fastest, hardest = (
        np.array([getattr(channel, name) for channel in arm.channels])
        for name in ("minimum", "maximum", "max_velocity", "max_acceleration")
    )
    jerks = np.array([getattr(channel, "max_jerk", np.inf) for channel in arm.channels])
    low, high = low.astype(np.float32), high.astype(np.float32)
    q = np.spacing(np.maximum(np.abs(low), np.abs(high))) / 2
    before, velocity, acceleration = np.array(heard.held), np.zeros(len(low)), np.zeros(len(low))
    expiry_us: int | None = None
    broken = []
    for _, command in heard.sent:
        now = np.array(command.setpoint)
        steps = 1 if expiry_us is None else max(1, round((command.expiry_us - expiry_us) * 1e-6 / step_s))
        h, expiry_us = steps * step_s, command.expiry_us
        if not np.isfinite(now).all():
            broken.append(True)
            continue
        moved = (now - before) / h
        gained = (moved - velocity) / h
        jerk = (gained - acceleration) / h
        kept = (low <= now) & (now <= high) & (np.abs(moved) <= fastest * (1 + 1e-9) + 2 * q / h)
        kept &= np.abs(gained) <= hardest * (1 + 1e-9) + 4 * q / h**2
        kept &= np.abs(jerk) <= jerks * (1 + 1e-9) + 8 * q / h**3
        broken.append(not kept.all())
        before, velocity, acceleration = now, moved, gained
    return broken


# --- stop -------------------------------------------------------------------------------------------------------


def rest_ns(heard: Heard, from_ns: int) -> int:
    """When the device was last told to move; `from_ns` when never after it."""
    times = _moves(heard)
    return max([from_ns, *times[-1:]])


def pause_ns(heard: Heard, from_ns: int, until_ns: int, least_ns: int) -> int | None:
    """When the arm first came to rest for `least_ns` or more between the two times; None when it never did."""
    times = [from_ns, *(at for at in _moves(heard) if from_ns < at < until_ns), until_ns]
    for one, other in pairwise(times):
        if other - one >= least_ns:
            return one
    return None


def _moves(heard: Heard) -> list[int]:
    """When commands that the device accepted moved its set-point."""
    accepted = {(state.seq, at // _WINDOW_NS) for at, state in heard.states if state.verdict == Verdict.ACCEPTED}
    times, before = [], np.array(heard.held)
    for at_ns, command in heard.delivered:
        window = at_ns // _WINDOW_NS
        if not accepted & {(command.seq, window), (command.seq, window + 1)}:
            continue
        now = np.array(command.setpoint)
        if np.abs(now - before).max() > _STILL:
            times.append(at_ns)
        before = now
    return times


def latched_ns(heard: Heard, from_ns: int) -> int | None:
    """When the device first said that it is not armed any more; None when it never did."""
    armed = False
    for at_ns, state in heard.states:
        armed = armed or state.mode == Mode.ARMED
        if armed and at_ns >= from_ns and state.mode != Mode.ARMED:
            return at_ns
    return None


def last_input_ns(rows: NDArray[Any], from_ns: int, rest_at_ns: int) -> int:
    """When the last chunk that was followed before the rest was asked for; not before `from_ns`.

    Where a fault lasts and lets some chunks through, this is the moment from which nothing new came.
    """
    before = rows[(rows["deadline_ns"] <= rest_at_ns) & (rows["phase"] == Phase.TRACK) & (rows["chunk"] >= 0)]
    asked = rows[rows["tick"] == before["chunk"][-1]] if len(before) else before
    return max([from_ns, *asked["deadline_ns"][:1].tolist()])
