"""log/deploy.jsonl: one line per step of each deploy, for people and for a client that comes back. Bounded."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgevla.install.durable import make_folders

MAX_BYTES = 1024 * 1024  # then it becomes deploy.jsonl.1, in place of an older one
_TAIL_BYTES = 256 * 1024


class DeployLog:
    """Appends lines of one deploy. A line is on the disk when `write` returns: the reason survives a power cut."""

    def __init__(self, path: Path, deploy: str) -> None:
        """`deploy`: name of this deploy, in each of its lines."""
        self._path, self._deploy = path, deploy

    def write(self, line: Mapping[str, Any]) -> None:
        """Raises OSError."""
        clock = {"boot_s": round(time.clock_gettime(time.CLOCK_BOOTTIME), 3), "unix_s": round(time.time(), 3)}
        raw = json.dumps({"deploy": self._deploy, **clock, **line}).encode() + b"\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, raw)
            os.fdatasync(handle)
        finally:
            os.close(handle)


def new_deploy(path: Path) -> str:
    """Make room in the log, and a name for the next deploy. Raises OSError."""
    make_folders(path.parent)
    if path.exists() and path.stat().st_size > MAX_BYTES:
        path.rename(path.with_name(path.name + ".1"))
    return f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME)}-{os.getpid()}"


def lines_of(path: Path, deploy: str | None = None) -> list[dict[str, Any]]:
    """The lines of that deploy, of the last one without a name; those of a torn write are left out."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = list(_parsed(file.read().splitlines()))
    except OSError:
        return []
    wanted = deploy or (lines[-1]["deploy"] if lines else None)
    return [line for line in lines if line["deploy"] == wanted]


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("deploy"), str):
            yield data
