"""What the policy process saw and answered in one inference, as bytes in a slot. Pure.

The policy process writes one entry per inference after its reply has gone out; the recorder reads them from a ring.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

# tick, asked_ns, begun_ns, done_ns, state_stamp_ns, status, instruction, cleared, has_chunk, cameras, 0, d, n, s, H, A
_HEAD = struct.Struct("<qqqqqiiBBBBHHHHH")
_CAMERA = struct.Struct("<qqHHH")  # stamp_ns, sequence, height, width, bytes of the name that follows
_NAME_BYTES = 256  # at most
_FLOAT = 4  # bytes


class Seen(NamedTuple):
    """One camera frame: `image` uint8 (h, w, 3) RGB, captured at `stamp_ns` (CLOCK_MONOTONIC)."""

    stamp_ns: int
    sequence: int
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Observation:
    """One inference: its inputs and what came out. Times are CLOCK_MONOTONIC ns."""

    tick: int  # k
    asked_ns: int
    begun_ns: int
    done_ns: int
    status: int  # control.exchange.Status
    instruction: int  # epoch
    cleared: bool  # the history was cleared before it
    state_stamp_ns: int
    state: Float32  # (s,)
    prefix: Float32  # (d, n), normalised
    commanded: Float32  # (d + 1, n), set-points of ticks k - 1 .. k + d - 1
    frames: Mapping[str, Seen]  # by camera; one that had no frame is left out
    chunk: Float32 | None  # (H, A), normalised; None when the policy gave none
    setpoints: Float32  # (H, n); zeros unless the status is OK


def observation_bytes(
    delay: int, channels: int, states: int, horizon: int, cameras: Mapping[str, tuple[int, int]]
) -> int:
    """Largest entry; `cameras`: (height, width) by name."""
    numbers = states + (2 * delay + 1) * channels + 2 * horizon * channels
    pictures = sum(_CAMERA.size + len(name.encode()) + h * w * 3 for name, (h, w) in cameras.items())
    return _HEAD.size + _FLOAT * numbers + pictures


def pack_observation(seen: Observation) -> bytes:
    """Raises ValueError on arrays that do not fit one another."""
    horizon, channels = seen.setpoints.shape
    delay, states = len(seen.prefix), len(seen.state)
    actions = channels if seen.chunk is None else seen.chunk.shape[1]
    if seen.prefix.shape != (delay, channels) or seen.commanded.shape != (delay + 1, channels):
        raise ValueError(f"prefix {seen.prefix.shape}, commanded {seen.commanded.shape} for {channels} channels")
    if seen.chunk is not None and len(seen.chunk) != horizon:
        raise ValueError(f"chunk of {len(seen.chunk)} rows for set-points of {horizon}")
    times = (seen.tick, seen.asked_ns, seen.begun_ns, seen.done_ns, seen.state_stamp_ns)
    flags = (seen.cleared, seen.chunk is not None, len(seen.frames), 0)
    head = _HEAD.pack(
        *times, seen.status, seen.instruction, *flags, delay, channels, states, horizon, actions
    )  # fmt: skip
    arrays = [seen.state, seen.prefix, seen.commanded, seen.setpoints, *([] if seen.chunk is None else [seen.chunk])]
    parts = [head, *(np.ascontiguousarray(array, np.float32).tobytes() for array in arrays)]
    for name, frame in seen.frames.items():
        parts += _pack_frame(name, frame)
    return b"".join(parts)


def _pack_frame(name: str, frame: Seen) -> list[bytes]:
    text, image = name.encode(), frame.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or len(text) > _NAME_BYTES:
        raise ValueError(f"frame of {name}: {image.dtype} {image.shape}, expected uint8 (h, w, 3)")
    head = _CAMERA.pack(frame.stamp_ns, frame.sequence, image.shape[0], image.shape[1], len(text))
    return [head, text, np.ascontiguousarray(image).tobytes()]


def unpack_observation(payload: bytes) -> Observation:
    """Raises ValueError on a payload of another size than it declares."""
    if len(payload) < _HEAD.size:
        raise ValueError(f"observation of {len(payload)} bytes, expected {_HEAD.size} or more")
    *times, status, instruction, cleared, has_chunk, cameras, _, d, n, s, h, a = _HEAD.unpack_from(payload)
    tick, asked_ns, begun_ns, done_ns, stamp_ns = times
    shapes = [(s,), (d, n), (d + 1, n), (h, n), *([(h, a)] if has_chunk else [])]
    arrays, at = _floats(payload, _HEAD.size, shapes)
    frames = {}
    for _ in range(cameras):
        name, frame, at = _unpack_frame(payload, at)
        frames[name] = frame
    if at != len(payload):
        raise ValueError(f"observation of {len(payload)} bytes declares {at}")
    state, prefix, commanded, setpoints, *chunk = arrays
    return Observation(
        tick, asked_ns, begun_ns, done_ns, status, instruction, bool(cleared), stamp_ns,
        state, prefix, commanded, frames, chunk[0] if chunk else None, setpoints,
    )  # fmt: skip


def _floats(payload: bytes, at: int, shapes: list[tuple[int, ...]]) -> tuple[list[Float32], int]:
    arrays = []
    for shape in shapes:
        count = int(np.prod(shape))
        if at + _FLOAT * count > len(payload):
            raise ValueError(f"observation of {len(payload)} bytes ends inside its numbers")
        arrays.append(np.frombuffer(payload, np.float32, count, at).reshape(shape))
        at += _FLOAT * count
    return arrays, at


def _unpack_frame(payload: bytes, at: int) -> tuple[str, Seen, int]:
    if at + _CAMERA.size > len(payload):
        raise ValueError(f"observation of {len(payload)} bytes ends before a frame")
    stamp_ns, sequence, height, width, length = _CAMERA.unpack_from(payload, at)
    start = at + _CAMERA.size + length
    end = start + height * width * 3
    if end > len(payload):
        raise ValueError(f"observation of {len(payload)} bytes ends inside a frame")
    image = np.frombuffer(payload, np.uint8, height * width * 3, start).reshape(height, width, 3)
    return payload[start - length : start].decode(), Seen(stamp_ns, sequence, image), end
