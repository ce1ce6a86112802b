"""Instructions against what is written down for this interpreter, and the file that it is written in."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.counts import tools
from edgevla.errors import BadInput, Unsound, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUDGET = Path(__file__).parents[1] / "budgets" / "counts.toml"
TOLERANCE = 0.03  # some eight times the largest difference between three runs
_HEAD = """\
# Instructions per call of the pure hot paths (docs: bench/README.md). Written by `edgevla bench counts --update`.
# An interpreter of another version, or another NumPy, executes other instructions: each has a table of its own.

tolerance = {tolerance}
"""


@dataclass(frozen=True)
class Verdict:
    """One path against its budget."""

    path: str
    counted: float | None  # instructions per call; None: the path is gone
    budget: float | None  # None: nothing is written down
    tolerance: float

    @property
    def ratio(self) -> float | None:
        return self.counted / self.budget if self.counted is not None and self.budget else None

    @property
    def kept(self) -> bool | None:
        """None: it cannot be judged."""
        return None if self.ratio is None else self.ratio <= 1.0 + self.tolerance

    @property
    def saved(self) -> bool:
        """So much below its budget that the budget no longer guards it."""
        return self.ratio is not None and self.ratio < 1.0 - self.tolerance


@dataclass(frozen=True)
class Budget:
    """What is written down: instructions per call, by interpreter and path."""

    tolerance: float
    tables: Mapping[str, Mapping[str, Any]]

    def of(self, interpreter: str) -> Mapping[str, float]:
        """Raises Unsound for an interpreter without a table."""
        if interpreter not in self.tables:
            todo = "count there and commit the file: edgevla bench counts --update"
            known = ", ".join(self.tables) or "none"
            raise Unsound(explain("no instruction budget for this interpreter", known, interpreter, todo))
        table: Mapping[str, float] = self.tables[interpreter]["instructions"]
        return table

    def made_with(self, interpreter: str) -> str:
        """What that table was counted with."""
        return str(self.tables.get(interpreter, {}).get("made_with", ""))


def interpreter() -> str:
    """Key of a table: cpython-3.11."""
    return f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}"


def environment() -> str:
    """What decides how many instructions a call has, in words."""
    numpy = metadata.version("numpy")
    return f"Python {platform.python_version()}, numpy {numpy}, {platform.machine()}, {tools.versions()}"


def read(path: Path = BUDGET) -> Budget:
    """Raises BadInput for a file that is none; a missing one is an empty budget."""
    if not path.exists():
        return Budget(TOLERANCE, {})
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        tolerance = float(data.pop("tolerance"))
        numbers = [float(value) for table in data.values() for value in table["instructions"].values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        todo = "restore it from git, or write it anew: edgevla bench counts --update"
        raise BadInput(
            explain(f"{path} is no budget", "a tolerance, and tables of instructions", error, todo)
        ) from None
    if not 0.0 < tolerance < 1.0 or any(number <= 0 for number in numbers):
        raise BadInput(explain(f"{path} is no budget", "0 < tolerance < 1, counts above 0", tolerance, "correct it"))
    return Budget(tolerance, data)


def judge(counted: Mapping[str, float], budget: Mapping[str, float], tolerance: float) -> list[Verdict]:
    """Every path that was counted or is written down, in that order."""
    names = [*counted, *(name for name in budget if name not in counted)]
    return [Verdict(name, counted.get(name), budget.get(name), tolerance) for name in names]


def text(budget: Budget, key: str, counted: Mapping[str, float], made_with: str) -> str:
    """The file with the table of one interpreter replaced."""
    tables = {**budget.tables, key: {"made_with": made_with, "instructions": counted}}
    parts = [_HEAD.format(tolerance=budget.tolerance)]
    for name, table in sorted(tables.items()):
        rows = [f'"{path}" = {round(number)}' for path, number in table["instructions"].items()]
        parts.append(f'\n["{name}"]\nmade_with = "{table["made_with"]}"\n\n["{name}".instructions]\n')
        parts.append("\n".join(rows) + "\n")
    return "".join(parts)
