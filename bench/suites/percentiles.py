"""What pytest-benchmark's JSON lacks: percentiles that were really measured, with their count. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgevla.telemetry.stats import nearest_rank

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def percentiles(samples_s: Sequence[float], calls_per_sample: int) -> dict[str, float | int]:
    """us per call, by nearest rank. A quantile q stands here only where there are at least 1 / (1 - q) samples.

    `calls_per_sample`: pytest-benchmark times calls of less than some 5 us in batches; then a sample is a batch's mean,
    and its percentiles hide what one slow call costs.
    """
    values = np.sort(np.asarray(samples_s, np.float64)) * 1e6
    if not values.size:
        raise ValueError("percentiles of no sample")
    enough = {name: q for name, q in QUANTILES.items() if q == 0.5 or values.size * (1.0 - q) >= 1.0 - 1e-9}
    found: dict[str, float | int] = {
        f"{name}_us": round(float(values[nearest_rank(values.size, q)]), 3) for name, q in enough.items()
    }
    return {**found, "max_us": round(float(values[-1]), 3), "count": values.size, "calls_per_sample": calls_per_sample}


def table_rows(benchmarks: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """(path, p50, p90, p99, p99.9, max, samples) of the JSON's benchmarks; "-" where the samples are too few."""
    rows = []
    for one in benchmarks:
        told = one["percentiles"]
        figures = [told.get(f"{name}_us") for name in QUANTILES] + [told["max_us"]]
        batched = f" x {told['calls_per_sample']}" if told["calls_per_sample"] > 1 else ""
        name = one["extra_info"].get("path") or one["name"]
        rows.append((name, *("-" if f is None else f"{f:,.1f}" for f in figures), f"{told['count']:,}{batched}"))
    return rows


HEAD = ("path", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", "samples")
