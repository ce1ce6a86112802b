"""Histograms of whole microseconds, as cyclictest counts them: rounded down, 1 us wide. Pure.

The raw histogram of a window is its sample without the order: every figure of a result can be computed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgevla.errors import Unsound, explain
from edgevla.telemetry.stats import nearest_rank, samples_needed

Histogram = dict[int, int]  # whole us -> how often


@dataclass(frozen=True)
class Tail:
    """p50, p99, p99.9 and maximum of a histogram, in whole us. Describes; proves nothing."""

    count: int
    p50_us: int
    p99_us: int
    p999_us: int
    max_us: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def of_ns(samples_ns: ArrayLike) -> Histogram:
    """Histogram of times in ns; a time before its deadline counts as 0, as where a tail is spun off."""
    values, counts = np.unique(np.maximum(np.asarray(samples_ns, np.int64), 0) // 1000, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def merged(histograms: Iterable[Mapping[int, int]]) -> Histogram:
    """All of them together."""
    total: Counter[int] = Counter()
    for histogram in histograms:
        total.update(histogram)
    return dict(sorted(total.items()))


def from_json(histogram: Mapping[str, int]) -> Histogram:
    """The histogram whose keys JSON has made text."""
    return {int(us): int(count) for us, count in histogram.items()}


def packed(histogram: Mapping[int, int]) -> str:
    """One line for a result: "us:count us:count ...", in order."""
    return " ".join(f"{us}:{histogram[us]}" for us in sorted(histogram))


def unpacked(line: str) -> Histogram:
    """What `packed` wrote. Raises ValueError on anything else."""
    pairs = (pair.split(":") for pair in line.split())
    return {int(us): int(count) for us, count in pairs}


def quantile(histogram: Mapping[int, int], share: float) -> int:
    """By nearest rank, whole us."""
    left = nearest_rank(sum(histogram.values()), share)
    for us in sorted(histogram):
        left -= histogram[us]
        if left < 0:
            return us
    raise Unsound(explain("nothing was measured", "at least one sample", "none", "run for longer"))


def tail(histogram: Mapping[int, int]) -> Tail:
    """The four figures."""
    p50, p99, p999 = (quantile(histogram, share) for share in (0.5, 0.99, 0.999))
    return Tail(sum(histogram.values()), p50, p99, p999, max(histogram))


def expanded(histogram: Mapping[int, int]) -> NDArray[np.int64]:
    """The samples themselves, sorted: int64 (count,)."""
    keys = np.array(sorted(histogram), np.int64)
    return np.repeat(keys, [histogram[int(us)] for us in keys])


def enough_for_p999(count: int) -> bool:
    """Whether the sample bounds its p99.9 at 99 %, were its values independent."""
    return count >= samples_needed(0.999, 0.99)
