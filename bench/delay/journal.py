"""One row per episode in a parquet file that grows by whole batches: a run that is stopped goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from export.extras import library

SCHEMA = "edgevla.delay/1"
COLUMNS = {
    "policy": "string",
    "way": "string",
    "delay": "int8",
    "task": "string",
    "seed": "int32",
    "success": "bool",
    "ticks": "int16",
    "inferences": "int16",
    "wall_s": "float32",
}
Key = tuple[str, str, int, str, int]  # policy, way, delay, task, seed


@dataclass(frozen=True)
class Cell:
    """One way at one delay (ticks)."""

    way: str
    delay: int


@dataclass(frozen=True)
class Played:
    """One episode of one cell. `policy` says by hash what answered; `wall_s` is no result, only a cost."""

    policy: str
    way: str
    delay: int
    task: str
    seed: int
    success: bool
    ticks: int
    inferences: int
    wall_s: float

    @property
    def key(self) -> Key:
        return self.policy, self.way, self.delay, self.task, self.seed


def write(path: Path, rows: Sequence[Played]) -> None:
    """Writes the file whole or not at all."""
    parquet, arrow = library("pyarrow.parquet", "data"), library("pyarrow", "data")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".rows.part")
    with temporary.open("wb") as stream:
        parquet.write_table(arrow.Table.from_pylist([asdict(row) for row in rows], _schema(arrow)), stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def read(path: Path) -> list[Played]:
    """All rows; none when there is no file.

    Raises:
        BadInput: it cannot be read, has other columns, or a value is missing.
    """
    if not path.exists():
        return []
    parquet, arrow = library("pyarrow.parquet", "data"), library("pyarrow", "data")
    try:
        with path.open("rb") as stream:
            table = parquet.read_table(stream)
        if not table.schema.equals(_schema(arrow), check_metadata=True):
            raise ValueError(f"columns {table.schema.names}, schema {table.schema.metadata}")
        if any(table[name].null_count for name in COLUMNS):
            raise ValueError("a value is missing")
    except (OSError, ValueError, arrow.ArrowException) as error:
        expected, todo = f"{SCHEMA}, columns {', '.join(COLUMNS)}", "delete it: it is played again"
        raise BadInput(explain(f"episodes in {path.name}", expected, str(error)[:300], todo)) from error
    return [Played(**values) for values in table.to_pylist()]


def _schema(arrow: Any) -> Any:
    kinds = {"string": arrow.string(), "bool": arrow.bool_(), "float32": arrow.float32()}
    kinds |= {"int8": arrow.int8(), "int16": arrow.int16(), "int32": arrow.int32()}
    fields = [arrow.field(name, kinds[kind], nullable=False) for name, kind in COLUMNS.items()]
    return arrow.schema(fields, metadata={"edgevla": SCHEMA})
