"""The agent's protocol on a byte stream: how one frame looks. Both ends use this module; standard library only.

    length   4 bytes, big-endian, of the header
    header   one JSON object, at most MAX_HEADER_BYTES
    payload  header["payload_bytes"] raw bytes (0 when it is not said), at most MAX_PAYLOAD_BYTES

A request is {"id": n, "do": NAME, ...}. It is answered by any number of {"id": n, "event": {...}} and then one of
{"id": n, "ok": true, "result": {...}} and {"id": n, "ok": false, "error": {"exit_code": 4, "text": "..."}}.

Requests and the payloads they carry:

    hello
    preflight   target_toml, arm_toml, port
    offer       manifest_bytes, signature_bytes (64, or 0: unsigned), index_bytes; payload: the three in that order
    chunks      lengths: [bytes, ...]; payload: the chunks, one after another
    assemble    release
    install     release, options: {health_ticks, health_timeout_s, keep, accept_unknown_torque}
    status, releases, logs {lines}, rollback {release or null, options}, gc {keep}, configure {robot_toml}
    provision   trust_json (text), only while no key is pinned
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from edgevla.errors import BadInput, EdgevlaError, explain

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_PAYLOAD_BYTES = 256 * 1024 * 1024 + 8 * 1024 * 1024  # the largest chunk index and a manifest
_LENGTH = struct.Struct(">I")
_AGAIN = "deploy again; if it stays, both ends are of different versions"


@dataclass(frozen=True)
class Frame:
    """One message."""

    header: Mapping[str, Any]
    payload: bytes = b""


def encode_frame(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Bytes of one frame, without a copy of a large payload: see `write_frame`. Raises BadInput above the limits."""
    return _head(header, len(payload)) + payload


def write_frame(stream: BinaryIO, header: Mapping[str, Any], payload: bytes = b"") -> None:
    """Send one frame. Raises BadInput above the limits, OSError when the other end has left."""
    stream.write(_head(header, len(payload)))
    if payload:
        stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO, payload_limit: Callable[[Mapping[str, Any]], int] | None = None) -> Frame | None:
    """The next frame, None when the other end has closed between two. Raises BadInput on anything else.

    payload_limit: how many bytes of payload a frame with that header may have, judged before they are read.
    """
    start = stream.read(1)
    if not start:
        return None
    (length,) = _LENGTH.unpack(start + _exactly(stream, _LENGTH.size - 1))
    if length > MAX_HEADER_BYTES:
        _refuse(f"a header of {MAX_HEADER_BYTES} bytes at most", length)
    header = parse_header(_exactly(stream, length))
    size, limit = header.get("payload_bytes", 0), payload_limit(header) if payload_limit else MAX_PAYLOAD_BYTES
    if type(size) is not int or not 0 <= size <= limit:
        _refuse(f"payload_bytes in [0, {limit}]", repr(size)[:100])
    return Frame(header, _exactly(stream, size))


def parse_header(raw: bytes) -> dict[str, Any]:
    """The JSON object of a header. Raises BadInput."""
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        _refuse("UTF-8 JSON", error)
    if not isinstance(header, dict):
        _refuse("a JSON object", type(header).__name__)
    return header


def error_of(error: Exception) -> dict[str, Any]:
    """What an answer says of an error: its text and the exit code of the command."""
    if isinstance(error, EdgevlaError):
        return {"exit_code": error.exit_code, "text": str(error)}
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        text = explain(
            f"the robot's disk refused{where}", "a change of the disk", error.strerror or error, _disk(error)
        )
        return {"exit_code": BadInput.exit_code, "text": text}
    what = f"{type(error).__name__}: {error}"
    text = explain("a defect in edgevla on the robot", "a result, or an error with a reason", what, "report this text")
    return {"exit_code": 70, "text": text}


def _disk(error: OSError) -> str:
    todo = {28: "free space: `edgevla deploy gc --keep 1`", 30: "mount it for writing", 13: "use the installer's user"}
    return todo.get(error.errno or 0, "look at the disk: `dmesg | tail`")


def _head(header: Mapping[str, Any], payload_bytes: int) -> bytes:
    if payload_bytes > MAX_PAYLOAD_BYTES:
        _refuse(f"a payload of {MAX_PAYLOAD_BYTES} bytes at most", payload_bytes)
    said = {**header, "payload_bytes": payload_bytes} if payload_bytes else dict(header)
    raw = json.dumps(said).encode()
    if len(raw) > MAX_HEADER_BYTES:
        _refuse(f"a header of {MAX_HEADER_BYTES} bytes at most", len(raw))
    return _LENGTH.pack(len(raw)) + raw


def _exactly(stream: BinaryIO, size: int) -> bytes:
    parts, left = [], size
    while left:
        part = stream.read(left)
        if not part:
            _refuse(f"{size} bytes", f"the stream ended {left} bytes early")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _refuse(expected: object, got: object) -> NoReturn:
    raise BadInput(explain("a message between deploy and the robot's agent is wrong", expected, got, _AGAIN))
