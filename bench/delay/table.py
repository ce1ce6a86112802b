"""From played episodes to shares, paired differences and their intervals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.delay.journal import Cell, Played
from export.evidence.paired import compare, loss_upper_bound, mcnemar_exact

MARGIN = 0.03  # of successes: the goal at GOAL ticks against zero delay
GOAL = Cell("ours", 4)
ZERO = Cell("zero", 0)
Key = tuple[str, int]  # task, seed


def cell_rows(rows: Sequence[Played]) -> dict[Cell, dict[Key, Played]]:
    """Episodes by cell and scene."""
    cells: dict[Cell, dict[Key, Played]] = {}
    for row in rows:
        cells.setdefault(Cell(row.way, row.delay), {})[(row.task, row.seed)] = row
    return cells


def summarise(rows: Sequence[Played]) -> list[dict[str, Any]]:
    """One entry per cell, zero delay first: successes, ticks to success, and the pairs against zero delay."""
    cells = cell_rows(rows)
    zero = cells[ZERO]
    order = sorted(cells, key=lambda cell: (cell != ZERO, cell.delay, cell.way))
    return [_entry(cell, cells[cell], zero) for cell in order]


def _entry(cell: Cell, rows: Mapping[Key, Played], zero: Mapping[Key, Played]) -> dict[str, Any]:
    played = list(rows.values())
    won = [row.success for row in played]
    both = [key for key, row in rows.items() if key in zero and row.success and zero[key].success]
    entry: dict[str, Any] = {
        "way": cell.way,
        "delay": cell.delay,
        "episodes": len(played),
        "successes": sum(won),
        "success": sum(won) / len(won),
        "per_task": per_task(played),
        "ticks_to_success": _median([row.ticks for row in played if row.success]),
        "slower_than_zero": _median([rows[key].ticks / zero[key].ticks for key in both]),
    }
    return entry if cell == ZERO else entry | {"against_zero": paired(zero, rows)}


def per_task(rows: Sequence[Played]) -> dict[str, str]:
    """Successes of episodes, per task."""
    tasks = dict.fromkeys(row.task for row in rows)
    of = {task: [row.success for row in rows if row.task == task] for task in tasks}
    return {task: f"{sum(won)} of {len(won)}" for task, won in of.items()}


def paired(reference: Mapping[Key, Played], candidate: Mapping[Key, Played]) -> dict[str, Any]:
    """The same scenes in both; a positive loss means that the candidate succeeds less often."""
    keys = [key for key in candidate if key in reference]
    found = compare([reference[key].success for key in keys], [candidate[key].success for key in keys])
    return found.as_dict()


def goal(rows: Sequence[Played]) -> dict[str, Any] | None:
    """Is the loss of ours at 4 ticks within 3 points: as counted, and with 95 % confidence? None when not played."""
    cells = cell_rows(rows)
    if GOAL not in cells or ZERO not in cells:
        return None
    keys = [key for key in cells[GOAL] if key in cells[ZERO]]
    found = compare([cells[ZERO][key].success for key in keys], [cells[GOAL][key].success for key in keys])
    upper = loss_upper_bound(found.counts)
    return {
        "margin": MARGIN,
        "loss": found.loss,
        "loss_low95": found.low,
        "loss_high95": found.high,
        "loss_upper95": upper,
        "discordant": found.counts.discordant,
        "pairs": found.counts.pairs,
        "mcnemar_p": mcnemar_exact(found.counts),
        "kept": found.loss <= MARGIN,
        "shown_with_95_percent": upper <= MARGIN,
    }


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
