"""What the processes of a run tell each other, as bytes in slots. Pure.

A request carries the frozen prefix and the state of tick k; an answer carries the chunk's set-points, which
may be released at k + d, or the reason why there is none. Orders go to the servo, the words of an instruction to the
policy.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_REQUEST = struct.Struct("<qqqHHHHHHI")  # tick, asked_ns, state_stamp_ns, d, n, T, states, first, reserved, instruction
_ANSWER = struct.Struct("<qqHHHHI")  # tick, done_ns, status, H, n, reserved, instruction
_WISHES = struct.Struct("<IIqII")  # stops, arms, armed_ns, instruction, rest
_WORDS = struct.Struct("<I")  # instruction, then its text as UTF-8
_FLOAT = 4  # bytes
ORDER_BYTES = _WISHES.size
MAX_WORDS = 4096  # bytes of an instruction
WORDS_BYTES = _WORDS.size + MAX_WORDS


class Status(IntEnum):
    """How an inference ended."""

    OK = 0
    NO_FRAME = 1  # the camera has not delivered yet
    OLD_FRAME = 2  # the newest frame of a camera is older than its profile allows
    OLD_STATE = 3  # the joint state is older than its profile allows
    NOT_FINITE = 4  # the policy returned NaN, infinity or a wrong shape
    FAILED = 5  # the policy raised an error
    RESTARTED = 6  # the process that was asked is gone
    SKEWED = 7  # frames and state were taken too far apart to belong together
    IMPOSSIBLE = 8  # a stamp lies in the future: another clock


@dataclass(frozen=True)
class Request:
    """Observation of tick `tick`, sampled at `asked_ns` (all times CLOCK_MONOTONIC).

    prefix (d, n) normalised; commanded (d + 1, n) set-points of ticks k - 1 .. k + d - 1; state (T, s), a row for each
    of the ticks k - T + 1 .. k, the last read at `state_stamp_ns`. `first`: what was seen before counts no more;
    `instruction`: epoch of the words to act on.
    """

    tick: int
    asked_ns: int
    state_stamp_ns: int
    prefix: Float32
    commanded: Float32
    state: Float32
    first: bool = False
    instruction: int = 0


@dataclass(frozen=True)
class Reply:
    """Answer to the request of tick `tick`: set-points (H, n), row i for tick k + i; zeros unless OK.

    `instruction`: epoch of the words it acted on."""

    tick: int
    done_ns: int
    status: Status
    setpoints: Float32
    instruction: int = 0


def request_bytes(delay: int, channels: int, states: int, observations: int = 1) -> int:
    """Size of a request."""
    return _REQUEST.size + _FLOAT * ((2 * delay + 1) * channels + observations * states)


def reply_bytes(horizon: int, channels: int) -> int:
    """Size of a reply."""
    return _ANSWER.size + _FLOAT * horizon * channels


def pack_request(request: Request) -> bytes:
    delay, channels = request.prefix.shape
    numbers = (delay, channels, *request.state.shape, int(request.first), 0, request.instruction)
    head = _REQUEST.pack(request.tick, request.asked_ns, request.state_stamp_ns, *numbers)
    parts = (request.prefix, request.commanded, request.state)
    return head + b"".join(np.ascontiguousarray(part, np.float32).tobytes() for part in parts)


def unpack_request(payload: bytes) -> Request:
    """Raises ValueError on a payload of another size than it declares."""
    tick, asked_ns, stamp_ns, delay, channels, seen, states, first, _, instruction = _REQUEST.unpack_from(payload)
    expected = request_bytes(delay, channels, states, seen)
    if len(payload) != expected:
        raise ValueError(f"request of {len(payload)} bytes, expected {expected}")
    values = np.frombuffer(payload, np.float32, offset=_REQUEST.size)
    split, end = delay * channels, (2 * delay + 1) * channels
    prefix, commanded = values[:split].reshape(delay, channels), values[split:end].reshape(delay + 1, channels)
    state = values[end:].reshape(seen, states)
    return Request(tick, asked_ns, stamp_ns, prefix, commanded, state, bool(first), instruction)


def pack_reply(reply: Reply) -> bytes:
    horizon, channels = reply.setpoints.shape
    head = _ANSWER.pack(reply.tick, reply.done_ns, reply.status, horizon, channels, 0, reply.instruction)
    return head + np.ascontiguousarray(reply.setpoints, np.float32).tobytes()


def unpack_reply(payload: bytes) -> Reply:
    """Raises ValueError on a payload of another size than it declares or an unknown status."""
    tick, done_ns, status, horizon, channels, _, instruction = _ANSWER.unpack_from(payload)
    if len(payload) != reply_bytes(horizon, channels):
        raise ValueError(f"reply of {len(payload)} bytes, expected {reply_bytes(horizon, channels)}")
    rows = np.frombuffer(payload, np.float32, offset=_ANSWER.size).reshape(horizon, channels)
    return Reply(tick, done_ns, Status(status), rows, instruction)


@dataclass(frozen=True)
class Wishes:
    """All that the operator has asked the servo for so far: an entry says it all, so none that is overwritten is lost.

    stops, arms: how often; armed_ns: when the last arming was asked for (CLOCK_MONOTONIC); instruction: epoch of the
    newest words; rest: the arm shall be at rest until the next ones.
    """

    stops: int = 0
    arms: int = 0
    armed_ns: int = 0
    instruction: int = 0
    rest: bool = False


def pack_wishes(wishes: Wishes) -> bytes:
    return _WISHES.pack(wishes.stops, wishes.arms, wishes.armed_ns, wishes.instruction, wishes.rest)


def unpack_wishes(payload: bytes) -> Wishes:
    """Raises ValueError on another size."""
    if len(payload) != _WISHES.size:
        raise ValueError(f"wishes of {len(payload)} bytes, expected {_WISHES.size}")
    stops, arms, armed_ns, instruction, rest = _WISHES.unpack(payload)
    return Wishes(stops, arms, armed_ns, instruction, bool(rest))


def pack_words(instruction: int, text: str) -> bytes:
    """The text of an instruction epoch, for the policy process. Raises ValueError when it is too long."""
    data = text.encode()
    if len(data) > MAX_WORDS:
        raise ValueError(f"an instruction of {len(data)} bytes, at most {MAX_WORDS}")
    return _WORDS.pack(instruction) + data


def unpack_words(payload: bytes) -> tuple[int, str]:
    """Raises ValueError on bytes that hold no text."""
    if len(payload) < _WORDS.size:
        raise ValueError(f"words of {len(payload)} bytes, expected at least {_WORDS.size}")
    return _WORDS.unpack_from(payload)[0], payload[_WORDS.size :].decode()
