"""Statistics that say what they prove. Pure; samples are any one-dimensional array of numbers.

A percentile of a sample describes the sample. `upper_bound_quantile` bounds the quantile of what the samples
were drawn from, by the order statistics of the binomial distribution (independent samples of any shape).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgevla.errors import Unsound, explain


@dataclass(frozen=True)
class Summary:
    """p50, p99, p99.9 and maximum of a sample, in the unit of the sample. Describes; proves nothing."""

    count: int
    p50: float
    p99: float
    p999: float
    maximum: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def summarise(samples: ArrayLike) -> Summary:
    """Percentiles by nearest rank: every figure is a sample that was really measured."""
    values = np.sort(np.asarray(samples, np.float64))
    if values.size == 0:
        raise Unsound(explain("nothing was measured", "at least one sample", "none", "run for longer"))
    p50, p99, p999 = (float(values[nearest_rank(values.size, q)]) for q in (0.5, 0.99, 0.999))
    return Summary(int(values.size), p50, p99, p999, float(values[-1]))


def nearest_rank(count: int, quantile: float) -> int:
    """Index into the sorted sample: the smallest value that `quantile` of the sample do not exceed."""
    return max(0, math.ceil(quantile * count - 1e-9) - 1)


def samples_needed(quantile: float, confidence: float) -> int:
    """Samples from which the maximum bounds the quantile: n with quantile^n <= 1 - confidence.

    >>> samples_needed(0.999, 0.99)
    4603
    """
    return math.ceil(math.log(1.0 - confidence) / math.log(quantile))


def upper_bound_quantile(samples: ArrayLike, quantile: float = 0.999, confidence: float = 0.99) -> float:
    """Value that is not below the true `quantile` with at least `confidence`.

    Raises:
        Unsound: fewer samples than `samples_needed`: no value of the sample bounds the quantile.
    """
    values = np.sort(np.asarray(samples, np.float64))
    needed = samples_needed(quantile, confidence)
    if values.size < needed:
        raise Unsound(
            explain(
                f"too few samples to bound p{100 * quantile:g} at {100 * confidence:g} %",
                f"at least {needed}",
                values.size,
                "measure for longer",
            )
        )
    return float(values[values.size - 1 - exceedances_allowed(int(values.size), quantile, confidence)])


@lru_cache(maxsize=64)
def exceedances_allowed(count: int, quantile: float, confidence: float) -> int:
    """Largest i with P(Binomial(count, 1 - quantile) <= i) <= 1 - confidence: the i-th from the top."""
    miss = 1.0 - quantile
    total, i = 0.0, 0
    while True:
        total += math.exp(_log_binomial(count, i, miss))
        if total > 1.0 - confidence:
            return max(0, i - 1)
        i += 1


def _log_binomial(count: int, hits: int, p: float) -> float:
    choose = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
    return choose + hits * math.log(p) + (count - hits) * math.log1p(-p)


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a share (z = 1.959964: 95 % two-sided). Wilson 1927.

    Raises:
        ValueError: not 0 <= successes <= trials, or no trial.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"a share needs 0 <= successes <= trials and a trial, got {successes} of {trials}")
    share, square = successes / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, where rounding would say 1e-17
    high = 1.0 if successes == trials else centre + half
    return low, high


def window_percentiles(samples: ArrayLike, window: int, quantile: float) -> NDArray[np.float64]:
    """The quantile in each whole window of `window` consecutive samples: pick the median window from it."""
    values = np.asarray(samples, np.float64)
    rows = values[: values.size // window * window].reshape(-1, window)
    picked: NDArray[np.float64] = np.sort(rows, axis=1)[:, nearest_rank(window, quantile)]
    return picked
