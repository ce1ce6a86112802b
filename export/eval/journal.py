"""The journal of a session with the real arm: one JSON object a line, on the disk before anything else happens."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, Refused, explain

NAME = "journal.jsonl"


class Journal:
    """Open for one process at a time.

    lines: everything written so far. A last line that a kill cut short was never confirmed to anyone: it is removed.

    Raises:
        Refused: another process has it open.
        BadInput: a line in it is not a JSON object.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.lines = self._read()
        except BlockingIOError as error:
            os.close(self._handle)
            todo = "go on in the other terminal, or end it"
            raise Refused(explain(f"session {folder}", "one process at a time", "another has it open", todo)) from error
        except BaseException:
            os.close(self._handle)
            raise
        _sync(folder)

    def append(self, line: dict[str, Any]) -> None:
        """Written whole and on the disk when this returns."""
        raw = json.dumps(line).encode() + b"\n"
        if os.write(self._handle, raw) != len(raw):
            raise OSError(f"{self.path}: a line was written in part; the next start removes it")
        os.fsync(self._handle)
        self.lines.append(line)

    def close(self) -> None:
        os.close(self._handle)

    def _read(self) -> list[dict[str, Any]]:
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) != len(raw):
            os.ftruncate(self._handle, len(whole))
        return [self._parse(number, line) for number, line in enumerate(whole.splitlines(), 1)]

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            value = json.loads(line)
            if isinstance(value, dict):
                return value
        except ValueError:
            pass
        todo = "start another session with --session DIR"
        raise BadInput(explain(f"{self.path} line {number}", "a JSON object", line[:80], todo))


def _sync(folder: Path) -> None:
    """The name of a new file is on the disk too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
