"""Latency of several callables in ONE run, round-robin, so that drift of the host hits all alike.

A round calls each callable once, in an order drawn anew; garbage collection is off; the first
rounds are thrown away. Speed-ups are medians of per-round ratios with a block-bootstrap interval, because
rounds next to each other correlate.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgevla.telemetry.host import steal_s
from edgevla.telemetry.stats import nearest_rank

Probe = Callable[[], Mapping[str, int]]


@dataclass(frozen=True)
class Ratio:
    """How many times ``slow`` takes of ``fast``: median of per-round ratios and its interval."""

    slow: str
    fast: str
    median: float
    low: float
    high: float
    rounds: int
    confidence: float

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Interleaved:
    """ns per call: one int64 array of length ``rounds`` per name; a stage is named ``name/stage``."""

    ns: Mapping[str, NDArray[np.int64]]
    rounds: int
    wall_s: float
    stolen_s: float | None
    seed: int = 0
    warmup: int = field(default=0)

    def ratio(self, slow: str, fast: str, confidence: float = 0.95, seed: int = 0) -> Ratio:
        """Per-round ratio of two callables of this run."""
        return paired_ratio(self.ns[slow], self.ns[fast], slow, fast, confidence=confidence, seed=seed)

    def summary(self) -> dict[str, dict[str, float]]:
        """``{name: {p50_ms, p99_ms, min_ms, max_ms, n}}``."""
        return {name: summarise(values) for name, values in self.ns.items()}

    def as_figures(self) -> dict[str, list[int]]:
        """The arrays as plain lists: ``report.json`` figures.latencies_ns."""
        return {name: [int(v) for v in values] for name, values in self.ns.items()}


def summarise(ns: NDArray[np.int64]) -> dict[str, float]:
    """Percentiles of durations given in ns, in ms. Percentiles are order statistics (no interpolation)."""
    ms = {f"p{q}_ms": percentile_ns(ns, q) / 1e6 for q in (50, 99)}
    return {**ms, "min_ms": float(ns.min()) / 1e6, "max_ms": float(ns.max()) / 1e6, "n": float(ns.size)}


def percentile_ns(ns: NDArray[np.int64], q: float) -> int:
    """The smallest sample that at least ``q`` % of all samples do not exceed."""
    return int(np.sort(ns)[nearest_rank(ns.size, q / 100)])


def measure(
    callables: Mapping[str, Callable[[], object]],
    rounds: int = 300,
    warmup: int = 10,
    settle: int = 0,
    seed: int = 0,
    probes: Mapping[str, Probe] | None = None,
    limit_s: float | None = None,
) -> Interleaved:
    """Time every callable once per round in random order.

    settle: untimed calls of the same callable right before each timed one (0: as cold as it was left).
    probes: per name, a function read after the timed call: ``{stage: ns}``, e.g. ``lambda: engine.stage_ns``.
    limit_s: stop after the round in which this much time has passed (at least 2 rounds are made).
    """
    if not callables or rounds < 2:
        raise ValueError(f"measure: expected a callable and >= 2 rounds, got {len(callables)} and {rounds}")
    series: dict[str, list[int]] = {name: [] for name in callables}
    orders, stolen = np.random.default_rng(seed), steal_s()
    with collector_off():
        for _ in range(warmup):
            _round(callables, orders, settle, {}, {})
        start = time.monotonic()
        for done in range(1, rounds + 1):
            _round(callables, orders, settle, series, probes or {})
            if limit_s is not None and done >= 2 and time.monotonic() - start > limit_s:
                break
    wall_s, stolen_after = time.monotonic() - start, steal_s()
    lost = None if stolen is None or stolen_after is None else stolen_after - stolen
    return Interleaved({n: np.asarray(v, np.int64) for n, v in series.items()}, done, wall_s, lost, seed, warmup)


def _round(
    callables: Mapping[str, Callable[[], object]],
    orders: np.random.Generator,
    settle: int,
    series: dict[str, list[int]],
    probes: Mapping[str, Probe],
) -> None:
    names = list(callables)
    for index in orders.permutation(len(names)):
        name = names[index]
        call = callables[name]
        for _ in range(settle):
            call()
        begin = time.perf_counter_ns()
        call()
        elapsed = time.perf_counter_ns() - begin
        if name in series:
            series[name].append(elapsed)
        if name in probes:
            for stage, spent in probes[name]().items():
                series.setdefault(f"{name}/{stage}", []).append(int(spent))


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside: object churn costs up to 90 ms at p99.9 (facts, section 9)."""
    was_on = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def paired_ratio(
    slow_ns: NDArray[np.int64],
    fast_ns: NDArray[np.int64],
    slow: str = "slow",
    fast: str = "fast",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Ratio:
    """Median of slow/fast round by round; interval by circular block bootstrap, blocks of n^(1/3) rounds."""
    if slow_ns.shape != fast_ns.shape or slow_ns.size < 2:
        raise ValueError(
            f"paired_ratio: expected two equal series of >= 2 rounds, got {slow_ns.shape} and {fast_ns.shape}"
        )
    ratios = slow_ns / np.maximum(fast_ns, 1)
    n = ratios.size
    medians = np.median(ratios[block_picks(n, resamples, np.random.default_rng(seed))], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return Ratio(slow, fast, float(np.median(ratios)), float(low), float(high), n, confidence)


def quantile_ratio(
    slow: ArrayLike,
    fast: ArrayLike,
    quantile: float,
    slow_name: str = "slow",
    fast_name: str = "fast",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Ratio:
    """How many times a quantile of one series is that of another, where samples have no partner in the other.

    Interval by circular block bootstrap of each, blocks of n^(1/3) samples. `median` is the ratio of the samples.
    """
    series = [np.asarray(values, np.float64) for values in (slow, fast)]
    if min(values.size for values in series) < 2:
        raise ValueError(f"quantile_ratio: expected >= 2 samples each, got {[values.size for values in series]}")
    dice = np.random.default_rng(seed)
    tops = [np.quantile(values[block_picks(values.size, resamples, dice)], quantile, axis=1) for values in series]
    tail = (1 - confidence) / 2
    low, high = np.quantile(tops[0] / np.maximum(tops[1], 1e-9), [tail, 1 - tail])
    found = [float(np.quantile(values, quantile)) for values in series]
    rounds = min(values.size for values in series)
    return Ratio(slow_name, fast_name, found[0] / max(found[1], 1e-9), float(low), float(high), rounds, confidence)


def block_picks(count: int, resamples: int, dice: np.random.Generator) -> NDArray[np.int64]:
    """Indices (resamples, count) of circular blocks of count^(1/3): rows next to each other correlate."""
    block = max(1, round(count ** (1 / 3)))
    starts = dice.integers(0, count, size=(resamples, -(-count // block)))
    picks: NDArray[np.int64] = ((starts[..., None] + np.arange(block)) % count).reshape(resamples, -1)[:, :count]
    return picks
