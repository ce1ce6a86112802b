"""Bytes and frames in words: which protocol they may be, and what they say."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from firmware_bridge.protocols import KINDS, module
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.log import Log, Record, What, frame_of, read_log

_SAYS_NO = re.compile(
    r"^no\b|^not\b|: not\b|: no (?:\w+ )?(?:frame|packet)\b|\bjunk\b|\bwrong (CRC|checksum)|, cut\b|of a wrong length"
    r"|\bunknown instruction|\bnoise\b",
    re.IGNORECASE,
)
_HEX = re.compile(r"(?:0x)?[0-9A-Fa-f]{2}(?:[\s:,]*(?:0x)?[0-9A-Fa-f]{2})*")


@dataclass(frozen=True)
class Line:
    """One unit and its words. `way`: `host`, `device` or "" where nobody knows; `s` since the first of its file."""

    s: float | None
    way: str
    data: str
    words: str


@dataclass(frozen=True)
class Reading:
    """All units as one protocol reads them; `fits`: the share of them that it knows."""

    protocol: str
    fits: float
    lines: tuple[Line, ...]


def installed(kind: str) -> list[str]:
    """Protocols of a kind whose codec is in this release."""
    here = Path(str(module("edgelink", "codec").__file__)).parents[1]
    return [name for name, carried in KINDS.items() if carried == kind and (here / name / "codec.py").exists()]


def log_of(text: str) -> Log:
    """A file of `bus record` or candump, or bytes in hex, or a frame as `123#1122`. Raises BadInput, BadRecording."""
    if os.path.isfile(text):  # False also where the text is too long for a path
        return read_log(text)
    frame = frame_of(text)
    if frame is not None:
        return _single("can", frame)
    if _HEX.fullmatch(text.strip()):
        return _single("serial", bytes.fromhex(re.sub(r"0x|[\s:,]", "", text)))
    todo = "e.g. `edgevla bus decode FFFF010402...`, `edgevla bus decode 123#1122`, `edgevla bus decode line.bus`"
    raise BadInput(explain(*_no_input(text), todo))


def _no_input(text: str) -> tuple[str, str, str]:
    """(what, expected, got) of a text that is none of the three."""
    digits = re.sub(r"0x|[\s:,]", "", text)
    what, got = "nothing to decode", text[:80] or "nothing"
    if os.path.isdir(text):
        what, got = f"{text} is a folder", "a folder"
    elif digits and re.fullmatch(r"[0-9A-Fa-f]+", digits):
        what, got = "bytes in hex have two digits each", f"{len(digits)} digits: {text[:80]}"
    elif re.search(r"[/.]", text):
        what, got = f"no such file: {text[:80]}", "neither a file that is there nor hex"
    return what, "a file, bytes in hex, or a frame ID#DATA", got


def require_fit(found: Sequence[Reading]) -> None:
    """Raises BadInput where no protocol knows any unit of what there is."""
    if any(reading.fits > 0 or not reading.lines for reading in found):
        return
    got = "; ".join(f"{reading.protocol}: {reading.lines[0].words}" for reading in found)
    todo = "check the bit rate it was recorded with, and that no byte is missing"
    expected = "a frame of " + ", ".join(reading.protocol for reading in found)
    raise BadInput(explain("this fits no protocol", expected, got, todo))


def read_as(log: Log, protocol: str) -> Reading:
    """Every unit of `log` in the words of `protocol`. Raises BadInput where it is not of that kind of line."""
    if KINDS.get(protocol) != log.kind:
        expected = ", ".join(installed(log.kind))
        raise BadInput(explain(f"a {log.kind} line is no {protocol}", expected, protocol, "name one of these"))
    codec = module(protocol, "codec")
    start_ns = log.records[0].ns if log.records else 0
    single = log.head.get("format") == "text"
    lines = []
    for ns, what, unit in _units(log, codec):
        way = "" if single else {What.WROTE: "host", What.READ: "device"}[what]
        if log.head.get("format") == "candump":
            way = ""
        words = codec.describe(unit)
        lines.append(Line(None if single else (ns - start_ns) * 1e-9, way, _shown(unit), words))
    known = sum(not _SAYS_NO.search(line.words) for line in lines)
    return Reading(protocol, known / len(lines) if lines else 0.0, tuple(lines))


def readings(log: Log, protocols: Sequence[str] = ()) -> list[Reading]:
    """As each of `protocols` reads it (default: all of that kind of line), the best fit first."""
    found = [read_as(log, protocol) for protocol in protocols or installed(log.kind)]
    return sorted(found, key=lambda reading: -reading.fits)


def _units(log: Log, codec: Any) -> list[tuple[int, What, Any]]:
    """Frames as they are; bytes joined while nothing else passed, and split as the protocol splits them."""
    passed: list[tuple[int, What, Any]] = [
        (r.ns, r.what, r.unit) for r in log.records if r.what in (What.WROTE, What.READ)
    ]
    if log.kind == "can":
        return passed
    runs: list[tuple[int, What, bytes]] = []
    for ns, what, unit in passed:
        if runs and runs[-1][1] is what:
            runs[-1] = runs[-1][0], what, runs[-1][2] + unit
        else:
            runs.append((ns, what, unit))
    return [(ns, what, unit) for ns, what, run in runs for unit in codec.split(run)]


def _single(kind: str, unit: bytes | Frame) -> Log:
    return Log({"format": "text", "kind": kind, "port": ""}, (Record(0, What.READ, unit),))


def _shown(unit: bytes | Frame) -> str:
    return str(unit) if isinstance(unit, Frame) else unit.hex(" ")
