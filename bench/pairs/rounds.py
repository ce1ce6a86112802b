"""The paired run of one path: every process once a round, in an order drawn anew."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.pairs.workers import TreeWorker

BASE, HEAD, CONTROL = "base", "head", "control"  # control: base once more
BLOCK_NS = 2_000_000  # of calls that are timed together, at least
FEWEST, MOST = 15, 200  # rounds
Series = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Timed:
    """ns per block by process, or why there are none. `ours`: it is this tree that lacks the path."""

    path: str
    pure: bool = False
    calls: int = 0  # in a block
    ns: Series = field(default_factory=dict)
    lacks: str = ""
    ours: bool = False


def timed(path: str, workers: Mapping[str, TreeWorker], orders: np.random.Generator, seconds: float) -> Timed:
    """Rounds until `seconds` are over, FEWEST to MOST of them, and one before that does not count."""
    made = {name: worker.ask(make=path) for name, worker in workers.items()}
    for name in (HEAD, BASE, CONTROL):
        if "lacks" in made[name]:
            return Timed(path, lacks=str(made[name]["lacks"]), ours=name == HEAD)
    calls = -(-BLOCK_NS // max(int(one["call_ns"]) for one in made.values()))
    series: dict[str, list[int]] = {name: [] for name in workers}
    until = None
    while until is None or len(series[HEAD]) < FEWEST or (len(series[HEAD]) < MOST and time.monotonic() < until):
        found = {}
        for index in orders.permutation(len(workers)):
            name = list(workers)[index]
            found[name] = max(1, int(workers[name].ask(calls=calls)["ns"]))
        if until is None:
            until = time.monotonic() + seconds
            continue
        for name, ns in found.items():
            series[name].append(ns)
    return Timed(path, bool(made[HEAD]["pure"]), calls, {name: np.array(v, np.int64) for name, v in series.items()})
