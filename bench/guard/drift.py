"""Did the run stay the same to its end? Blocks of equal length, compared by Kruskal and Wallis. Pure.

Samples are thinned to one in every autocorrelation time inside a block, as the test takes them to be independent. Drift
alone is said, not judged: a host that warms up drifts. It makes a run unsound where a limit would be broken in the
worst block alone although all blocks together keep it, since then the answer depends on how long one looked.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.effective import autocorrelation_time
from bench.hdr import histogram_of

Float64 = NDArray[np.float64]

BLOCKS = 9  # eight degrees of freedom
SIGNIFICANT = 1e-3
_LEAST = 5  # thinned samples in a block


@dataclass(frozen=True)
class Drift:
    """`p_value` None: too few samples to test. `spread`: of the blocks' medians, as a share of the median."""

    blocks: tuple[dict[str, Any], ...]
    p_value: float | None
    spread: float

    @property
    def significant(self) -> bool:
        return self.p_value is not None and self.p_value < SIGNIFICANT


def drift_of(samples_ns: Float64) -> Drift:
    """Of one stage, in the order of time."""
    blocks = [block for block in np.array_split(samples_ns, BLOCKS) if block.size]
    medians = np.array([np.median(block) for block in blocks])
    middle = float(np.median(samples_ns))
    within = np.concatenate([block - np.mean(block) for block in blocks])  # drift itself is no correlation
    every = max(1, math.ceil(autocorrelation_time(within)))
    spread = float(np.ptp(medians)) / middle if middle > 0 else 0.0
    return Drift(tuple(map(_described, blocks)), kruskal_wallis([block[::every] for block in blocks]), spread)


def _described(block: Float64) -> dict[str, Any]:
    histogram = histogram_of(block)
    quantiles = {"p50_us": 0.5, "p99_us": 0.99}
    shown = {key: round(histogram.quantile_ns(quantile) / 1e3, 3) for key, quantile in quantiles.items()}
    return {**shown, "max_us": round(histogram.maximum_ns / 1e3, 3), "count": histogram.count}


def kruskal_wallis(groups: list[Float64]) -> float | None:
    """p of "all groups are of one distribution"; None with fewer than two groups or five samples in one."""
    if len(groups) < 2 or min(group.size for group in groups) < _LEAST:
        return None
    values = np.concatenate(groups)
    _, inverse, ties = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[inverse]  # of equal values, their mean rank
    size = values.size
    correction = 1.0 - float((ties.astype(np.float64) ** 3 - ties).sum()) / (float(size) ** 3 - size)
    if correction <= 0:
        return 1.0
    edges = np.cumsum([0, *(group.size for group in groups)])
    sums = [ranks[a:b].sum() ** 2 / (b - a) for a, b in itertools.pairwise(edges)]
    statistic = (12.0 / (size * (size + 1.0)) * sum(sums) - 3.0 * (size + 1.0)) / correction
    return chi_squared_survival(max(0.0, float(statistic)), len(groups) - 1)


def chi_squared_survival(x: float, degrees: int) -> float:
    """P(chi squared > x): exact for even degrees of freedom; odd ones take the next even, which gives more."""
    half, terms = x / 2.0, (degrees + 1) // 2
    return min(1.0, math.exp(-half) * sum(half**k / math.factorial(k) for k in range(terms)))
