"""Writes a LeRobotDataset v3.0 that the library opens: parquet rows, video (or pictures in the rows), statistics.

    with LeRobotWriter(folder, Layout(fps=80, state_names=..., ...)) as writer:
        writer.add(Episode(state, action, {"corner": pictures}, "open the drawer"))

Everything goes to a hidden folder beside, which is renamed into place when the last file is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgevla.errors import BadInput, explain
from export.data.interface import Camera, Float32, Uint8
from export.data.lerobot_meta import ACTION, EXECUTED, IMAGES, STATE, VERSION
from export.data.stats import Stats, as_lists, merged, picture_stats, vector_stats
from export.data.video import Encoding, VideoWriter, encode_png
from export.extras import library

LEAST_AV1 = 64  # pixels, of libsvtav1
CHUNK_FILES = 1000  # in one folder
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
_INDEX = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64",
          "task_index": "int64"}  # fmt: skip
_WRITE_TODO = "correct the recording"


@dataclass(frozen=True)
class Layout:
    """What stands in info.json."""

    fps: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    state_units: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    executed: bool = False  # episodes also say what was commanded, where that is not `action`
    robot_type: str | None = None
    video: bool = True  # else PNG in the rows: no loss, far more bytes
    encoding: Encoding = field(default_factory=Encoding)
    data_file_mb: int = 100  # a new file is begun at an episode's end when one has grown so far
    video_file_mb: int = 200


@dataclass(frozen=True)
class Episode:
    """T ticks."""

    state: Float32  # (T, S)
    action: Float32  # (T, A)
    images: Mapping[str, Uint8]  # camera -> (T, h, w, 3)
    task: str
    executed: Float32 | None = None  # (T, A)


class LeRobotWriter:
    """One dataset in the making."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        """Raises BadInput: the folder is there already, a frame rate that is no whole number, sizes no codec takes."""
        library("pyarrow.parquet", "data")
        if folder.exists():
            raise BadInput(explain(f"dataset {folder}", "a folder that is not there yet", "it is", "choose another"))
        if not isinstance(layout.fps, int) or layout.fps < 1:
            _refuse("fps", "a whole number of ticks per second", layout.fps)
        _require_sizes(layout)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._folder, self._layout = folder, layout
        self._staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        self._features = _features(layout)
        self._tasks: list[str] = []
        self._rows: list[dict[str, Any]] = []  # of meta/episodes
        self._stats: dict[str, list[Stats]] = {}
        self._total = 0
        self._data = _DataFiles(self._staging, layout)
        self._videos = {c.name: _VideoFiles(self._staging, c, layout) for c in layout.cameras if layout.video}

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def add(self, episode: Episode) -> None:
        """Appends one episode. Raises BadInput: shapes that differ from the layout, numbers that are not finite."""
        _require_episode(episode, self._layout)
        ticks, number = len(episode.state), len(self._rows)
        if episode.task not in self._tasks:
            self._tasks.append(episode.task)
        columns = self._columns(episode, ticks, number)
        place = self._data.add(columns, episode.images)
        row: dict[str, Any] = {"episode_index": number, "tasks": [episode.task], "length": ticks, **place}
        row |= {"dataset_from_index": self._total, "dataset_to_index": self._total + ticks}
        for name, videos in self._videos.items():
            row |= videos.add(episode.images[name])
        stats = {key: vector_stats(values.reshape(ticks, -1)) for key, values in columns.items()}
        stats |= {IMAGES + name: picture_stats(pictures) for name, pictures in episode.images.items()}
        for key, of in stats.items():
            self._stats.setdefault(key, []).append(of)
            row |= {f"stats/{key}/{name}": value.tolist() for name, value in of.items()}
        self._rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
        self._total += ticks

    def _columns(self, episode: Episode, ticks: int, number: int) -> dict[str, npt.NDArray[Any]]:
        columns: dict[str, npt.NDArray[Any]] = {
            STATE: episode.state.astype(np.float32),
            ACTION: episode.action.astype(np.float32),
        }
        if self._layout.executed and episode.executed is not None:
            columns[EXECUTED] = episode.executed.astype(np.float32)
        frame = np.arange(ticks, dtype=np.int64)
        return columns | {
            "timestamp": (frame / self._layout.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(ticks, number, np.int64),
            "index": self._total + frame,
            "task_index": np.full(ticks, self._tasks.index(episode.task), np.int64),
        }

    def close(self) -> None:
        """Writes the rest and puts the folder in its place. Raises BadInput where there is no episode."""
        try:
            if not self._rows:
                _refuse("episodes", "one or more", "none")
            self._data.close()
            for name, videos in self._videos.items():
                videos.close()
                self._features[IMAGES + name]["info"] = videos.info
            _write_tasks(self._staging / "meta" / "tasks.parquet", self._tasks)
            _write_table(self._staging / EPISODES_PATH, self._rows)
            _write_json(self._staging / "meta" / "info.json", self._info())
            total = {key: merged(parts) for key, parts in self._stats.items()}
            _write_json(self._staging / "meta" / "stats.json", as_lists(total))
            self._staging.chmod(0o755)
            os.rename(self._staging, self._folder)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Removes what was written, unless it is in its place."""
        for videos in self._videos.values():
            videos.abandon()
        self._data.abandon()
        shutil.rmtree(self._staging, ignore_errors=True)

    def _info(self) -> dict[str, Any]:
        layout = self._layout
        return {
            "codebase_version": VERSION,
            "robot_type": layout.robot_type,
            "total_episodes": len(self._rows),
            "total_frames": self._total,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": layout.data_file_mb,
            "video_files_size_in_mb": layout.video_file_mb,
            "fps": layout.fps,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if layout.video else None,
            "features": self._features,
        }


class _DataFiles:
    """data/chunk-*/file-*.parquet, one group of rows per episode."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self._root, self._layout, self._number = root, layout, 0
        self._writer: Any = None
        self._path = root

    def add(self, columns: Mapping[str, npt.NDArray[Any]], images: Mapping[str, Uint8]) -> dict[str, int]:
        pyarrow, parquet = library("pyarrow", "data"), library("pyarrow.parquet", "data")
        arrays = {key: _arrow(values) for key, values in columns.items()}
        if not self._layout.video:
            arrays |= {IMAGES + name: _pictures(pictures) for name, pictures in images.items()}
        table = pyarrow.table(arrays)
        if self._writer is not None and self._path.stat().st_size >= self._layout.data_file_mb << 20:
            self.close()
            self._number += 1
        if self._writer is None:
            self._path = self._root / DATA_PATH.format(**_place(self._number))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)
        return {f"data/{key}": value for key, value in _place(self._number).items()}

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


class _VideoFiles:
    """videos/KEY/chunk-*/file-*.mp4 of one camera, several episodes in each."""

    def __init__(self, root: Path, camera: Camera, layout: Layout) -> None:
        self._root, self._camera, self._layout, self._number = root, camera, layout, 0
        self._writer: VideoWriter | None = None
        self.info: dict[str, Any] = {}

    def add(self, pictures: Uint8) -> dict[str, float]:
        key, fps = IMAGES + self._camera.name, self._layout.fps
        if self._writer is not None and self._writer.bytes >= self._layout.video_file_mb << 20:
            self.close()
            self._number += 1
        if self._writer is None:
            path = self._root / VIDEO_PATH.format(video_key=key, **_place(self._number))
            size = (self._camera.height, self._camera.width)
            self._writer = VideoWriter(path, fps, *size, self._layout.encoding)
        first = self._writer.frames
        for picture in pictures:
            self._writer.add(picture)
        place: dict[str, float] = {f"videos/{key}/{name}": value for name, value in _place(self._number).items()}
        return place | {
            f"videos/{key}/from_timestamp": first / fps,
            f"videos/{key}/to_timestamp": self._writer.frames / fps,
        }

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self.info = self._writer.info()
            self._writer = None

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None


def _place(number: int) -> dict[str, int]:
    return {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}


def _features(layout: Layout) -> dict[str, dict[str, Any]]:
    def vector(names: tuple[str, ...], units: tuple[str, ...]) -> dict[str, Any]:
        feature: dict[str, Any] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
        return feature | ({"units": list(units)} if units else {})

    features = {STATE: vector(layout.state_names, layout.state_units)}
    features[ACTION] = vector(layout.action_names, layout.action_units)
    if layout.executed:
        features[EXECUTED] = vector(layout.action_names, layout.action_units)
    for camera in layout.cameras:
        features[IMAGES + camera.name] = {
            "dtype": "video" if layout.video else "image",
            "shape": [camera.height, camera.width, 3],
            "names": ["height", "width", "channels"],
        }
    return features | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in _INDEX.items()}


def _require_sizes(layout: Layout) -> None:
    """Video wants even sizes, and the AV1 encoder ends the whole process below its least."""
    least = LEAST_AV1 if layout.encoding.codec == "libsvtav1" else 2
    for camera in layout.cameras if layout.video else ():
        size = (camera.height, camera.width)
        if any(pixels % 2 for pixels in size) or min(size) < least:
            expected = f"even and {least} pixels or more, for video by {layout.encoding.codec}"
            _refuse(f"size of {camera.name}", expected, f"{camera.height} x {camera.width}")


def _require_episode(episode: Episode, layout: Layout) -> None:
    ticks = len(episode.state)
    vectors = [("state", episode.state, layout.state_names), ("action", episode.action, layout.action_names)]
    if layout.executed or episode.executed is not None:
        if episode.executed is None or not layout.executed:
            _refuse("executed", "in every episode, when the layout has it", "in some")
        vectors.append(("executed", episode.executed, layout.action_names))
    for name, values, names in vectors:
        if values.shape != (ticks, len(names)) or ticks == 0:
            _refuse(name, f"({ticks or 'T'}, {len(names)}), T > 0", values.shape)
        if not np.isfinite(values).all():
            _refuse(name, "finite numbers", "NaN or infinity")
    if set(episode.images) != {camera.name for camera in layout.cameras}:
        _refuse("images", ", ".join(camera.name for camera in layout.cameras), ", ".join(episode.images))
    for camera in layout.cameras:
        pictures, shape = episode.images[camera.name], (ticks, camera.height, camera.width, 3)
        if pictures.shape != shape or pictures.dtype != np.uint8:
            _refuse(f"images of {camera.name}", f"uint8 {shape}", f"{pictures.dtype} {pictures.shape}")
    if not episode.task:
        _refuse("task", "a sentence", "none")


def _refuse(what: str, expected: object, got: object) -> NoReturn:
    raise BadInput(explain(f"{what} of the dataset to write", expected, got, _WRITE_TODO))


def _arrow(values: npt.NDArray[Any]) -> Any:
    """A column: numbers where there is one per row, else lists of fixed length, as the library wants them."""
    pyarrow = library("pyarrow", "data")
    if values.ndim == 1 or values.shape[1] == 1:
        return pyarrow.array(values.reshape(-1))
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])


def _pictures(pictures: Uint8) -> Any:
    pyarrow = library("pyarrow", "data")
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [{"bytes": encode_png(p), "path": f"frame-{number:06d}.png"} for number, p in enumerate(pictures)]
    return pyarrow.array(rows, kind)


def _write_tasks(path: Path, tasks: list[str]) -> None:
    """The sentences are the index of a pandas table: the library takes them from there."""
    index = "__index_level_0__"
    columns = [("task_index", "task_index", "int64", "int64"), (None, index, "unicode", "object")]
    pandas = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": of, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
            for name, of, kind, numpy in columns
        ],
        "pandas_version": "2.0.0",
    }
    pyarrow = library("pyarrow", "data")
    table = pyarrow.table({"task_index": pyarrow.array(range(len(tasks)), pyarrow.int64()), index: tasks})
    path.parent.mkdir(parents=True, exist_ok=True)
    library("pyarrow.parquet", "data").write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    library("pyarrow.parquet", "data").write_table(library("pyarrow", "data").Table.from_pylist(rows), path)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
