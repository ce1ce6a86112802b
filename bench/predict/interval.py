"""From operators, their bytes and ceilings to a latency interval. Pure.

Fast end: products at the ceiling, everything else at the speed of memory, or as many times faster than a copy as it was
on this host (caches), and nothing between operators. Slow end: every class at the share of its peak that it reached on
this host, times the assumed loss on the way to another machine, and a launch for each operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.predict.ceilings import Ceilings
from bench.roofline.classes import BETWEEN, UNIT, Operator, Row, class_of

MARK = "prediction, not measurement"
LEAST_SHARE = 0.01  # of a peak: a class of a few tiny operators says nothing of how fast it would be


@dataclass(frozen=True)
class Class:
    """One class of operators: work, what it reached here, and both ends."""

    name: str
    operators: int
    multiply_adds: int
    bytes: int
    share_here: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class Interval:
    """Of the graphs of one chunk."""

    engine: str
    low_ms: float
    high_ms: float
    launches: int
    classes: tuple[Class, ...]
    assumptions: tuple[str, ...]

    def holds(self, measured_ms: float) -> bool:
        return self.low_ms <= measured_ms <= self.high_ms

    def as_dict(self) -> dict[str, Any]:
        return {"prediction_not_measurement": True, **asdict(self)}


def shares(rows: Iterable[Row]) -> dict[str, float]:
    """Share of its peak that each class reached on this host."""
    return {row.name: max(LEAST_SHARE, row.share_of_peak or 1.0) for row in rows if row.name != BETWEEN}


def predict(operators: Iterable[Operator], here: Mapping[str, float], ceilings: Ceilings) -> Interval:
    """`operators`: of one chunk; `here`: `shares` of the same host that gave them."""
    groups: dict[str, list[Operator]] = {}
    for operator in operators:
        groups.setdefault(class_of(operator.op, operator.constant_weight), []).append(operator)
    classes = tuple(_class(name, group, here.get(name, LEAST_SHARE), ceilings) for name, group in groups.items())
    launches = sum(one.operators for one in classes)
    low = sum(one.low_ms for one in classes)
    high = sum(one.high_ms for one in classes) + launches * ceilings.launch_us / 1e3
    return Interval(ceilings.engine, low, high, launches, classes, assumptions(ceilings))


def _class(name: str, group: list[Operator], share: float, ceilings: Ceilings) -> Class:
    macs, moved = sum(one.multiply_adds for one in group), sum(one.bytes for one in group)
    memory_ms = moved / ceilings.bandwidth_gbs / 1e6
    slow_memory_ms = memory_ms / ceilings.bandwidth_share
    if name in UNIT:
        peak = ceilings.int8_gops if UNIT[name] == "u8s8" else ceilings.float_gops
        low = 2 * macs / peak / 1e6
        high = max(low / min(1.0, share), slow_memory_ms)
    else:
        low = memory_ms / max(1.0, share)
        high = slow_memory_ms / min(1.0, share)
    return Class(name, len(group), macs, moved, share, min(low, high), high * ceilings.transfer)


def assumptions(ceilings: Ceilings) -> tuple[str, ...]:
    """Everything that the interval stands on, in words."""
    found = [
        "graphs of one chunk only: no camera, no preprocessing, no bus, no other load, no throttling",
        *ceilings.said,
        "fast end: products at the ceiling; the rest as many times faster than memory as on this host; no launches",
        "slow end: each class of operators reaches the share of the peak that it reached on this host",
    ]
    if ceilings.transfer != 1.0:
        found.append(
            f"slow end: {ceilings.transfer:g} times longer still, for kernels that suit that processor less (assumed)"
        )
    return tuple(found)
