"""From the results of the cells to one table: success with an interval over seeds, and who may be called better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevla.telemetry.stats import wilson_interval
from export.study.cells import KINDS, VARIANTS

SCHEMA = "edgevla.structures/1"
FULL_SEEDS, FULL_PAIRS = 3, 300
RESAMPLES = 4_000
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # t at 97.5 %, 1 to 9 degrees of freedom
Result = Mapping[str, Any]


def rows_of(results: Sequence[Result], costs: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row for each kind and variant that has a result. costs: kind -> p50_ms, p99_ms, rss_mb."""
    rows = []
    for variant in VARIANTS:
        for kind in KINDS:
            mine = [r for r in results if r["cell"]["kind"]["name"] == kind.name and r["cell"]["variant"] == variant]
            if not mine:
                continue
            success = np.array([r["success"] for r in mine], bool)
            low, high = interval(success)
            rows.append({
                "structure": kind.name, "head": kind.head, "history": kind.window, "tasks": variant,
                "parameters": mine[0]["parameters"], "success": float(success.mean()), "success_ci": [low, high],
                "seeds": len(mine), "pairs": success.shape[1], "frames": mine[0]["frames"],
                "train_s": float(np.mean([r["train_s"] for r in mine])), **costs.get(kind.name, {}),
            })  # fmt: skip
    return rows


def interval(success: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """95 % of the mean success (seeds, episodes). Of one seed: over episodes alone, which says nothing of another."""
    seeds, episodes = success.shape
    if seeds == 1:
        return wilson_interval(int(success.sum()), episodes)
    low, high = interval_of_mean(success.astype(np.float64))
    return max(low, 0.0), min(high, 1.0)


def interval_of_mean(values: npt.NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """95 % of the mean of (seeds, episodes), the episodes the same for every seed: the wider of two.

    Drawn again: seeds first, then episodes of all of them. Few seeds drawn again can't leave their own range, so also
    Student's t over the seeds' means.
    """
    seeds, episodes = values.shape
    rng = np.random.default_rng(seed)
    picked = values[rng.integers(seeds, size=(RESAMPLES, seeds))]
    where = rng.integers(episodes, size=(RESAMPLES, 1, episodes))
    means = np.take_along_axis(picked, np.broadcast_to(where, picked.shape), axis=2).mean((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    if seeds == 1:
        return float(low), float(high)
    half = STUDENT[min(seeds - 1, len(STUDENT)) - 1] * values.mean(1).std(ddof=1) / np.sqrt(seeds)
    mean = values.mean()
    return float(min(low, mean - half)), float(max(high, mean + half))


def conclusions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What may be said: who is above all others without overlap, else that nobody is. One seed ranks nothing."""
    said = []
    for variant in VARIANTS:
        mine = sorted((r for r in rows if r["tasks"] == variant), key=lambda r: -r["success"])
        if len(mine) < 2:
            continue
        seeds, pairs = min(r["seeds"] for r in mine), min(r["pairs"] for r in mine)
        if seeds < FULL_SEEDS or pairs < FULL_PAIRS:
            said.append(f"{variant} tasks: {seeds} seed(s), {pairs} episodes: no ranking is claimed")
            continue
        best, second = mine[0], max(mine[1:], key=lambda r: r["success_ci"][1])
        if best["success_ci"][0] > second["success_ci"][1]:
            said.append(f"{variant} tasks: {best['structure']} is above all others, without overlap")
            continue
        level = [r["structure"] for r in mine if r["success_ci"][1] >= best["success_ci"][0]]
        said.append(f"{variant} tasks: no winner; the intervals of {', '.join(level)} overlap")
    return said


COLUMNS = ("structure", "tasks", "success", "95 %", "seeds x episodes", "parameters", "p50 ms", "p99 ms", "MB")


def table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows as people read them."""
    return [
        [
            row["structure"], row["tasks"], f"{100 * row['success']:.1f} %",
            f"{100 * row['success_ci'][0]:.1f} to {100 * row['success_ci'][1]:.1f}",
            f"{row['seeds']} x {row['pairs']}", f"{row['parameters']:,}",
            *(f"{row[key]:.2f}" if key in row else "-" for key in ("p50_ms", "p99_ms")),
            f"{row['rss_mb']:.0f}" if "rss_mb" in row else "-",
        ]
        for row in rows
    ]  # fmt: skip
