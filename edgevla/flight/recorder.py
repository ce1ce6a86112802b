"""The recorder process: drains the rings of a run into a flight record, and is on nobody's path.

    python -m edgevla.flight.recorder     (started by `edgevla.control.run`, configured by one line on stdin)

One thread empties the rings 20 times a second, another writes: a disk that stalls costs nothing until the queue between
them is full, a disk that is full ends the writing and nothing else. What could not be kept is counted. Further lines on
stdin are events of the run; the end of stdin closes the file. Events: recording, recorder-failed, recorded, error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.control.child import adopt, emit, guarded, read_line
from edgevla.control.shm import Slots
from edgevla.errors import BadInput, explain
from edgevla.flight import encoding as form
from edgevla.flight.segments import FlightFile, log_time
from edgevla.flight.tape import unpack_observation
from edgevla.telemetry.rows import Rows, inference_dtype, tick_dtype

_DRAIN_S = 0.05  # s between two looks at the rings
_CHUNK_BYTES = 1 << 20  # of messages, before compression
_FLUSH_S = 1.0  # s: what a kill may cost
_DYING_S = 0.1  # s from the end of stdin to the death of its writer
_QUIET_S = 0.3  # s without a servo step: the servo has ended too
_CLOSE_S = 4.0  # s for the disk to take what is left
_QUEUE_BYTES = 64 << 20  # waiting for the disk: some 3 s of two 640 x 480 cameras at 10 Hz
_NICE = 10
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}  # system call numbers
_BEST_EFFORT_LOWEST = (2 << 13) | 7  # of ioprio_set(2)
_STDIN_BYTES = 65536


@dataclass(frozen=True)
class RecorderConfig:
    """What the recorder is told at its start. Descriptors are inherited."""

    parent_pid: int
    path: str
    ticks_fd: int
    inferences_fd: int
    tape_fd: int
    channels: int
    states: int
    limit_mb: float
    meta: dict[str, Any]

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(self.__dict__) + "\n"


@dataclass(frozen=True)
class Item:
    """Something to write: rows, a packed observation with its number, or an event."""

    topic: str
    data: Any
    at_ns: int
    size: int  # bytes
    count: int = 1  # what is lost with it
    sequence: int = 0


class Writer:
    """The thread that owns the file. Losses are counted per topic; `failed` says why it stopped writing."""

    def __init__(self, path: Path, meta: dict[str, Any], limit_bytes: int) -> None:
        self._path, self._meta, self._limit = path, meta, limit_bytes
        self._queue: deque[Item] = deque()
        self._queued = 0
        self._wake = threading.Condition()
        self._ended = False
        self._open_items: Counter[str] = Counter()  # in the chunk that is not in the file yet
        self._open_bytes = 0
        self.lost: Counter[str] = Counter()
        self.failed = ""
        self.bytes = self.messages = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, item: Item) -> None:
        """Takes the item, or counts it as lost. Never waits for the disk."""
        with self._wake:
            if self.failed or self._queued + item.size > _QUEUE_BYTES:
                self.lost[item.topic] += item.count
                return
            self._queue.append(item)
            self._queued += item.size
            self._wake.notify()

    def count_lost(self, topic: str, count: int) -> None:
        if count > 0:
            with self._wake:
                self.lost[topic] += count

    def end(self, patience_s: float) -> None:
        """Writes what is queued and closes the file; what the disk does not take in time is lost."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join(patience_s)
        with self._wake:
            if self._thread.is_alive() and not self.failed:
                self.failed = f"the disk took nothing for {patience_s:g} s"
                self.lost += self._open_items
            self._lose_queue()

    def _lose_queue(self) -> None:
        for item in self._queue:
            self.lost[item.topic] += item.count
        self._queue.clear()
        self._queued = 0

    def _run(self) -> None:
        file: FlightFile | None = None
        try:
            file = FlightFile(self._path, self._meta, self._limit)
            emit("recording", file=self._path.name)
            self._write_all(file)
        except Exception as error:  # whatever it is costs the record, never the run
            self._fail(error)
            if file is not None:
                file.abandon()
        if file is not None:
            self.bytes, self.messages = file.size_bytes, file.messages

    def _write_all(self, file: FlightFile) -> None:
        flushed_s, told = time.monotonic(), Counter[str]()
        while True:
            item, ended, lost = self._next(told)
            if item is not None:
                self._write(file, item)
            due = time.monotonic() - flushed_s >= _FLUSH_S
            done = ended and item is None
            if done or due or self._open_bytes >= _CHUNK_BYTES:
                told += lost
                self._note_lost(file, lost)
                file.flush()
                self._open_items.clear()
                self._open_bytes = 0
            if done:
                return file.finish()
            if due:
                file.sync()
                flushed_s = time.monotonic()

    def _next(self, told: Counter[str]) -> tuple[Item | None, bool, Counter[str]]:
        """The next item if there is one soon, whether the end was asked for, and losses that are not told yet."""
        with self._wake:
            if not self._queue and not self._ended:
                self._wake.wait(_FLUSH_S / 2)
            item = self._queue.popleft() if self._queue else None
            self._queued -= item.size if item else 0
            return item, self._ended, self.lost - told

    def _write(self, file: FlightFile, item: Item) -> None:
        self._open_items[item.topic] += item.count
        self._open_bytes += item.size
        try:
            if item.topic == form.OBSERVATIONS:
                file.observation(unpack_observation(item.data), item.sequence)
            elif item.topic == form.EVENTS:
                file.event(item.data, item.at_ns)
            else:
                file.rows(item.topic, item.data, item.at_ns)
        except ValueError:  # it is not what it should be; the next one may be
            self._open_items[item.topic] -= item.count
            self.count_lost(item.topic, item.count)

    def _note_lost(self, file: FlightFile, lost: Counter[str]) -> None:
        for topic, count in lost.items():
            event = {"event": "record-lost", "topic": topic, "count": count}
            file.event(event, time.monotonic_ns())

    def _fail(self, error: Exception) -> None:
        strerror = getattr(error, "strerror", None)
        why = strerror or f"{type(error).__name__}: {error}"
        with self._wake:
            self.failed = f"the flight record stops here: {why}"
            self.lost += self._open_items
            self._lose_queue()
        emit("recorder-failed", message=self.failed)


class Drain:
    """Reads the rings. `look` takes what is new; nothing here waits for anybody."""

    def __init__(self, config: RecorderConfig, writer: Writer) -> None:
        self._writer = writer
        self._ticks = Rows(config.ticks_fd, tick_dtype(config.channels, config.states))
        self._inferences = Rows(config.inferences_fd, inference_dtype())
        self._tape = Slots.attach(config.tape_fd)
        self._seen_ticks = self._seen_inferences = self._sequence = 0
        self._line = b""

    def look(self) -> None:
        self._seen_ticks = self._rows(form.TICKS, self._ticks, self._seen_ticks, "wake_ns")
        self._seen_inferences = self._rows(form.INFERENCES, self._inferences, self._seen_inferences, "done_ns")
        for sequence, payload in self._tape.newer(self._sequence):
            self._writer.count_lost(form.OBSERVATIONS, sequence - self._sequence - 1)
            self._sequence = sequence
            self._writer.put(Item(form.OBSERVATIONS, payload, 0, len(payload), sequence=sequence))

    def until_quiet(self) -> None:
        """The supervisor died: the servo is stopping the arm by itself, and that belongs on the record."""
        begun = changed = time.monotonic()
        while (now := time.monotonic()) - changed < _QUIET_S and now - begun < _CLOSE_S:
            seen = self._seen_ticks
            time.sleep(_DRAIN_S)
            self.look()
            changed = time.monotonic() if self._seen_ticks != seen else changed

    def _rows(self, topic: str, ring: Rows, cursor: int, time_field: str) -> int:
        rows, cursor, lost = ring.since(cursor)
        self._writer.count_lost(topic, lost)
        if len(rows):
            self._writer.put(Item(topic, rows, log_time(rows, time_field), rows.nbytes, len(rows)))
        return cursor

    def hear(self, data: bytes) -> None:
        """Lines of the parent: events to be recorded. What is no JSON object is counted as lost."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and isinstance(event.get("event"), str):
                    at_ns = event.get("at_ns")
                    at_ns = at_ns if isinstance(at_ns, int) else time.monotonic_ns()
                    self._writer.put(Item(form.EVENTS, event, at_ns, len(line)))
                    continue
            self._writer.count_lost(form.EVENTS, 1)


def lower_priority() -> None:
    """Behind everybody else for CPU and disk, yet not idle: with both cores loaded the record must still go on."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, 0, _BEST_EFFORT_LOWEST)


def recorder_config(line: str) -> RecorderConfig:
    """The configuration that `line()` wrote. Raises BadInput."""
    try:
        return RecorderConfig(**json.loads(line))
    except (TypeError, ValueError) as error:
        todo = "report this: `edgevla run` wrote it"
        raise BadInput(explain("configuration of the recorder", "one line of JSON", error, todo)) from None


def _orphaned(parent_pid: int) -> bool:
    """Has the parent died? The kernel closes a dying process's files a moment before it hands its children on."""
    until = time.monotonic() + _DYING_S
    while os.getppid() == parent_pid and time.monotonic() < until:
        time.sleep(0.01)
    return os.getppid() != parent_pid


def main() -> int:
    """Configuration and events on stdin, events on stdout; ends when stdin closes."""
    config = recorder_config(read_line(0))
    adopt(config.parent_pid, signal.SIGTERM)
    signal.signal(signal.SIGTERM, _ask_to_end)  # also what comes when the parent dies
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file size limit is an error like a full disk, no death
    lower_priority()
    writer = Writer(Path(config.path), config.meta, int(config.limit_mb * 1e6))
    drain = Drain(config, writer)
    writer.start()
    while True:
        heard = select.select([0], [], [], _DRAIN_S)[0]
        data = os.read(0, _STDIN_BYTES) if heard else b""
        drain.hear(data)
        drain.look()
        if (heard and not data) or _stop:
            break
    if _orphaned(config.parent_pid):
        drain.until_quiet()
    writer.end(_CLOSE_S)
    lost = {topic[1:]: count for topic, count in sorted(writer.lost.items())}
    emit("recorded", bytes=writer.bytes, messages=writer.messages, lost=sum(lost.values()), lost_of=lost)
    return 0


_stop: list[int] = []


def _ask_to_end(*_: object) -> None:
    """Close the file in order."""
    _stop.append(1)


if __name__ == "__main__":
    sys.exit(guarded(main))
