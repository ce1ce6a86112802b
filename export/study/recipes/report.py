"""From the results of the cells to one table: success, and the paired difference to the robot's own data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.study.recipes.cells import DEMONSTRATIONS, IN_DOMAIN, RECIPES
from export.study.report import FULL_SEEDS, interval, interval_of_mean

SCHEMA = "edgevla.recipes/1"
LEAST_PAIRS = 100  # episodes of each cell, for anything to be said
Result = Mapping[str, Any]
Success = npt.NDArray[np.bool_]  # (seeds, episodes)


def rows_of(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each recipe and number of demonstrations with a result; differences where the seeds are the same."""
    rows = []
    for few in DEMONSTRATIONS:
        found = {recipe: _success(results, recipe, few) for recipe in RECIPES}
        for recipe, mine in found.items():
            if not mine.size:
                continue
            low, high = interval(mine)
            row = {"recipe": recipe, "demonstrations": few, "seeds": len(mine), "pairs": mine.shape[1],
                   "success": float(mine.mean()), "success_ci": [low, high]}  # fmt: skip
            base = found[IN_DOMAIN]
            if recipe != IN_DOMAIN and _seeds(results, recipe, few) == _seeds(results, IN_DOMAIN, few):
                row |= {"gain": float(mine.mean() - base.mean()), "gain_ci": list(paired_interval(mine, base))}
            rows.append(row)
    return rows


def _seeds(results: Sequence[Result], recipe: str, few: int) -> list[int]:
    mine = [r["cell"] for r in results]
    return sorted(c["seed"] for c in mine if (c["recipe"], c["demonstrations"]) == (recipe, few))


def _success(results: Sequence[Result], recipe: str, few: int) -> Success:
    mine = [r for r in results if (r["cell"]["recipe"], r["cell"]["demonstrations"]) == (recipe, few)]
    return np.array([r["success"] for r in sorted(mine, key=lambda r: r["cell"]["seed"])], bool)


def paired_interval(mine: Success, base: Success) -> tuple[float, float]:
    """95 % of the mean difference on the same episodes; see `interval_of_mean`."""
    return interval_of_mean(mine.astype(np.float64) - base)


def conclusions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What may be said of each difference: its sign where the interval leaves 0 out, else nothing."""
    said = []
    for row in rows:
        if "gain" not in row:
            continue
        low, high = row["gain_ci"]
        amount = f"{100 * row['gain']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        what = f"{row['recipe']} with {told(row['demonstrations'])}: {amount} against {IN_DOMAIN}"
        if row["seeds"] < FULL_SEEDS or row["pairs"] < LEAST_PAIRS:
            verdict = f"{row['seeds']} seed(s), {row['pairs']} episodes: nothing is claimed"
        elif low <= 0 <= high:
            verdict = "no difference is shown"
        else:
            verdict = "better" if low > 0 else "worse"
        said.append(f"{what}: {verdict}")
    return said


def told(demonstrations: int) -> str:
    return f"{demonstrations} demonstrations a task" if demonstrations else "all demonstrations"


COLUMNS = ("recipe", "data", "success", "95 %", "against in-domain", "95 %", "seeds x episodes")


def table(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows as people read them; success in %, differences in points."""
    return [
        [
            row["recipe"], told(row["demonstrations"]), f"{100 * row['success']:.1f} %",
            _range(row["success_ci"], ".1f"),
            f"{100 * row['gain']:+.1f}" if "gain" in row else "-",
            _range(row["gain_ci"], "+.1f") if "gain" in row else "-", f"{row['seeds']} x {row['pairs']}",
        ]
        for row in rows
    ]  # fmt: skip


def _range(ends: Sequence[float], form: str) -> str:
    return " to ".join(format(100 * end, form) for end in ends)
