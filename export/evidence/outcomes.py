"""Outcomes of episodes as parquet: raw evidence from which every figure is recomputed.

A file grows by whole parts: it is written beside itself, flushed to the disk and renamed, so a reader, and a run that
goes on after a kill, sees all of a part or none of it. Every row names its policy by what decides its answers
(`PolicySpec.identity`): rows of a policy that is no longer the one asked about are kept, and never taken for its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from edgevla.sim.lockstep import Episode
from export.evidence.rollouts import Played, PolicySpec, stream
from export.extras import library

SCHEMA = "edgevla.outcomes/1"
SAVE_EVERY = 60  # episodes in a part
COLUMNS = {  # name -> (arrow type, may be null)
    "policy": ("string", False),
    "task": ("string", False),
    "half_way": ("bool", False),
    "seed": ("int64", False),
    "instruction": ("string", False),
    "success": ("bool", False),
    "ticks": ("int32", False),
    "inferences": ("int32", False),
    "opened_m": ("float64", False),
    "wall_s": ("float64", True),
}


@dataclass(frozen=True)
class Row:
    """One played episode.

    policy: what played it, see `PolicySpec.identity`.
    wall_s: how long playing took on its host; None where it was not recorded.
    """

    policy: str
    episode: Episode
    success: bool
    ticks: int
    inferences: int
    opened_m: float
    wall_s: float | None = None


def play_recorded(
    spec: PolicySpec,
    episodes: Sequence[Episode],
    path: Path,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
    ray: str | None = None,
) -> list[Row]:
    """Rows of the episodes in their order; those that this policy has already played are taken from the file.

    Args:
        ray: None for a pool of processes, else see `export.evidence.rollouts.stream`.
    """
    policy = spec.identity()
    rows = {row.episode: row for row in (read_rows(path) if path.exists() else []) if row.policy == policy}
    missing = [episode for episode in episodes if episode not in rows]
    waiting: list[Row] = []
    done = len(episodes) - len(missing)
    try:
        for batch in stream(spec, missing, workers, ray) if missing else ():
            waiting += [_played(policy, missing[len(waiting) + k], played) for k, played in enumerate(batch)]
            progress(done + len(waiting))
            if len(waiting) >= SAVE_EVERY:
                append_rows(path, waiting)
                rows |= {row.episode: row for row in waiting}
                done, missing, waiting = done + len(waiting), missing[len(waiting) :], []
    finally:  # Ctrl-C and the end alike: nothing that was played is lost
        if waiting:
            append_rows(path, waiting)
    rows |= {row.episode: row for row in waiting}
    return [rows[episode] for episode in episodes]


def _played(policy: str, episode: Episode, played: Played) -> Row:
    o = played.outcome
    return Row(policy, episode, o.success, o.ticks, o.inferences, o.opened_m, played.wall_s)


def recorded(path: Path, episodes: Sequence[Episode]) -> list[Row]:
    """Rows of the episodes as the file has them, whichever policy played them; the newest where there are several.

    Raises:
        BadInput: an episode is not in the file, or they were not all played by one policy.
    """
    rows = {row.episode: row for row in read_rows(path)}
    missing = [episode for episode in episodes if episode not in rows]
    if missing:
        got = f"{len(missing)} missing, the first {missing[0].task} seed {missing[0].seed}"
        raise BadInput(explain(f"outcomes in {path.name}", f"{len(episodes)} episodes", got, "play them first"))
    found = [rows[episode] for episode in episodes]
    if len(policies := {row.policy for row in found}) > 1:
        raise BadInput(
            explain(f"outcomes in {path.name}", "one policy", sorted(policies), "play the rest with one of them")
        )
    return found


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Adds the rows to the file, all or none."""
    write_rows(path, [*(read_rows(path) if path.exists() else []), *rows])


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes the file whole or not at all. Raises BadInput: no room, or no right to."""
    parquet = library("pyarrow.parquet", "data")
    arrow = library("pyarrow", "data")
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            parquet.write_table(arrow.Table.from_pylist([_values(row) for row in rows], _schema(arrow)), stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        todo = "free space, or pass another folder; the same command goes on"
        raise BadInput(explain(f"outcomes in {path}", "room for them", error, todo)) from error


def read_rows(path: Path) -> list[Row]:
    """Reads the file.

    Raises:
        BadInput: it cannot be read, has other columns, or a value is missing.
    """
    parquet, arrow = library("pyarrow.parquet", "data"), library("pyarrow", "data")
    if not path.exists():
        raise BadInput(explain(f"outcomes in {path}", "episodes that were played", "no such file", "play them first"))
    try:
        with path.open("rb") as stream:
            table = parquet.read_table(stream)
        if not table.schema.equals(_schema(arrow), check_metadata=True):
            raise ValueError(f"columns {table.schema.names}, schema {table.schema.metadata}")
        table.validate(full=True)
        if any(table[name].null_count for name, (_, nullable) in COLUMNS.items() if not nullable):
            raise ValueError("a value is missing")
    except (OSError, ValueError, arrow.ArrowException) as error:
        expected = f"{SCHEMA} in {path.name}, columns {', '.join(COLUMNS)}"
        raise BadInput(
            explain("episode outcomes", expected, error, "delete it, or take it from where it is")
        ) from error
    return [_row(values) for values in table.to_pylist()]


def _schema(arrow: Any) -> Any:
    types = {"string": arrow.string(), "bool": arrow.bool_(), "int64": arrow.int64(), "int32": arrow.int32()}
    types["float64"] = arrow.float64()
    fields = [arrow.field(name, types[kind], nullable) for name, (kind, nullable) in COLUMNS.items()]
    return arrow.schema(fields, metadata={"edgevla": SCHEMA})


def _values(row: Row) -> dict[str, Any]:
    e = row.episode
    return {name: getattr(row if hasattr(row, name) else e, name) for name in COLUMNS}


def _row(values: dict[str, Any]) -> Row:
    episode = Episode(values["task"], values["seed"], values["instruction"], values["half_way"])
    rest = {name: values[name] for name in COLUMNS if not hasattr(episode, name)}
    return Row(episode=episode, **rest)


def share(rows: Sequence[Row]) -> float:
    """Share of successes."""
    return sum(row.success for row in rows) / len(rows)
