"""`meta/` of a LeRobotDataset v3.0: what is recorded, where its files are, which rows are which episode."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from edgevla.bundle.schema import JsonTable, parse_json
from edgevla.errors import BadInput, explain
from export.data.interface import Camera, Int64, numbered
from export.extras import library

VERSION = "v3.0"
IMAGES = "observation.images."
_VIDEO_COLUMNS = ("chunk_index", "file_index", "from_timestamp")
STATE, ACTION, EXECUTED = "observation.state", "action", "executed"
WHOLE = "get the dataset again whole, or record it again"
_CONVERT = (
    "convert a copy with LeRobot: python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 "
    "--repo-id=NAME --root=FOLDER --push-to-hub=false"
)


class _Table(JsonTable):
    todo: ClassVar[str] = WHOLE


@dataclass(frozen=True)
class Vector:
    """A feature of numbers."""

    key: str
    names: tuple[str, ...]
    units: tuple[str, ...]  # empty where the recorder gave none


@dataclass(frozen=True)
class Info:
    """meta/info.json."""

    fps: float
    total_episodes: int
    total_frames: int
    data_path: str
    video_path: str | None
    state: Vector
    action: Vector
    executed: Vector | None
    cameras: tuple[Camera, ...]
    keys: Mapping[str, str]  # camera -> feature
    in_video: Mapping[str, bool]  # by camera; else pictures in parquet


@dataclass(frozen=True)
class Episodes:
    """meta/episodes: one row per episode, in order."""

    first: Int64  # row of the dataset, (E,)
    end: Int64
    data: tuple[Path, ...]  # file of each episode, (E,)
    video: Mapping[str, tuple[Path, ...]]  # by camera
    from_s: Mapping[str, npt.NDArray[np.float64]]  # time of the first frame in that file


def read_info(folder: Path) -> Info:
    """Raises BadInput: no dataset, another version, features that are not those of a robot."""
    path = folder / "meta" / "info.json"
    try:
        raw = path.read_bytes()
    except OSError as error:
        expected = "a LeRobotDataset folder with meta/info.json"
        raise BadInput(explain(f"dataset {folder}", expected, str(error), "check the path")) from error
    table = _Table(str(path), parse_json(raw, str(path)))
    version = table.text("codebase_version")
    if version != VERSION:
        older = version.startswith(("v1.", "v2.", "1.", "2."))
        table.fail("codebase_version", VERSION, version, _CONVERT if older else "read it with a newer edgevla")
    features = table.raw("features", "a table")
    if not isinstance(features, dict):
        table.fail("features", "a table", features)
    cameras = [key for key in features if _is_picture(features[key])]
    return Info(
        fps=table.number("fps", 1e-3, 1e5),
        total_episodes=_some(table, "total_episodes"),
        total_frames=_some(table, "total_frames"),
        data_path=_template(table, "data_path"),
        video_path=_template(table, "video_path") if any(features[k]["dtype"] == "video" for k in cameras) else None,
        state=_vector(path, features, STATE, "state"),
        action=_vector(path, features, ACTION, "action"),
        executed=_vector(path, features, EXECUTED, "action") if EXECUTED in features else None,
        cameras=tuple(_camera(path, key, features[key]) for key in cameras),
        keys={camera_name(key): key for key in cameras},
        in_video={camera_name(key): features[key]["dtype"] == "video" for key in cameras},
    )


def camera_name(key: str) -> str:
    """`top` of observation.images.top, `image` of observation.image."""
    return key.removeprefix(IMAGES).removeprefix("observation.")


def _is_picture(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("dtype") in ("image", "video")


def _some(table: _Table, key: str) -> int:
    count = table.whole(key, 0, 10**12)
    if count == 0:
        table.fail(key, "one or more", "0: nothing is recorded", "record episodes first")
    return count


def _template(table: _Table, key: str) -> str:
    """A path with {chunk_index}, {file_index}, {video_key} inside the folder, and no other field."""
    text = table.text(key)
    allowed = {"chunk_index", "file_index", "video_key"}
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
    except ValueError:
        fields = {"?"}
    if not fields <= allowed or ".." in Path(text).parts or Path(text).is_absolute():
        table.fail(key, f"a relative path with {', '.join(sorted(allowed))} only", text)
    return text


def _vector(path: Path, features: Mapping[str, Any], key: str, kind: str) -> Vector:
    if key not in features:
        what, got = f"{path}: feature {key}", f"only {', '.join(features)}"
        raise BadInput(explain(what, f"a feature named {key}", got, "record it, or rename the feature"))
    table = _Table(f"{path}: feature {key}", features[key])
    table.text("dtype", ("float32", "float64", "float16", "int64", "int32"))
    shape = table.raw("shape", "[n]")
    if not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] < 1:
        table.fail("shape", "[n], n numbers", shape)
    units = features[key].get("units")
    sound = isinstance(units, list) and len(units) == shape[0] and all(isinstance(unit, str) for unit in units)
    return Vector(key, _names(features[key].get("names"), shape[0], kind), tuple(units) if sound else ())


def _names(names: Any, count: int, kind: str) -> tuple[str, ...]:
    """Names of the numbers; recorders leave a list, a table with one list, or nothing."""
    if isinstance(names, dict) and len(names) == 1:
        names = next(iter(names.values()))
    if isinstance(names, list) and len(names) == count and all(isinstance(name, str) and name for name in names):
        return tuple(names)
    return numbered(kind, count)


def _camera(path: Path, key: str, feature: Any) -> Camera:
    table = _Table(f"{path}: feature {key}", feature)
    table.text("dtype", ("video", "image"))
    shape = table.raw("shape", "[height, width, 3]")
    sound = isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and 0 < n < 2**16 for n in shape)
    names = feature.get("names") or []
    if sound and shape[0] == 3 and shape[2] != 3 and list(names)[:1] in (["channels"], ["channel"]):
        shape = [shape[1], shape[2], 3]  # older recorders put the channels first
    if not sound or shape[2] != 3:
        table.fail("shape", "[height, width, 3]: three colours", shape)
    return Camera(camera_name(key), shape[0], shape[1])


def read_tasks(folder: Path) -> list[str]:
    """Sentences by task number. Raises BadInput."""
    path = folder / "meta" / "tasks.parquet"
    table = read_parquet(path)
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(texts) != 1:
        _bad(path, "columns task_index and one of texts", ", ".join(table.column_names))
    numbers, sentences = table["task_index"].to_pylist(), table[texts[0]].to_pylist()
    if sorted(numbers) != list(range(len(numbers))) or not all(isinstance(s, str) and s for s in sentences):
        _bad(path, "task_index 0, 1, 2, ... each with a sentence", str(dict(zip(numbers, sentences, strict=True))))
    return [sentence for _, sentence in sorted(zip(numbers, sentences, strict=True))]


def read_episodes(folder: Path, info: Info) -> Episodes:
    """Raises BadInput: an episode that is missing, or rows that do not follow one another."""
    paths = sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
    if not paths:
        _bad(folder / "meta" / "episodes", "chunk-*/file-*.parquet", "none")
    videos = {name: f"videos/{key}" for name, key in info.keys.items() if info.in_video[name]}
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    columns += ["dataset_from_index", "dataset_to_index"]
    columns += [f"{key}/{column}" for key in videos.values() for column in _VIDEO_COLUMNS]
    parts = [(read_parquet(path, columns), path) for path in paths]
    table = {name: np.concatenate([numbers(part, name, path) for part, path in parts]) for name in columns}
    order = np.argsort(table["episode_index"], kind="stable")
    table = {name: values[order] for name, values in table.items()}
    _require_episodes(folder / "meta" / "episodes", table, info)
    return Episodes(
        first=table["dataset_from_index"].astype(np.int64),
        end=table["dataset_to_index"].astype(np.int64),
        data=_files(folder, info.data_path, table, "data"),
        video={
            name: _files(folder, info.video_path or "", table, key, info.keys[name]) for name, key in videos.items()
        },
        from_s={name: table[f"{key}/from_timestamp"].astype(np.float64) for name, key in videos.items()},
    )


def _require_episodes(where: Path, table: Mapping[str, npt.NDArray[Any]], info: Info) -> None:
    number, first, end = table["episode_index"], table["dataset_from_index"], table["dataset_to_index"]
    if not np.array_equal(number, np.arange(info.total_episodes)):
        missing = sorted(set(range(info.total_episodes)) - set(number.tolist()))
        got = f"{len(number)} rows, missing {missing[:10]}" if missing else f"{len(number)} rows"
        _bad(where, f"episodes 0 to {info.total_episodes - 1}, each once, as info.json says", got)
    follow = np.array_equal(first, np.append(0, end[:-1])) and np.array_equal(end - first, table["length"])
    if not follow or end[-1] != info.total_frames or (end <= first).any():
        expected = f"episodes that follow one another over {info.total_frames} rows, each with its length"
        _bad(where, expected, f"dataset_from_index {first[:8]}, dataset_to_index {end[:8]}, last {end[-1]}")


def _files(
    folder: Path, template: str, table: Mapping[str, npt.NDArray[Any]], prefix: str, key: str = ""
) -> tuple[Path, ...]:
    """The file of each episode. Raises BadInput where one is not there."""
    places = zip(table[f"{prefix}/chunk_index"], table[f"{prefix}/file_index"], strict=True)
    names = [template.format(chunk_index=int(c), file_index=int(f), video_key=key) for c, f in places]
    for name in dict.fromkeys(names):
        if not (folder / name).is_file():
            episodes = [number for number, other in enumerate(names) if other == name]
            _bad(folder / name, f"the file of episodes {episodes[0]} to {episodes[-1]}", "no such file")
    return tuple(folder / name for name in names)


def read_stats(folder: Path) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """meta/stats.json: feature -> mean, std, min, max, count, q01, ... Raises BadInput."""
    path = folder / "meta" / "stats.json"
    try:
        stats = parse_json(path.read_bytes(), str(path))
        return {feature: {name: np.array(v, np.float64) for name, v in of.items()} for feature, of in stats.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(explain(f"statistics {path}", "feature -> statistic -> numbers", str(error), WHOLE)) from error


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> Any:
    """A pyarrow table. Raises BadInput: no parquet (a pickle, say), or a column that is not there."""
    parquet = library("pyarrow.parquet", "data")
    arrow_error = library("pyarrow", "data").ArrowException
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            present = file.schema_arrow.names
            missing = [name for name in columns or () if name not in present]
            if missing:
                _bad(path, f"columns {', '.join(columns or ())}", f"no {', '.join(missing)}")
            return file.read(columns=list(columns) if columns else None)
    except (OSError, arrow_error) as error:
        raise BadInput(explain(f"parquet file {path}", "a whole parquet file", str(error), WHOLE)) from error


def numbers(table: Any, name: str, path: Path) -> npt.NDArray[Any]:
    column = table[name]
    if column.null_count:
        _bad(path, f"a number in every row of {name}", f"{column.null_count} rows without")
    values: npt.NDArray[Any] = column.to_numpy()
    if values.dtype.kind not in "iuf":
        _bad(path, f"numbers in {name}", str(column.type))
    return values


def _bad(where: Path, expected: str, got: str) -> NoReturn:
    raise BadInput(explain(f"dataset file {where}", expected, got, WHOLE))
