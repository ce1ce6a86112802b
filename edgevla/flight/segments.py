"""The MCAP file of a flight record, in segments: the newest is `flight.mcap`, older ones are `flight-000.mcap`, ...

Each segment is a whole MCAP file with its own meta, so that any of them can be read alone. When all together pass the
limit the oldest is deleted: of a flight, the end explains the stop.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgevla.flight import encoding as form
from edgevla.flight.tape import Observation

SEGMENTS = 8  # parts of the limit: at most one of them is missing from what the limit allows
_SMALLEST_SEGMENT = 1 << 20  # bytes
_NO_CHUNK_BY_ITSELF = 1 << 40  # bytes: a chunk ends in flush() only, so that what an error costs is known
_MODE = 0o600  # pictures of somebody's room


class _Sink:
    """A descriptor without a buffer of its own: after an error nothing is left to be written again at close."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        self._bytes = 0

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            written = os.write(self.fd, rest)
            self._bytes += written
            rest = rest[written:]
        return len(data)

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        """Nothing is held back here."""

    def sync(self) -> None:
        os.fdatasync(self.fd)

    def close(self) -> None:
        os.close(self.fd)


class FlightFile:
    """One record in the making. Every method may raise OSError: a full disk, a limit, a device that is gone."""

    def __init__(self, path: Path, meta: dict[str, Any], limit_bytes: int, compression: str = "zstd") -> None:
        self._path, self._meta = path, {"schema": form.PROFILE, **meta}
        self._segment_bytes = max(_SMALLEST_SEGMENT, limit_bytes // SEGMENTS)
        self._limit, self._compression = limit_bytes, compression
        self._old: list[Path] = []
        self._old_bytes = self._deleted_bytes = 0
        self._number = 0
        self.messages = 0
        self._open()

    @property
    def size_bytes(self) -> int:
        """Kept on disk."""
        return self._old_bytes + self._sink.tell()

    @property
    def deleted_bytes(self) -> int:
        """Of the oldest segments."""
        return self._deleted_bytes

    def _open(self) -> None:
        from mcap.writer import CompressionType, Writer

        self._sink = _Sink(self._path)
        self._channels: dict[tuple[str, bytes], int] = {}
        kind = CompressionType[self._compression.upper()]
        self._writer: Any = Writer(self._sink, _NO_CHUNK_BY_ITSELF, kind)  # type: ignore[arg-type]
        self._writer.start(form.PROFILE)
        self._json(form.META, self._meta | {"segment": self._number}, 0)
        self._writer.flush()

    def rows(self, topic: str, rows: NDArray[Any], at_ns: int) -> None:
        """Records of one dtype; `at_ns` is the time of the last one."""
        schema = form.dtype_text(rows.dtype).encode()
        self._add(topic, form.ROWS_ENCODING, (topic[1:], form.DTYPE_ENCODING, schema), rows.tobytes(), at_ns)

    def observation(self, seen: Observation, sequence: int) -> None:
        """Inputs, pictures and answer of one inference."""
        self.rows(form.OBSERVATIONS, form.observation_row(seen, sequence), seen.begun_ns)
        schema = (form.IMAGE_TYPE, "ros2msg", form.IMAGE_SCHEMA.encode())
        for name, frame in seen.frames.items():
            data = form.pack_image(name, frame)
            self._add(form.IMAGES + name, "cdr", schema, data, seen.begun_ns, frame.sequence & 0xFFFFFFFF)
        self.rows(form.CHUNKS, form.chunk_row(seen), seen.done_ns)

    def event(self, event: dict[str, Any], at_ns: int) -> None:
        """Raises ValueError on what is no JSON."""
        self._json(form.EVENTS, {"at_ns": at_ns, **event}, at_ns)

    def _json(self, topic: str, value: dict[str, Any], at_ns: int) -> None:
        schema = (topic[1:], "jsonschema", form.json_bytes(form.JSON_SCHEMAS[topic]))
        self._add(topic, "json", schema, form.json_bytes(value), at_ns)

    def _add(
        self, topic: str, encoding: str, schema: tuple[str, str, bytes], data: bytes, at_ns: int, sequence: int = 0
    ) -> None:
        key = (topic, schema[2])
        if key not in self._channels:
            number = self._writer.register_schema(*schema)
            self._channels[key] = self._writer.register_channel(topic, encoding, number)
        self._writer.add_message(self._channels[key], max(at_ns, 0), data, max(at_ns, 0), sequence)
        self.messages += 1

    def flush(self) -> None:
        """Everything so far is a whole chunk of the file; begins a new segment when this one is full."""
        self._writer.flush()
        if self._sink.tell() >= self._segment_bytes:
            self._rotate()

    def sync(self) -> None:
        """What was flushed survives a loss of power."""
        self._sink.sync()

    def _rotate(self) -> None:
        self.finish()
        kept = self._path.with_name(f"{self._path.stem}-{self._number:03d}{self._path.suffix}")
        os.rename(self._path, kept)
        self._old.append(kept)
        self._old_bytes += self._sink.tell()
        while self._old and self._old_bytes + self._segment_bytes > self._limit:
            oldest = self._old.pop(0)
            size = oldest.stat().st_size
            oldest.unlink()
            self._old_bytes -= size
            self._deleted_bytes += size
        self._number += 1
        self._open()

    def finish(self) -> None:
        """Ends the segment in order: index and footer."""
        self._writer.finish()
        self._sink.sync()
        self._sink.close()

    def abandon(self) -> None:
        """After an error: what is on the disk stays, readable up to its last whole chunk."""
        with contextlib.suppress(OSError):
            self._sink.close()


def log_time(rows: NDArray[Any], field: str) -> int:
    """Time of the last of these rows."""
    return int(rows[field][-1]) if len(rows) else 0
