"""Budgets: limits written down beforehand, and the verdict of a report against them. Missing is never met."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEMO = Path(__file__).with_name("demo.toml")
_KEYS = {"name", "key", "sense", "limit", "unit"}


@dataclass(frozen=True)
class Budget:
    """One limit: the number at ``key`` (divided by the one at ``over``) is ``sense`` than ``limit``."""

    name: str
    key: str
    sense: str
    limit: float
    unit: str
    over: str | None = None


@dataclass(frozen=True)
class Verdict:
    """``kept`` is None when the report lacks the number."""

    budget: Budget
    value: float | None
    kept: bool | None


def load_budgets(path: Path = DEMO) -> tuple[Budget, ...]:
    """Read a budget file; BadInput on unknown or absent keys."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("budget", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadInput(explain(f"cannot read budgets {path}", "a TOML file", error, "see bench/budgets")) from None
    for entry in entries:
        if not _KEYS <= set(entry) <= _KEYS | {"over"} or entry["sense"] not in ("at_most", "at_least"):
            wanted = f"{sorted(_KEYS)}, sense at_most or at_least"
            raise BadInput(explain(f"{path}: bad budget", wanted, entry, "see bench/budgets/demo.toml"))
    return tuple(Budget(**entry) for entry in entries)


def check_budgets(report: Mapping[str, Any], budgets: tuple[Budget, ...] | None = None) -> tuple[Verdict, ...]:
    """Judge every budget against the numbers of one report."""
    return tuple(_judge(report, budget) for budget in (load_budgets() if budgets is None else budgets))


def _judge(report: Mapping[str, Any], budget: Budget) -> Verdict:
    value = _number(report, budget.key)
    if budget.over is not None:
        below = _number(report, budget.over)
        value = None if value is None or not below else value / below
    if value is None:
        return Verdict(budget, None, None)
    kept = value <= budget.limit if budget.sense == "at_most" else value >= budget.limit
    return Verdict(budget, value, kept)


def _number(report: Mapping[str, Any], path: str) -> float | None:
    # Imported here: bench.report shows the budgets, so it imports this module.
    from bench.report.data import number

    return number(report, path)
