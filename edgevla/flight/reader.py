"""Reads a flight record back: rows in memory, observations one by one.

A record cut by a kill or a full disk is read up to its last whole chunk; an altered chunk is left out and named.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgevla.errors import BadInput, explain
from edgevla.flight import encoding as form
from edgevla.flight.tape import Observation, Seen

NAME = "flight.mcap"
_MAX_RECORD = 1 << 30  # bytes: what one MCAP record may ask for
_AGAIN = "give the flight.mcap of a run"
Rows = NDArray[np.void]


@dataclass(frozen=True)
class Record:
    """One flight. Rows are in the order of writing; `damage` says what of the file could not be read."""

    files: tuple[Path, ...]  # oldest segment first
    meta: dict[str, Any]
    ticks: Rows  # telemetry.rows.tick_dtype
    inferences: Rows  # telemetry.rows.inference_dtype
    observations: Rows  # encoding.observation_dtype
    chunks: Rows  # encoding.chunk_dtype
    events: list[dict[str, Any]]
    damage: tuple[str, ...] = ()
    lost: dict[str, int] = field(default_factory=dict)  # by topic, as the recorder noticed
    cut: bool = False  # the last segment has no footer: the recorder was killed or the disk was full


@dataclass(frozen=True)
class _Message:
    topic: str
    schema: str
    data: bytes
    at_ns: int
    sequence: int


def segments_of(path: Path) -> tuple[Path, ...]:
    """The segments of a record, oldest first. `path`: its folder, its newest segment, or an old one alone.

    Raises BadInput: there is none.
    """
    newest = path / NAME if path.is_dir() else path
    if not newest.is_file():
        raise BadInput(explain(f"flight record {path}", f"a file {NAME}", "none there", _AGAIN))
    old = re.compile(re.escape(newest.stem) + r"-\d{3,}" + re.escape(newest.suffix))
    older = [file for file in newest.parent.iterdir() if old.fullmatch(file.name)]
    return (*sorted(older, key=lambda file: (len(file.name), file.name)), newest)


def read_record(path: str | Path) -> Record:
    """Everything but the pictures. Raises BadInput: no record, or one without a readable meta."""
    files = segments_of(Path(path))
    parts: dict[str, list[NDArray[Any]]] = {}
    events: list[dict[str, Any]] = []
    metas: list[dict[str, Any]] = []
    damage: list[str] = []
    cut = False
    for file in files:
        cut = False
        for message in _messages(file, damage, pictures=False):
            if message is None:
                cut = True
                if file != files[-1]:
                    damage.append(f"{file.name}: it ends too early")
            elif message.topic in (form.META, form.EVENTS):
                (metas if message.topic == form.META else events).append(_object(message, damage))
            elif not message.topic.startswith(form.IMAGES):
                parts.setdefault(message.topic, []).append(_array(message, damage))
    if not metas or metas[0].get("schema") != form.PROFILE:
        got = f"schema {metas[0].get('schema')!r}" if metas else "no readable meta"
        raise BadInput(explain(f"flight record {path}", f"one of schema {form.PROFILE}", got, _AGAIN))
    topics = (form.TICKS, form.INFERENCES, form.OBSERVATIONS, form.CHUNKS)
    ticks, inferences, observations, chunks = (_joined(parts.get(topic, []), topic, damage) for topic in topics)
    lost: dict[str, int] = {}
    for event in events:
        if event.get("event") == "record-lost":
            lost[str(event["topic"])[1:]] = lost.get(str(event["topic"])[1:], 0) + int(event["count"])
    return Record(files, metas[0], ticks, inferences, observations, chunks, events, tuple(damage), lost, cut)


def observations_of(record: Record) -> Iterator[tuple[Rows, Observation, tuple[str, ...]]]:
    """Row, whole observation and what is wrong with its pictures, in order; one picture in memory at a time."""
    chunks = {int(row["tick"]): row for row in record.chunks}
    pictures: dict[str, Seen] = {}
    waiting: Rows | None = None
    for file in record.files:
        for message in _messages(file, [], pictures=True):
            if message is None:
                continue
            if message.topic == form.OBSERVATIONS:
                if waiting is not None:
                    yield _whole(waiting, pictures, chunks)
                rows = _array(message, [])
                waiting, pictures = (rows[0] if len(rows) else None), {}
            elif message.topic.startswith(form.IMAGES) and waiting is not None:
                name, seen = form.unpack_image(message.data, message.sequence)
                pictures[name] = seen
    if waiting is not None:
        yield _whole(waiting, pictures, chunks)


def moment_of(key: str) -> tuple[str, int]:
    """Camera and how many ticks before, of the tape's `camera@-j`; 0 for the newest frame."""
    name, _, back = key.partition("@-")
    return name, int(back or 0)


def cameras_of(row: Rows) -> list[str]:
    """Cameras that had a frame in an observation row."""
    names = [name for name in row.dtype.names or () if name.startswith("camera:")]
    return [name.partition(":")[2] for name in names if row[name]["stamp_ns"] >= 0]


def _whole(row: Rows, pictures: dict[str, Seen], chunks: dict[int, Rows]) -> tuple[Rows, Observation, tuple[str, ...]]:
    wrong = []
    for name in cameras_of(row):
        if name not in pictures:
            wrong.append(f"image of camera {name} is missing")
        elif zlib.crc32(pictures[name].image.tobytes()) != int(row[f"camera:{name}"]["crc32"]):
            wrong.append(f"image of camera {name} is not the one that was recorded")
    answer = chunks.get(int(row["tick"]))
    if answer is None:
        wrong.append("its answer is missing")
    chunk = answer["chunk"] if answer is not None and answer["has_chunk"] else None
    setpoints = answer["setpoints"] if answer is not None else np.zeros((0, row["commanded"].shape[1]), np.float32)
    seen = Observation(
        tick=int(row["tick"]),
        asked_ns=int(row["asked_ns"]),
        begun_ns=int(row["begun_ns"]),
        done_ns=int(row["done_ns"]),
        status=int(row["status"]),
        instruction=int(row["instruction"]),
        cleared=bool(row["cleared"]),
        state_stamp_ns=int(row["state_stamp_ns"]),
        state=row["state"],
        prefix=row["prefix"],
        commanded=row["commanded"],
        frames=pictures,
        chunk=chunk,
        setpoints=setpoints,
    )
    return row, seen, tuple(wrong)


def _messages(file: Path, damage: list[str], pictures: bool) -> Iterator[_Message | None]:
    """Messages of every whole chunk; None at the end of a file that was cut. A bad chunk is skipped and told."""
    from mcap.records import Chunk
    from mcap.stream_reader import breakup_chunk

    schemas: dict[int, Any] = {}
    channels: dict[int, Any] = {}
    with file.open("rb") as stream:
        for at, record in _records(stream, file, damage):
            if record is None:
                yield None
            elif isinstance(record, Chunk):
                try:
                    inside = breakup_chunk(record, validate_crc=True)
                except Exception as error:  # decompression and checksum errors share no base class
                    damage.append(f"{file.name}: chunk at byte {at} is altered ({type(error).__name__}: {error})")
                    continue
                yield from _inside(inside, schemas, channels, pictures)


def _inside(
    records: list[Any], schemas: dict[int, Any], channels: dict[int, Any], pictures: bool
) -> Iterator[_Message]:
    from mcap.records import Channel, Message, Schema

    for record in records:
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel):
            channels[record.id] = record
        elif isinstance(record, Message) and record.channel_id in channels:
            channel = channels[record.channel_id]
            if pictures or not channel.topic.startswith(form.IMAGES):
                schema = schemas[channel.schema_id].data.decode()
                yield _Message(channel.topic, schema, record.data, record.log_time, record.sequence)


def _records(stream: IO[bytes], file: Path, damage: list[str]) -> Iterator[tuple[int, Any]]:
    """Top-level records with their offset; (offset, None) where the file ends before its footer."""
    from mcap.exceptions import McapError
    from mcap.records import Footer
    from mcap.stream_reader import StreamReader

    try:
        for record in StreamReader(stream, emit_chunks=True, record_size_limit=_MAX_RECORD).records:
            yield stream.tell(), record
            if isinstance(record, Footer):
                return
    except (McapError, ValueError, EOFError, MemoryError, struct.error, OverflowError) as error:
        if stream.read(1):  # not at the end: these bytes are no MCAP
            damage.append(f"{file.name}: unreadable after byte {stream.tell()} ({type(error).__name__}: {error})")
    yield stream.tell(), None


def _object(message: _Message, damage: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(message.data)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return value
    damage.append(f"{message.topic}: a message is no JSON object")
    return {}


def _array(message: _Message, damage: list[str]) -> NDArray[Any]:
    try:
        return np.frombuffer(message.data, form.dtype_of(message.schema))
    except ValueError as error:
        damage.append(f"{message.topic}: {error}")
        return np.zeros(0, np.dtype([]))


def _joined(parts: list[NDArray[Any]], topic: str, damage: list[str]) -> Rows:
    """All rows of a topic; where the columns changed on the way (a camera more), those of the newest."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return np.zeros(0, np.dtype([("tick", "<i8")]))
    if all(part.dtype == parts[-1].dtype for part in parts):
        return np.concatenate(parts)
    return _widened(parts)


def _widened(parts: list[NDArray[Any]]) -> Rows:
    """Union of the columns; a camera that a row does not have is -1, of an earlier state that is not there NaN."""
    union: dict[str, Any] = {}
    for part in parts:
        for name in part.dtype.names or ():
            if name not in union or part.dtype[name].itemsize > union[name].itemsize:
                union[name] = part.dtype[name]
    rows = np.zeros(sum(len(part) for part in parts), np.dtype(list(union.items())))
    for name in union:
        if name.startswith("camera:"):
            rows[name]["stamp_ns"] = rows[name]["sequence"] = -1
    at = 0
    for part in parts:
        for name in part.dtype.names or ():
            _put(rows[name][at : at + len(part)], part[name])
        at += len(part)
    return rows


def _put(place: NDArray[Any], values: NDArray[Any]) -> None:
    """A shorter row of numbers stands at the end: the newest state is the last."""
    if place.shape == values.shape:
        place[:] = values
    else:
        place[:] = np.nan
        place[..., -values.shape[-1] :] = values
