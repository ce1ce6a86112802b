"""One hot path as a benchmark: it is warm, its result is right, and the collector is off while it is timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from bench.suites.paths import HotPath, Place

BUDGET_S = 0.8  # of one path
FEWEST, MOST = 5, 20_000  # samples
SLOW_ROUNDS = 3  # of a path that takes seconds
SHORTEST_S = 5e-6  # of a sample: the clock's own cost and step are below a hundredth of it
_LOOKS = 20


def timed(benchmark: Any, path: HotPath, place: Place) -> None:
    """Skips, with the reason, where the bundle lacks what the path measures."""
    try:
        made = path.make(place)
    except LookupError as missing:
        pytest.skip(str(missing))
    benchmark.extra_info |= {"path": path.name, "bundle": place.bundle.name, "pure": path.pure}
    assert made.right(made.call())
    rounds, iterations = (SLOW_ROUNDS, 1) if path.slow else plan(shortest_s(made.call))
    found = benchmark.pedantic(made.call, rounds=rounds, iterations=iterations)
    assert made.right(found)


def plan(call_s: float) -> tuple[int, int]:
    """(samples, calls in each) for a call that takes `call_s`; pytest-benchmark's own plan rests on a single call."""
    iterations = max(1, math.ceil(SHORTEST_S / call_s))
    return min(MOST, max(FEWEST, int(BUDGET_S / (call_s * iterations)))), iterations


def shortest_s(call: Callable[[], object]) -> float:
    """Of up to _LOOKS calls within the budget, never 0."""
    best, until = math.inf, time.perf_counter() + BUDGET_S
    for _ in range(_LOOKS):
        begin = time.perf_counter()
        call()
        end = time.perf_counter()
        best = min(best, end - begin)
        if end > until:
            break
    return max(best, 1e-9)
