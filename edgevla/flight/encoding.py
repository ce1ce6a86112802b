"""How a flight record is written, topic by topic. Pure: values to bytes and back.

Numbers in rows are little-endian NumPy records whose dtype is the topic's schema, as JSON. Pictures are
sensor_msgs/msg/Image in CDR with their schema as text, which MCAP viewers show without knowing edgevla. Small things
are JSON. Times are CLOCK_MONOTONIC ns throughout.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.flight.tape import Observation, Seen

PROFILE = "edgevla.flight/1"
TICKS, INFERENCES, OBSERVATIONS, CHUNKS = "/ticks", "/inferences", "/observations", "/chunks"
EVENTS, META, IMAGES = "/events", "/meta", "/images/"
ROWS_ENCODING = "edgevla-rows"  # message = any number of records of the schema's dtype
DTYPE_ENCODING = "numpy-dtype"  # schema = JSON list of [name, type, shape?]; type may be such a list itself
IMAGE_TYPE = "sensor_msgs/msg/Image"
_RULE = "=" * 80
IMAGE_SCHEMA = f"""\
std_msgs/Header header
uint32 height
uint32 width
string encoding
uint8 is_bigendian
uint32 step
uint8[] data
{_RULE}
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
{_RULE}
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
JSON_SCHEMAS = {
    EVENTS: {
        "type": "object",
        "properties": {"event": {"type": "string"}, "at_ns": {"type": "integer"}},
        "required": ["event", "at_ns"],
    },
    META: {"type": "object", "properties": {"schema": {"type": "string"}}, "required": ["schema"]},
}
_CDR = b"\x00\x01\x00\x00"  # plain CDR, little-endian
_RGB = "rgb8"


def dtype_text(dtype: np.dtype[Any]) -> str:
    """The dtype as JSON."""
    return json.dumps(dtype.descr)


def dtype_of(text: str) -> np.dtype[Any]:
    """The dtype that `dtype_text` wrote. Raises ValueError on anything else."""
    try:
        return np.dtype(_fields(json.loads(text)))
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError(f"no dtype: {error}") from None


def _fields(items: list[Any]) -> list[Any]:
    fields: list[Any] = []
    for name, kind, *shape in items:
        inner = _fields(kind) if isinstance(kind, list) else kind
        if not isinstance(inner, list) and np.dtype(inner).hasobject:
            raise TypeError(f"{name} holds objects")
        fields.append((name, inner, *(tuple(part) for part in shape)))
    return fields


def observation_dtype(seen: Observation) -> np.dtype[Any]:
    """One inference's inputs but the pictures. A camera without a frame has stamp_ns -1."""
    delay, channels = seen.prefix.shape
    camera = [("stamp_ns", "<i8"), ("sequence", "<i8"), ("crc32", "<u4")]
    return np.dtype(
        [
            ("sequence", "<i8"),  # of the tape: a gap is a lost entry
            ("tick", "<i8"),
            ("asked_ns", "<i8"),
            ("begun_ns", "<i8"),
            ("done_ns", "<i8"),
            ("status", "<i4"),  # control.exchange.Status
            ("instruction", "<i4"),  # epoch
            ("cleared", "<u1"),
            ("state_stamp_ns", "<i8"),
            ("state", "<f4", (len(seen.state),)),
            ("prefix", "<f4", (delay, channels)),
            ("commanded", "<f4", (delay + 1, channels)),
            *((f"camera:{name}", camera) for name in sorted(seen.frames)),
        ]
    )


def chunk_dtype(seen: Observation) -> np.dtype[Any]:
    """One answer. `chunk` is zeros where `has_chunk` is 0."""
    horizon, channels = seen.setpoints.shape
    actions = channels if seen.chunk is None else seen.chunk.shape[1]
    return np.dtype(
        [
            ("tick", "<i8"),
            ("release", "<i8"),  # tick k + d from which it may act, -1 = it may not
            ("status", "<i4"),
            ("has_chunk", "<u1"),
            ("chunk", "<f4", (horizon, actions)),
            ("setpoints", "<f4", (horizon, channels)),
        ]
    )


def observation_row(seen: Observation, sequence: int) -> NDArray[Any]:
    """The observation as an array (1,) of its dtype."""
    cameras = [(f.stamp_ns, f.sequence, zlib.crc32(f.image.tobytes())) for _, f in sorted(seen.frames.items())]
    values = (
        sequence, seen.tick, seen.asked_ns, seen.begun_ns, seen.done_ns, seen.status, seen.instruction, seen.cleared,
        seen.state_stamp_ns, seen.state, seen.prefix, seen.commanded, *cameras,
    )  # fmt: skip
    return np.array([values], observation_dtype(seen))


def chunk_row(seen: Observation) -> NDArray[Any]:
    """The answer as an array (1,) of its dtype."""
    dtype = chunk_dtype(seen)
    release = seen.tick + len(seen.prefix) if seen.status == 0 else -1
    chunk = np.zeros(dtype["chunk"].shape, np.float32) if seen.chunk is None else seen.chunk
    return np.array([(seen.tick, release, seen.status, seen.chunk is not None, chunk, seen.setpoints)], dtype)


def pack_image(name: str, frame: Seen) -> bytes:
    """sensor_msgs/msg/Image in CDR: every number aligned to its size, strings end in a zero byte."""
    height, width, _ = frame.image.shape
    seconds, nanoseconds = divmod(frame.stamp_ns, 1_000_000_000)
    out = bytearray(struct.pack("<iI", seconds, nanoseconds))
    _put_string(out, name)
    _align(out)
    out += struct.pack("<II", height, width)
    _put_string(out, _RGB)
    out += b"\0"  # is_bigendian
    _align(out)
    pixels = np.ascontiguousarray(frame.image).tobytes()
    return _CDR + bytes(out) + struct.pack("<II", width * 3, len(pixels)) + pixels


def unpack_image(data: bytes, sequence: int) -> tuple[str, Seen]:
    """Camera and frame of `pack_image`. Raises ValueError."""
    if data[:4] != _CDR:
        raise ValueError("no little-endian CDR")
    body = memoryview(data)[4:]
    try:
        seconds, nanoseconds = struct.unpack_from("<iI", body)
        name, at = _get_string(body, 8)
        height, width = struct.unpack_from("<II", body, at)
        encoding, at = _get_string(body, at + 8, align=False)
        step, length = struct.unpack_from("<II", body, -(-(at + 1) // 4) * 4)
        pixels = np.frombuffer(body, np.uint8, length, -(-(at + 1) // 4) * 4 + 8)
    except struct.error as error:
        raise ValueError(f"image ends too early: {error}") from None
    if encoding != _RGB or step != width * 3 or length != height * step:
        raise ValueError(f"image {encoding} {height} x {width} of {length} bytes")
    stamp_ns = seconds * 1_000_000_000 + nanoseconds
    return name, Seen(stamp_ns, sequence, pixels.reshape(height, width, 3))


def _align(out: bytearray) -> None:
    out += b"\0" * (-len(out) % 4)


def _put_string(out: bytearray, text: str) -> None:
    raw = text.encode() + b"\0"
    out += struct.pack("<I", len(raw)) + raw


def _get_string(body: memoryview, at: int, align: bool = True) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", body, at)
    end = at + 4 + length
    text = bytes(body[at + 4 : end - 1]).decode("utf-8", "replace")
    return text, -(-end // 4) * 4 if align else end


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Strict JSON. Raises ValueError on NaN, infinity or what JSON has no word for."""
    try:
        return json.dumps(value, allow_nan=False, default=_plain).encode()
    except TypeError as error:
        raise ValueError(str(error)) from None


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")
