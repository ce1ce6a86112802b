"""Outcomes of episodes as CSV: raw evidence that a person can read, and from which every figure is recomputed."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevla.errors import BadInput, explain
from edgevla.sim.lockstep import Episode
from export.evidence.rollouts import PolicySpec, play_all

FIELDS = ("task", "half_way", "seed", "instruction", "success", "ticks", "inferences", "opened_m")
SAVE_EVERY = 60  # episodes


@dataclass(frozen=True)
class Row:
    """One played episode."""

    episode: Episode
    success: bool
    ticks: int
    inferences: int
    opened_m: float


def play_recorded(
    spec: PolicySpec,
    episodes: Sequence[Episode],
    path: Path,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Row]:
    """Rows of the episodes in their order; those already in the CSV are not played again."""
    rows = {row.episode: row for row in read_rows(path)} if path.exists() else {}
    missing = [episode for episode in episodes if episode not in rows]
    for start in range(0, len(missing), SAVE_EVERY):
        part = missing[start : start + SAVE_EVERY]
        outcomes = play_all(spec, part, workers)
        for episode, outcome in zip(part, outcomes, strict=True):
            rows[episode] = Row(episode, outcome.success, outcome.ticks, outcome.inferences, outcome.opened_m)
        write_rows(path, list(rows.values()))
        progress(len(episodes) - len(missing) + start + len(part))
    return [rows[episode] for episode in episodes]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes the CSV whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(FIELDS)
        for row in rows:
            e = row.episode
            flags = (e.task, int(e.half_way), e.seed, e.instruction, int(row.success))
            writer.writerow((*flags, row.ticks, row.inferences, f"{row.opened_m:.4f}"))
    os.replace(temporary, path)


def read_rows(path: Path) -> list[Row]:
    """Reads the CSV.

    Raises:
        BadInput: other columns, or a value that is none.
    """
    try:
        with path.open(newline="") as stream:
            return [_row(values) for values in csv.DictReader(stream)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadInput(
            explain("episode outcomes", f"columns {FIELDS} in {path.name}", str(error), "delete it")
        ) from error


def _row(values: dict[str, str]) -> Row:
    episode = Episode(values["task"], int(values["seed"]), values["instruction"], values["half_way"] == "1")
    return Row(
        episode, values["success"] == "1", int(values["ticks"]), int(values["inferences"]), float(values["opened_m"])
    )


def share(rows: Sequence[Row]) -> float:
    """Share of successes."""
    return sum(row.success for row in rows) / len(rows)
