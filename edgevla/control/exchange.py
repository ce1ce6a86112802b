"""What the servo process and the policy process tell each other, as bytes in slots. Pure.

A request carries the frozen prefix and the state of tick k; an answer carries the chunk's set-points, which
may be released at k + d, or the reason why there is none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_REQUEST = struct.Struct("<qqqHHHH")  # tick, asked_ns, state_stamp_ns, d, n, states, reserved
_ANSWER = struct.Struct("<qqHHHH")  # tick, done_ns, status, H, n, reserved
_FLOAT = 4  # bytes


class Status(IntEnum):
    """How an inference ended."""

    OK = 0
    NO_FRAME = 1  # the camera has not delivered yet
    OLD_FRAME = 2  # the newest frame is older than its profile allows
    OLD_STATE = 3  # the joint state is older than its profile allows
    NOT_FINITE = 4  # the policy returned NaN, infinity or a wrong shape
    FAILED = 5  # the policy raised an error
    RESTARTED = 6  # the process that was asked is gone


@dataclass(frozen=True)
class Request:
    """Observation of tick `tick`, sampled at `asked_ns`: prefix (d, n) normalised, anchor (n,) = set-point at
    k + d - 1, state (s,) read at `state_stamp_ns` (all times CLOCK_MONOTONIC)."""

    tick: int
    asked_ns: int
    state_stamp_ns: int
    prefix: Float32
    anchor: Float32
    state: Float32


@dataclass(frozen=True)
class Reply:
    """Answer to the request of tick `tick`: set-points (H, n), row i for tick k + i; zeros unless OK."""

    tick: int
    done_ns: int
    status: Status
    setpoints: Float32


def request_bytes(delay: int, channels: int, states: int) -> int:
    """Size of a request."""
    return _REQUEST.size + _FLOAT * (delay * channels + channels + states)


def reply_bytes(horizon: int, channels: int) -> int:
    """Size of a reply."""
    return _ANSWER.size + _FLOAT * horizon * channels


def pack_request(request: Request) -> bytes:
    delay, channels = request.prefix.shape
    head = _REQUEST.pack(request.tick, request.asked_ns, request.state_stamp_ns, delay, channels, len(request.state), 0)
    parts = (request.prefix, request.anchor, request.state)
    return head + b"".join(np.ascontiguousarray(part, np.float32).tobytes() for part in parts)


def unpack_request(payload: bytes) -> Request:
    """Raises ValueError on a payload of another size than it declares."""
    tick, asked_ns, stamp_ns, delay, channels, states, _ = _REQUEST.unpack_from(payload)
    if len(payload) != request_bytes(delay, channels, states):
        raise ValueError(f"request of {len(payload)} bytes, expected {request_bytes(delay, channels, states)}")
    values = np.frombuffer(payload, np.float32, offset=_REQUEST.size)
    split = delay * channels
    prefix = values[:split].reshape(delay, channels)
    return Request(tick, asked_ns, stamp_ns, prefix, values[split : split + channels], values[split + channels :])


def pack_reply(reply: Reply) -> bytes:
    horizon, channels = reply.setpoints.shape
    head = _ANSWER.pack(reply.tick, reply.done_ns, reply.status, horizon, channels, 0)
    return head + np.ascontiguousarray(reply.setpoints, np.float32).tobytes()


def unpack_reply(payload: bytes) -> Reply:
    """Raises ValueError on a payload of another size than it declares or an unknown status."""
    tick, done_ns, status, horizon, channels, _ = _ANSWER.unpack_from(payload)
    if len(payload) != reply_bytes(horizon, channels):
        raise ValueError(f"reply of {len(payload)} bytes, expected {reply_bytes(horizon, channels)}")
    rows = np.frombuffer(payload, np.float32, offset=_ANSWER.size).reshape(horizon, channels)
    return Reply(tick, done_ns, Status(status), rows)
