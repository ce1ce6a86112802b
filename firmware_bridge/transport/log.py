"""The file of a recorded line, pure: what passed, byte for byte, when, and in which direction.

    first line   JSON: {"format": "edgevla-bus/1", "kind": "serial" or "can", "port": ..., and what the writer adds}
    then         records:  ns u64 | what u8 | length u32 | data | crc32 u32 of all before it, little endian

ns is CLOCK_MONOTONIC. `what`: 0 host wrote, 1 host read, 2 opened, 3 closed, 4 records lost (u32 how many). Serial data
are the bytes of one call, CAN data one frame in the kernel's layout (`kernel_can`). A file that ends inside a
record (power cut) is read up to there.

Reads candump's log format too (`candump -L`, can-utils), to which CAN recordings can be written.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from firmware_bridge.errors import BadRecording, explain
from firmware_bridge.transport import kernel_can
from firmware_bridge.transport.base import Frame

FORMAT = "edgevla-bus/1"
LONGEST = 1 << 20  # bytes of one record: a longer one is no record
_HEAD = struct.Struct("<QBI")
_CRC = struct.Struct("<I")
_COUNT = struct.Struct("<I")
_MOST_BYTES = 1 << 31
_CANDUMP = re.compile(
    r"\((?P<s>\d+)\.(?P<us>\d{6})\)\s+\S+\s+(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})"
    r"(?:##(?P<flags>[0-9A-Fa-f])(?P<fd>(?:[0-9A-Fa-f]{2})*)|#R(?P<dlc>\d?)|#(?P<data>(?:[0-9A-Fa-f]{2})*))"
    r"(?:\s+[RT])?\s*"
)


class What(IntEnum):
    """Second field of a record."""

    WROTE = 0
    READ = 1
    OPENED = 2
    CLOSED = 3
    LOST = 4


class Record(NamedTuple):
    """One thing that happened on the line. `unit`: bytes, or a Frame; b"" of events, a count as bytes of LOST."""

    ns: int
    what: What
    unit: Any


@dataclass(frozen=True)
class Log:
    """A whole file. `torn`: it ended inside a record."""

    head: Mapping[str, Any]
    records: tuple[Record, ...]
    torn: bool = False

    @property
    def kind(self) -> str:
        return str(self.head["kind"])

    @property
    def lost(self) -> int:
        """Records that the writer had no room for."""
        return sum(_COUNT.unpack(r.unit)[0] for r in self.records if r.what is What.LOST)


def head_line(kind: str, port: str, **more: object) -> bytes:
    """The first line of a file."""
    return json.dumps({"format": FORMAT, "kind": kind, "port": port, **more}).encode() + b"\n"


def record(ns: int, what: What, data: bytes) -> bytes:
    """One record."""
    body = _HEAD.pack(ns, what, len(data)) + data
    return body + _CRC.pack(crc32(body))


def lost(ns: int, count: int) -> bytes:
    """The record of `count` records that had no room."""
    return record(ns, What.LOST, _COUNT.pack(min(count, 0xFFFF_FFFF)))


def read_log(path: str | Path) -> Log:
    """A recording of ours, or of candump. Raises BadRecording, also for a file that cannot be read."""
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            raise _bad(path, f"at most {_MOST_BYTES} bytes", "more", "cut it, or record less")
        data = Path(path).read_bytes()
    except OSError as error:
        raise _bad(path, "a file that can be read", error.strerror, "check the path") from None
    first, newline, rest = data.partition(b"\n")
    if newline and first.startswith(b'{"format"'):
        return _ours(path, first, rest)
    return Log({"format": "candump", "kind": "can", "port": str(path)}, tuple(_candump(path, data)))


def candump_line(item: Record, interface: str) -> str:
    """One line as `candump -L` writes it, without its newline; timestamps stay CLOCK_MONOTONIC."""
    frame: Frame = item.unit
    name = f"{frame.id:0{8 if frame.extended else 3}X}"
    if frame.fd:
        body = f"##{int(frame.brs):X}{frame.data.hex().upper()}"
    else:
        body = "#R" if frame.remote else f"#{frame.data.hex().upper()}"
    return f"({item.ns // 1_000_000_000}.{item.ns // 1000 % 1_000_000:06d}) {interface} {name}{body}"


def frame_of(text: str) -> Frame | None:
    """A frame as candump and cansend write it (`123#1122`, `##` for CAN-FD), or None."""
    found = _CANDUMP.fullmatch(f"(0.000000) x {text.strip()}")
    return None if found is None else _frame(found)


def _ours(path: str | Path, first: bytes, rest: bytes) -> Log:
    try:
        head = json.loads(first)
        kind = head["kind"]
        if head["format"] != FORMAT or kind not in ("serial", "can"):
            raise ValueError(f"format {head['format']!r}, kind {kind!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise _bad(path, f"the first line of {FORMAT}", error, "record it again with this release") from None
    pairs = list(_records(path, rest, kind))
    whole = pairs[-1][1] if pairs else 0
    return Log(head, tuple(item for item, _ in pairs), torn=whole < len(rest))


def _records(path: str | Path, rest: bytes, kind: str) -> Iterator[tuple[Record, int]]:
    """Each record and where it ends."""
    at = 0
    while len(rest) - at >= _HEAD.size:
        ns, what, length = _HEAD.unpack_from(rest, at)
        end = at + _HEAD.size + length
        if length <= LONGEST and end + _CRC.size > len(rest):
            return  # torn
        if length > LONGEST or crc32(rest[at:end]) != _CRC.unpack_from(rest, end)[0] or what > max(What):
            raise _bad(path, "whole records", f"a spoiled one at byte {at} behind the first line", "record it again")
        yield Record(ns, What(what), _unit(path, rest[at + _HEAD.size : end], kind, What(what))), end + _CRC.size
        at = end + _CRC.size


def _unit(path: str | Path, data: bytes, kind: str, what: What) -> Any:
    if kind == "serial" or what not in (What.WROTE, What.READ):
        return data
    frame, _ = kernel_can.unpack(data)
    if frame is None:
        raise _bad(path, "CAN frames", f"{len(data)} bytes that are none", "record it again")
    return frame


def _candump(path: str | Path, data: bytes) -> Iterator[Record]:
    for number, line in enumerate(data.decode("ascii", "replace").splitlines(), 1):
        found = _CANDUMP.fullmatch(line)
        if found is None:
            if not line.strip():
                continue
            expected = "a recording of `edgevla bus record`, or lines of `candump -L`: (1.000000) can0 123#1122"
            raise _bad(path, expected, f"line {number}: {line[:60]!r}", "pass such a file, or bytes in hex")
        ns = int(found["s"]) * 1_000_000_000 + int(found["us"]) * 1000
        if (frame := _frame(found)) is not None:  # an error frame is none
            yield Record(ns, What.READ, frame)


def _frame(found: re.Match[str]) -> Frame | None:
    extended = len(found["id"]) == 8
    can_id = int(found["id"], 16)
    if extended and can_id & kernel_can.ERROR:
        return None
    if found["flags"] is not None:
        return Frame(can_id, bytes.fromhex(found["fd"]), extended, True, bool(int(found["flags"], 16) & 1))
    if found["data"] is None:
        return Frame(can_id, b"", extended, remote=True)
    return Frame(can_id, bytes.fromhex(found["data"]), extended)


def _bad(path: str | Path, expected: object, got: object, todo: str) -> BadRecording:
    return BadRecording(explain(f"{path} is no recording", expected, got, todo))
