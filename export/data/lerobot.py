"""A LeRobotDataset v3.0 folder (parquet and video, or pictures in parquet), read strictly.

Everything is checked before the first tick is handed out: rows without a gap, times that fit the frame rate, a video
frame for every row, finite numbers. Pictures are decoded on first use into a cache on disk (`export.data.frames`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain
from export.data import lerobot_meta as meta
from export.data.frames import cached_frames
from export.data.interface import Camera, Float32, Int64, Ticks, Uint8, stacked
from export.data.video import decode_picture, decode_video, frame_times_s
from export.extras import library

TOLERANCE_S = 1e-4  # LeRobot's own
_INDEX = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class _Pictures:
    """Where a camera's pictures are: file and frame of each tick."""

    files: tuple[Path, ...]
    frames: tuple[int, ...]  # in each file
    file: Int64  # (n,), number of the file
    frame: Int64  # (n,), in it


class LeRobotData:
    """See `export.data.interface.RobotDataset`."""

    def __init__(self, folder: Path, work: Path, tolerance_s: float = TOLERANCE_S, progress: bool = True) -> None:
        """Reads all numbers and checks them.

        Args:
            folder: of the dataset.
            work: decoded pictures are kept here: height x width x 3 bytes each.
            tolerance_s: by which the time of a row or a video frame may be off.
            progress: show how far the decoding is.

        Raises:
            BadInput: anything that is not whole and consistent, naming file and key.
        """
        self.folder, self._work, self._progress = folder, work, progress
        self.info = meta.read_info(folder)
        self.instructions = meta.read_tasks(folder)
        self.wordings = [[text] for text in self.instructions]
        self._episodes = meta.read_episodes(folder, self.info)
        rows = _Rows(self.info, self._episodes)
        rows.require_times(self.info.fps, tolerance_s)
        self.state, self.action, self.executed = rows.state, rows.action, rows.executed
        self.episode, self.task_index = rows.index["episode_index"], rows.index["task_index"]
        self.start, self.end = self._episodes.first[self.episode], self._episodes.end[self.episode]
        self._require_tasks()
        self._pictures = {
            camera.name: self._in_video(camera.name, rows.index["timestamp"], tolerance_s)
            if self.info.in_video[camera.name]
            else rows.pictures
            for camera in self.info.cameras
        }
        self._maps: dict[tuple[str, int], Uint8] = {}
        self._hashes: dict[Path, str] = {}

    def __len__(self) -> int:
        return len(self.state)

    @property
    def fps(self) -> float:
        return self.info.fps

    @property
    def period_s(self) -> float:
        return 1.0 / self.info.fps

    @property
    def cameras(self) -> tuple[Camera, ...]:
        return self.info.cameras

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.info.state.names

    @property
    def action_names(self) -> tuple[str, ...]:
        return self.info.action.names

    @cached_property
    def stats(self) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
        """meta/stats.json, float64."""
        return meta.read_stats(self.folder)

    @cached_property
    def sha256(self) -> str:
        """Over names and bytes of info, tasks, episodes, data and video files."""
        parts = [self.folder / "meta" / name for name in ("info.json", "tasks.parquet")]
        parts += sorted((self.folder / "meta" / "episodes").glob("*/*.parquet"))
        parts += sorted({*self._episodes.data, *(path for of in self._episodes.video.values() for path in of)})
        lines = [f"{path.relative_to(self.folder).as_posix()} {self._hash(path)}\n" for path in parts]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def instruction(self, tick: int) -> str:
        return self.instructions[self.task_index[tick]]

    def images(self, ticks: Ticks) -> Uint8:
        return stacked(self, ticks)

    def image(self, ticks: Ticks, camera: str) -> Uint8:
        index = np.asarray(ticks, np.int64)
        source = self._pictures[camera]
        file, frame = source.file[index], source.frame[index]
        size = next((c.height, c.width) for c in self.cameras if c.name == camera)
        out = np.empty((len(index), *size, 3), np.uint8)
        for number in np.unique(file):
            here = file == number
            out[here] = self._frames(camera, int(number), size)[frame[here]]
        return out

    def prepare(self) -> None:
        """Decodes every picture now that is not in the cache yet."""
        for camera in self.cameras:
            for number in range(len(self._pictures[camera.name].files)):
                self._frames(camera.name, number, (camera.height, camera.width))

    def _frames(self, camera: str, number: int, size: tuple[int, int]) -> Uint8:
        """All frames of one file, mapped."""
        if (camera, number) not in self._maps:
            source = self._pictures[camera]
            path, key = source.files[number], self.info.keys[camera]
            video = self.info.in_video[camera]
            name = self._hash(path) if video else f"{self._hash(path)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            shape = (source.frames[number], *size, 3)
            decode = (lambda: decode_video(path)) if video else (lambda: _pictures_in(path, key))
            self._maps[camera, number] = cached_frames(self._work / "frames", name, shape, decode, self._progress)
        return self._maps[camera, number]

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            self._hashes[path] = digest.hexdigest()
        return self._hashes[path]

    def _require_tasks(self) -> None:
        known, low, high = len(self.instructions), self.task_index.min(), self.task_index.max()
        if low < 0 or high >= known:
            where = f"task_index in {self.folder / 'data'}"
            raise BadInput(explain(where, f"0 to {known - 1}, as tasks.parquet has", f"{low} to {high}", meta.WHOLE))

    def _in_video(self, camera: str, timestamp: Float32, tolerance_s: float) -> _Pictures:
        """The video frame of each row: the nearest to the row's time, in its episode's file."""
        paths, from_s = self._episodes.video[camera], self._episodes.from_s[camera]
        files = tuple(dict.fromkeys(paths))
        number = np.array([files.index(path) for path in paths], np.int64)[self.episode]
        wanted_s = from_s[self.episode] + timestamp.astype(np.float64)
        allowed_s = tolerance_s + np.spacing(timestamp)
        frame, counts = np.empty(len(timestamp), np.int64), []
        for index, path in enumerate(files):
            here = np.flatnonzero(number == index)
            times_s = frame_times_s(path)
            frame[here] = nearest(times_s, wanted_s[here])
            off_s = np.abs(times_s[frame[here]] - wanted_s[here]) if len(times_s) else np.full(len(here), np.inf)
            late = off_s > allowed_s[here]
            if late.any():
                self._no_frame(path, times_s, here[late][0], float(wanted_s[here[late][0]]), int(late.sum()))
            counts.append(len(times_s))
        return _Pictures(files, tuple(counts), number, frame)

    def _no_frame(self, path: Path, times_s: npt.NDArray[np.float64], row: int, wanted_s: float, rows: int) -> NoReturn:
        last = f"{times_s[-1]:.4f} s" if len(times_s) else "nothing"
        got = f"{len(times_s)} frames up to {last}; {rows} rows have none"
        expected = f"a frame at {wanted_s:.4f} s, for row {row} (episode {self.episode[row]})"
        raise BadInput(explain(f"video {path}", expected, got, meta.WHOLE))


class _Rows:
    """All numbers of all data files, in order."""

    def __init__(self, info: meta.Info, episodes: meta.Episodes) -> None:
        self._files = tuple(dict.fromkeys(episodes.data))
        vectors = [info.state, info.action, *([info.executed] if info.executed else [])]
        tables = [meta.read_parquet(path, [*(v.key for v in vectors), *_INDEX]) for path in self._files]
        self._counts = [table.num_rows for table in tables]
        self.index = {name: self._scalars(tables, name) for name in _INDEX}
        self._require_order(info, episodes)
        self.state = self._vectors(tables, info.state)
        self.action = self._vectors(tables, info.action)
        self.executed = self._vectors(tables, info.executed) if info.executed else self.action

    @property
    def pictures(self) -> _Pictures:
        """Pictures that stand in the rows themselves."""
        file = np.repeat(np.arange(len(self._files)), self._counts)
        frame = np.concatenate([np.arange(count) for count in self._counts])
        return _Pictures(self._files, tuple(self._counts), file, frame)

    def _scalars(self, tables: list[Any], name: str) -> npt.NDArray[Any]:
        kind = np.float32 if name == "timestamp" else np.int64
        return np.concatenate(
            [meta.numbers(table, name, path) for table, path in zip(tables, self._files, strict=True)]
        ).astype(kind)

    def _vectors(self, tables: list[Any], vector: meta.Vector) -> Float32:
        parts = zip(tables, self._files, strict=True)
        values = np.concatenate(
            [_matrix(table[vector.key], len(vector.names), vector.key, path) for table, path in parts]
        )
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        if len(bad):
            got = f"NaN or infinity in {len(bad)} rows, first {bad[0]} (episode {self.index['episode_index'][bad[0]]})"
            raise BadInput(explain(f"{vector.key} in {self._file(bad[0])}", "finite numbers", got, meta.WHOLE))
        return values

    def _file(self, row: int) -> Path:
        return self._files[int(np.searchsorted(np.cumsum(self._counts), row, side="right"))]

    def _require_order(self, info: meta.Info, episodes: meta.Episodes) -> None:
        """Row by row what `meta` promises, without a gap."""
        total = sum(self._counts)
        if total != info.total_frames:
            got = f"{total} in {', '.join(str(path) for path in self._files[:3])}"
            raise BadInput(explain("rows of the dataset", f"{info.total_frames}, as info.json says", got, meta.WHOLE))
        length = episodes.end - episodes.first
        promised = {
            "index": np.arange(total),
            "episode_index": np.repeat(np.arange(len(length)), length),
            "frame_index": np.arange(total) - np.repeat(episodes.first, length),
        }
        for name, expected in promised.items():
            wrong = np.flatnonzero(self.index[name] != expected)
            if len(wrong):
                row = int(wrong[0])
                got = f"{self.index[name][row]}; {len(wrong)} rows differ"
                todo = f"rows are missing or mixed: {meta.WHOLE}"
                raise BadInput(explain(f"{name} of row {row} in {self._file(row)}", f"{expected[row]}", got, todo))

    def require_times(self, fps: float, tolerance_s: float) -> None:
        """timestamp is frame_index / fps."""
        timestamp = self.index["timestamp"]
        expected_s = self.index["frame_index"] / fps
        off_s = np.abs(timestamp.astype(np.float64) - expected_s) - np.spacing(timestamp)
        wrong = np.flatnonzero(~(off_s <= tolerance_s))
        if len(wrong):
            row = int(wrong[0])
            expected = f"{expected_s[row]:.4f} s at {fps:g} frames/s, within {tolerance_s} s"
            got = f"{timestamp[row]:.4f} s; {len(wrong)} rows are off"
            raise BadInput(explain(f"timestamp of row {row} in {self._file(row)}", expected, got, meta.WHOLE))


def nearest(times: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> Int64:
    """Index of the nearest of the rising `times` for each of `wanted`; 0 where there are no times."""
    if len(times) < 2:
        return np.zeros(len(wanted), np.int64)
    right = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    return np.where(wanted - times[right - 1] <= times[right] - wanted, right - 1, right).astype(np.int64)


def _matrix(column: Any, width: int, key: str, path: Path) -> Float32:
    """float32 (n, width) of a column of lists, or of numbers where width is 1."""
    kinds, merged = library("pyarrow.types", "data"), column.combine_chunks()
    lists = kinds.is_list(column.type) or kinds.is_fixed_size_list(column.type) or kinds.is_large_list(column.type)
    widths = {merged.type.list_size} if kinds.is_fixed_size_list(column.type) else set()
    if lists and not widths:
        widths = set(np.unique(np.diff(merged.offsets.to_numpy())).tolist())
    values = merged.flatten() if lists else merged
    if column.null_count or values.null_count or (widths or {1}) != {width}:
        got = f"{column.null_count + values.null_count} missing, lengths {sorted(widths or {1})}"
        raise BadInput(explain(f"{key} in {path}", f"{width} numbers per row, as info.json says", got, meta.WHOLE))
    matrix: Float32 = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)
    return matrix


def _pictures_in(path: Path, key: str) -> Iterator[Uint8]:
    """Pictures of one column of a data file, a few rows at a time."""
    with library("pyarrow.parquet", "data").ParquetFile(path) as file:
        row = 0
        for batch in file.iter_batches(batch_size=32, columns=[key]):
            for cell in batch.column(0).to_pylist():
                data = cell.get("bytes") if isinstance(cell, Mapping) else None
                if not data:
                    got = "a path to another file" if isinstance(cell, Mapping) else repr(type(cell).__name__)
                    raise BadInput(explain(f"{key} of row {row} in {path}", "the bytes of a picture", got, meta.WHOLE))
                yield decode_picture(data, f"{key} of row {row} in {path}")
                row += 1
