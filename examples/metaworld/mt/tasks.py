"""Meta-World's ten (MT10) or fifty (MT50) tasks: how hard they are, and what people say for them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from edgevla.sim.names import ALL_TASKS
from examples.metaworld.instructions import WORDINGS, Wording, sentences

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Which = Literal["mt10", "mt50"]
SETS: tuple[Which, ...] = ("mt10", "mt50")
DIFFICULTIES = ("easy", "medium", "hard", "very hard")
_FILE = Path(__file__).with_name("tasks.toml")


@dataclass(frozen=True)
class MtTask:
    """A task and its sentences; each word of a held-out one is in some sentence that the set trains on."""

    name: str
    difficulty: str  # easy | medium | hard | very hard, as published
    train: tuple[str, ...]
    held_out: tuple[str, ...]


def tasks(which: Which) -> tuple[MtTask, ...]:
    """The tasks of the set, in Meta-World's order."""
    found, ten = _read()
    return tuple(found[name] for name in (ten if which == "mt10" else ALL_TASKS))


def vocabulary(which: Which) -> list[str]:
    """All words of all sentences of the set, sorted."""
    return sorted({word for task in tasks(which) for text in task.train + task.held_out for word in text.split()})


def words(which: Which) -> dict[str, dict[str, tuple[str, ...]]]:
    """The sentences of each task, as dataset.json holds them."""
    return {task.name: {"train": task.train, "held_out": task.held_out} for task in tasks(which)}


@cache
def _read() -> tuple[dict[str, MtTask], tuple[str, ...]]:
    table = tomllib.loads(_FILE.read_text())
    return {entry["name"]: _task(entry) for entry in table["task"]}, tuple(table["mt10"])


def _task(entry: dict[str, Any]) -> MtTask:
    said = WORDINGS.get(entry["name"]) or Wording(sentences(entry["train"]), sentences(entry["held_out"]))
    return MtTask(entry["name"], entry["difficulty"], said.train, said.held_out)
