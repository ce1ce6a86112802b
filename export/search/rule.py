"""Which candidate ships. Pure.

1. Only candidates of ONNX Runtime whose error stays inside the budget.
2. Of those the fastest by its median; within `TIE` of it, where the interval does not tell them apart, the one with the
   least error.
3. If that one is int8 (or another integer form) and its interval against the best float of the same engine is not all
   above 1.0, the best float ships instead.

OpenVINO is a baseline to compare with; it never ships.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgevla.telemetry.interleaved import Ratio
from export.search.error import ActionError

ENGINE = "onnxruntime"
FLOAT_KINDS = ("fp32", "fp16")
TIE = 1.02  # medians closer than this are one, unless the interval tells them apart

RatioOf = Callable[[str, str], Ratio]  # (slow, fast) -> how many times slow takes of fast


@dataclass(frozen=True)
class Row:
    """One measured candidate or baseline."""

    name: str
    kind: str
    engine: str
    bytes: int  # of its graphs, the ones that run once per instruction not counted
    p50_ms: float
    p99_ms: float
    error: ActionError
    share: float  # of the error budget: inside where <= 1
    note: str = ""

    @property
    def is_float(self) -> bool:
        return self.kind in FLOAT_KINDS

    @property
    def inside(self) -> bool:
        return self.share <= 1.0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "inside": self.inside}


@dataclass(frozen=True)
class Decision:
    """The name of the row that ships, and why in a sentence."""

    name: str
    sentence: str


def pick(rows: Sequence[Row], ratio: RatioOf) -> Decision:
    """The rule above. `rows` hold FP32 of ONNX Runtime, which is inside the budget by definition."""
    ours = [row for row in rows if row.engine == ENGINE and row.inside]
    best_float = min((row for row in ours if row.is_float), key=lambda row: row.p50_ms)
    integer = [row for row in ours if not row.is_float]
    if not integer:
        return Decision(best_float.name, _none_inside(rows, best_float))
    chosen = _fastest(integer, ratio)
    gain = ratio(best_float.name, chosen.name)
    if gain.low <= 1.0:
        sentence = (
            f"float ships ({best_float.name}): the best of int8 inside the error budget, {chosen.name}, "
            f"is {_times(gain)} as fast, which is not above 1.0 for sure"
        )
        return Decision(best_float.name, sentence)
    return Decision(chosen.name, f"{chosen.name} ships: {_times(gain)} as fast as {best_float.name}, {_within(chosen)}")


def against_baselines(rows: Sequence[Row], name: str, ratio: RatioOf) -> str:
    """The sentence about other engines; empty without any."""
    chosen = next(row for row in rows if row.name == name)
    parts = []
    for row in rows:
        if row.engine != ENGINE:
            place = f"{row.share:.2g}" if row.inside else f"{row.share:.2g}, outside"
            parts.append(f"{_times(ratio(row.name, name))} as fast as {row.name} (of the budget: {place})")
    return f"{chosen.name} (of the budget: {chosen.share:.2g}) is {', '.join(parts)}" if parts else ""


def _fastest(rows: Sequence[Row], ratio: RatioOf) -> Row:
    fastest = min(rows, key=lambda row: row.p50_ms)
    tied = [
        row
        for row in rows
        if row is fastest or (row.p50_ms <= TIE * fastest.p50_ms and ratio(row.name, fastest.name).low <= 1.0)
    ]
    return min(tied, key=lambda row: row.share)


def _none_inside(rows: Sequence[Row], best_float: Row) -> str:
    integer = [row for row in rows if row.engine == ENGINE and not row.is_float]
    if not integer:
        return f"float ships ({best_float.name}): no layer here is worth int8"
    nearest = min(integer, key=lambda row: row.share)
    return (
        f"float ships ({best_float.name}): no int8 candidate stays inside the error budget; "
        f"{nearest.name} comes nearest with {nearest.share:.2g} of it"
    )


def _times(ratio: Ratio) -> str:
    return f"{ratio.median:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def _within(row: Row) -> str:
    return f"with {row.share:.2g} of the error budget"
