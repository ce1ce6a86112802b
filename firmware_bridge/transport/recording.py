"""A transport that writes down what passes, and one that gives it back. The file: `log`.

The cycle only appends to a list; a thread takes the list every 0.1 s and writes it, outside the interpreter's lock.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from firmware_bridge.errors import PortError, PortGone, ReplayDiffers, explain
from firmware_bridge.transport import kernel_can, log
from firmware_bridge.transport.base import Frame
from firmware_bridge.transport.log import What

_FLUSH_S = 0.1
_MOST_WAITING = 200_000  # records in memory; a disk that stands still loses records, and the file says how many
MOST_BYTES = 1 << 30  # of one file: then recording ends, the line goes on


class Recording:
    """`transport`, a Transport or a FrameTransport, with a record of every byte in the file `path`.

    `more` goes into the file's first line (protocol, baud). The file is written while it runs and complete after
    `finish()`; `close()` only closes the transport, so that a reconnection stays in the same file.
    """

    def __init__(self, transport: Any, path: str | Path, kind: str, most_bytes: int = MOST_BYTES, **more: Any) -> None:
        self._inner, self._kind, self._room = transport, kind, most_bytes
        self._waiting: deque[tuple[int, What, Any]] = deque()
        self._lost = 0
        self.failed = ""  # why the disk took no more; what was written until then is in the file
        self._end, self._writing = threading.Event(), threading.Lock()
        try:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - lives as long as this object
            _begin(self._file, path, log.head_line(kind, transport.name, **more))
        except OSError as error:
            todo = "choose a path that can be written, on a disk that is not full"
            raise PortError(explain(f"cannot record to {path}", "a file", error.strerror, todo)) from None
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return str(self._inner.name)

    def __getattr__(self, name: str) -> Any:
        """What a transport has besides: `fileno`, `low_latency`."""
        return getattr(self._inner, name)

    def open(self) -> None:
        self._inner.open()
        self._note(What.OPENED, b"")

    def write(self, data: Any) -> None:
        """Bytes, or a sequence of frames. Recorded when handed over: a write that failed was none."""
        self._inner.write(data)
        if isinstance(data, bytes):
            self._note(What.WROTE, data)
        else:
            for frame in data:
                self._note(What.WROTE, frame)

    def read(self) -> Any:
        data = self._inner.read()
        if isinstance(data, bytes):
            if data:
                self._note(What.READ, data)
        else:
            for frame in data:
                self._note(What.READ, frame)
        return data

    def wait_readable(self, deadline_ns: int) -> bool:
        return bool(self._inner.wait_readable(deadline_ns))

    def close(self) -> None:
        self._inner.close()
        self._note(What.CLOSED, b"")

    def flush(self) -> None:
        """Write what waits. Called by the thread; by others only where waiting for the disk does no harm."""
        with self._writing:
            chunk = bytearray()
            while self._waiting:
                ns, what, unit = self._waiting.popleft()
                chunk += log.record(ns, what, kernel_can.pack(unit) if isinstance(unit, Frame) else unit)
            if self._lost:
                count, self._lost = self._lost, 0
                chunk += log.lost(time.monotonic_ns(), count)
            if len(chunk) > self._room:  # the file ends here, whole
                self._room = 0
                return
            self._room -= len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._file.fileno(), view) :]

    def finish(self) -> None:
        """The file is complete; nothing more is recorded. A second call does nothing."""
        if not self._end.is_set():
            self._end.set()
            self._thread.join()
            self._file.close()

    def _note(self, what: What, unit: Any) -> None:
        if self._end.is_set() or not self._room:
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append((time.monotonic_ns(), what, unit))

    def _run(self) -> None:
        while not self._end.wait(_FLUSH_S):
            self._flush_or_give_up()
        self._flush_or_give_up()

    def _flush_or_give_up(self) -> None:
        """A full disk ends the recording, never the arm: `log.read_log` shows where."""
        try:
            self.flush()
        except OSError as error:
            self._room, self.failed = 0, error.strerror or str(error)


def _begin(file: FileIO, path: str | Path, head: bytes) -> None:
    """The first line, whole. Raises OSError, and leaves no file then."""
    try:
        if file.write(head) != len(head):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        file.close()
        if os.path.isfile(path):  # not a device
            os.unlink(path)
        raise


class Replaying:
    """The recorded other side as a transport: reads give back what was read then, if what is written equals it.

    Each difference is ReplayDiffers and names the first byte. As fast as it is asked.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._open = False
        self._log: log.Log | None = None
        self._ahead: deque[log.Record] = deque()
        self._inbox: deque[Any] = deque()
        self._written = 0  # bytes, or frames

    @property
    def name(self) -> str:
        return f"replay:{self._path}"

    def open(self) -> None:
        """Goes on where the last connection ended. Raises BadRecording."""
        if self._log is None:
            self._log = log.read_log(self._path)
            self._ahead.extend(r for r in self._log.records if r.what in (What.WROTE, What.READ))
        self._open = True

    def write(self, data: Any) -> None:
        self._require_open()
        if isinstance(data, bytes):
            self._match_bytes(data)
        else:
            for frame in data:
                self._match_frame(frame)

    def read(self) -> Any:
        """Raises PortGone at the end of the recording."""
        self._require_open()
        self._arrive()
        if self._frames:
            frames = list(self._inbox)
            self._inbox.clear()
            return frames
        return self._inbox.popleft() if self._inbox else b""

    def wait_readable(self, deadline_ns: int) -> bool:
        """At once: what was not answered then is not answered now."""
        self._require_open()
        self._arrive()
        if not self._inbox and not self._ahead:
            raise self._over()
        return bool(self._inbox)

    def fileno(self) -> int:
        """A recording has none."""
        return -1

    def close(self) -> None:
        self._open = False

    @property
    def _frames(self) -> bool:
        return self._log is not None and self._log.kind == "can"

    def _arrive(self) -> None:
        while self._ahead and self._ahead[0].what is What.READ:
            self._inbox.append(self._ahead.popleft().unit)

    def _match_bytes(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            then = self._next_written()
            same = min(len(then.unit), len(data) - at)
            for i in range(same):
                if then.unit[i] != data[at + i]:
                    raise self._differs(self._written + i, f"{then.unit[i]:02x}", f"{data[at + i]:02x}", then)
            at += same
            self._written += same
            if same < len(then.unit):
                self._ahead.appendleft(then._replace(unit=then.unit[same:]))

    def _match_frame(self, frame: Frame) -> None:
        then = self._next_written()
        if then.unit != frame:
            raise self._differs(self._written, str(then.unit), str(frame), then)
        self._written += 1

    def _next_written(self) -> log.Record:
        self._arrive()
        if not self._ahead:
            raise self._over()
        return self._ahead.popleft()

    def _differs(self, at: int, expected: str, got: str, then: log.Record) -> ReplayDiffers:
        unit = "frame" if self._frames else "byte"
        what = f"{self.name}: another {unit} is written than then, number {at} from 0"
        todo = f"it was written at {then.ns} ns of the recording; see `edgevla bus replay {self._path}`"
        return ReplayDiffers(explain(what, expected, got, todo))

    def _over(self) -> PortGone:
        return PortGone(explain(f"{self.name} is over", "more of the recording", "its end", "record a longer one"))

    def _require_open(self) -> None:
        if not self._open:
            raise PortGone(explain(f"{self.name} is closed", "an open one", "closed", "open it first"))


def units(records: Sequence[log.Record], what: What) -> list[Any]:
    """The data of one direction, in order."""
    return [r.unit for r in records if r.what is what]
