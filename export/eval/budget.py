"""What smaller graphs may cost in action space, declared before it is measured. Pure but for reading the file.

schema = "edgevla.action-budget/1"
p99 = 0.01            # the bundle against its FP32 graphs, share of each channel's range
max = 0.03
flips = 0.01          # share of acting rows in which the gripper is told the other thing
recorded_ratio = 1.05 # error against the record, bundle over FP32, at p50 and at p99
[channel.x]           # in the channel's own unit; takes the place of the shares above
p99 = 0.002
max = 0.005
recorded_p99 = 0.02   # the bundle against the record
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgevla.errors import BadInput, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "edgevla.action-budget/1"
_LIMITS = ("p99", "max", "recorded_p99")


@dataclass(frozen=True)
class Budget:
    """See the module. Shares of a channel's range, but `channels` in the channel's own unit."""

    p99: float = 0.01
    max: float = 0.03
    flips: float = 0.01
    recorded_ratio: float = 1.05
    channels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """One line of the budget: what was measured against what was declared."""

    what: str
    limit: float
    got: float
    unit: str

    @property
    def kept(self) -> bool:
        return self.got <= self.limit  # NaN is not kept

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "kept": self.kept}


def read_budget(path: Path) -> Budget:
    """The budget in a TOML file. Raises BadInput naming the key that is wrong."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(explain(f"budget {path.name}", "a TOML file", error, "see docs/eval.md")) from error
    if table.pop("schema", None) != SCHEMA:
        _fail(path, "schema", f'"{SCHEMA}"')
    channels = table.pop("channel", {})
    if not isinstance(channels, dict) or not all(isinstance(part, dict) for part in channels.values()):
        _fail(path, "channel", "tables [channel.NAME]")
    for name, part in channels.items():
        _require_numbers(path, part, _LIMITS, f"channel.{name}.")
    _require_numbers(path, table, ("p99", "max", "flips", "recorded_ratio"))
    return Budget(**table, channels=channels)


def _require_numbers(path: Path, table: Mapping[str, Any], known: tuple[str, ...], where: str = "") -> None:
    for key, value in table.items():
        if key not in known:
            _fail(path, where + key, f"one of {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            _fail(path, where + key, "a number of 0 or more")


def _fail(path: Path, key: str, expected: str) -> None:
    raise BadInput(explain(f"budget {path.name}: {key}", expected, "something else", "see docs/eval.md"))
