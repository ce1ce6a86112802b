"""The runs of each graph with their operators on CLOCK_MONOTONIC: stamps joined to ONNX Runtime's profile. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevla.errors import Unsound, explain

_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class Ran:
    """An operator, once."""

    name: str
    op: str
    begin_ns: int
    end_ns: int


@dataclass(frozen=True)
class GraphRun:
    """A graph, once."""

    graph: str
    begin_ns: int
    end_ns: int
    operators: tuple[Ran, ...]


def graph_runs(graph: str, events: Sequence[Mapping[str, Any]], marks: Sequence[Sequence[int]]) -> list[GraphRun]:
    """Every run of one graph.

    The profile counts microseconds from a start of its own, on a clock that is not ours. The i-th stamp around a run
    and the i-th `model_run` of the profile are the same run; the median of what lies between them is the offset. Runs
    at the end that have no stamp are left out: the profile ends a little later than the stamps.

    Raises Unsound when there is a stamp without a run.
    """
    runs = [event for event in events if event.get("name") == "model_run"]
    if not marks or len(runs) < len(marks):
        got = f"{len(runs)} in the profile, {len(marks)} stamped"
        raise Unsound(explain(f"runs of graph {graph}", "one for each stamp", got, "profile fewer seconds"))
    runs = runs[: len(marks)]
    middles = [
        (begin + end) / 2 - (run["ts"] + run["dur"] / 2) * 1e3 for run, (begin, end) in zip(runs, marks, strict=True)
    ]
    offset_ns = float(np.median(middles))
    kernels = sorted(
        (e for e in events if e.get("cat") == "Node" and e["name"].endswith(_KERNEL)), key=lambda e: e["ts"]
    )
    starts = [event["ts"] for event in kernels]
    found = []
    for run, (begin_ns, end_ns) in zip(runs, marks, strict=True):
        first, beyond = np.searchsorted(starts, [run["ts"], run["ts"] + run["dur"] + 1])
        operators = tuple(_ran(kernels[i], offset_ns, begin_ns, end_ns) for i in range(first, beyond))
        found.append(GraphRun(graph, int(begin_ns), int(end_ns), operators))
    return found


def _ran(event: Mapping[str, Any], offset_ns: float, begin_ns: int, end_ns: int) -> Ran:
    """On our clock, and within the run: the profile has whole microseconds, and two clocks do not agree to one."""
    start = int(event["ts"] * 1000 + offset_ns)
    low = min(max(start, begin_ns), end_ns)
    high = min(max(start + int(event["dur"]) * 1000, low), end_ns)
    return Ran(event["name"].removesuffix(_KERNEL), event["args"]["op_name"], low, high)
