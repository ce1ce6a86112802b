"""Budget files of the guard: limits written down before the run, read strictly.

schema = "edgevla.guard-budget/1"
[sound]
stolen_share = 0.02
[[stage]]
name = "policy"
quantile = 0.999
limit_us = 25000
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain
from profiles.keys import line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "edgevla.guard-budget/1"
CONFIDENCE = 0.99
TODO = "see bench/budgets/guard-host.toml"
_HIGHEST_US = 3.6e9

Place = tuple[str | int, ...]  # of a table in a file


@dataclass(frozen=True)
class Limit:
    """The quantile of a stage (`graph:*`: of each that fits) is at most `limit_us`, at that confidence."""

    name: str
    quantile: float
    limit_us: float
    confidence: float = CONFIDENCE


@dataclass(frozen=True)
class Soundness:
    """What a run may suffer before it says nothing."""

    stolen_share: float = 0.01  # of the time of one core
    real_time: bool = True  # SCHED_FIFO and locked memory are granted


@dataclass(frozen=True)
class Budget:
    """Limits, in the order of the file; none: nothing but the timing contract is judged."""

    limits: tuple[Limit, ...] = ()
    sound: Soundness = field(default_factory=Soundness)

    def of(self, stage: str) -> list[Limit]:
        """Limits of that stage."""
        return [limit for limit in self.limits if fnmatchcase(stage, limit.name)]


def load_budget(path: Path, stages: tuple[str, ...]) -> Budget:
    """The budget of a policy with those stages. Raises BadInput that names file, line and key."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(explain(f"cannot read the budget {path}", "a TOML file", error, TODO)) from None
    reader = _Reader(path, text)
    reader.keys(data, (), {"schema", "sound", "stage"})
    if data.get("schema") != SCHEMA:
        raise reader.error((), "schema", repr(SCHEMA), data.get("schema"))
    limits = tuple(_limit(reader, entry, at, stages) for at, entry in enumerate(reader.tables(data, "stage")))
    return Budget(limits, _soundness(reader, data.get("sound", {})))


def _limit(reader: _Reader, entry: Mapping[str, Any], at: int, stages: tuple[str, ...]) -> Limit:
    place = ("stage", at)
    reader.keys(entry, place, {"name", "quantile", "limit_us", "confidence"})
    name = entry.get("name")
    if not isinstance(name, str) or not any(fnmatchcase(stage, name) for stage in stages):
        raise reader.error(place, "name", f"one of {', '.join(stages)}", name)
    return Limit(
        name,
        reader.number(entry, place, "quantile", 0.0, 1.0),
        reader.number(entry, place, "limit_us", 0.0, _HIGHEST_US),
        reader.number({"confidence": CONFIDENCE, **entry}, place, "confidence", 0.0, 1.0),
    )


def _soundness(reader: _Reader, table: Any) -> Soundness:
    if not isinstance(table, dict):
        raise reader.error((), "sound", "a table", table)
    reader.keys(table, ("sound",), {"stolen_share", "real_time"})
    real_time = table.get("real_time", True)
    if not isinstance(real_time, bool):
        raise reader.error(("sound",), "real_time", "true or false", real_time)
    known = {"stolen_share": Soundness.stolen_share, **table}
    return Soundness(reader.number(known, ("sound",), "stolen_share", 0.0, math.inf), real_time)


class _Reader:
    """Says where in the file something is wrong."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text

    def error(self, place: Place, key: str, expected: str, got: Any) -> BadInput:
        line = line_of(self._text, place, key)
        where = f"{self._path}:{line}" if line else f"{self._path}: {''.join(f'{p} ' for p in place)}".rstrip()
        return BadInput(explain(f"{where}: {key}", expected, "nothing" if got is None else repr(got), TODO))

    def keys(self, table: Mapping[str, Any], place: Place, known: set[str]) -> None:
        for key in table:
            if key not in known:
                raise self.error(place, key, f"one of {', '.join(sorted(known))}", "a key of another name")

    def tables(self, data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        found = data.get(key, [])
        if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
            raise self.error((), key, f"at least one [[{key}]]", found or None)
        return found

    def number(self, table: Mapping[str, Any], place: Place, key: str, low: float, high: float) -> float:
        value = table.get(key)
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and low < value < high
        if not good:
            raise self.error(place, key, f"a number between {low:g} and {high:g}", value)
        return float(value)  # type: ignore[arg-type]
