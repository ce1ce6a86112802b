"""One line of JSON per episode, appended as it ends: a run that is stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgevla.errors import BadInput, explain


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
    def key(self) -> tuple[str, int, str, int]:
        return self.way, self.delay, self.task, self.seed


def append(path: Path, rows: Iterable[Played]) -> None:
    """Adds the rows, flushed to the file before it returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    with path.open("a") as stream:
        stream.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def read(path: Path, policy: str) -> list[Played]:
    """The rows of that policy; none when there is no file. A last line torn by a kill does not count.

    Raises:
        BadInput: a whole line is no episode.
    """
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [row for number, line in enumerate(lines, 1) if (row := _row(path, number, line)).policy == policy]


def _row(path: Path, number: int, line: str) -> Played:
    try:
        return Played(**json.loads(line))
    except (ValueError, TypeError) as error:
        where, todo = f"{path.name}, line {number}", "delete that line, or the file: it is played again"
        raise BadInput(explain(where, "one episode", str(error)[:200], todo)) from error


def _drop_torn_line(path: Path) -> None:
    """A kill inside a write leaves a line without its end: the next one must not be glued to it."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        whole = stream.read().rfind(b"\n") + 1
        stream.truncate(whole)
