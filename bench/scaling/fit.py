"""Exponents of cost curves with their intervals, where they hold, and where a curve meets its limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.telemetry.interleaved import block_picks, percentile_ns

Floats = NDArray[np.float64]
TOLERANCE = 0.10  # a power law holds where it is off by no more than this at each of its points
LEAST = 3  # points of a fit
RESAMPLES = 500
REACH = 8.0  # a curve is continued this far beyond its last point, with the exponent of its last two


@dataclass(frozen=True)
class PowerLaw:
    """cost = factor * value^exponent between `first` and `last`; off by `residual` at most there."""

    exponent: float
    low: float
    high: float
    factor: float
    first: float
    last: float
    points: int
    residual: float

    def as_dict(self) -> dict[str, Any]:
        return {name: value if name == "points" else round(float(value), 5) for name, value in asdict(self).items()}


def power_law(values: Sequence[float], samples: Sequence[Sequence[float]], seed: int = 0) -> PowerLaw | None:
    """The longest run of points that ends at the largest and follows a power law; None: no LEAST points do.

    Args:
        values: of the axis, rising.
        samples: costs at each value, round by round; rounds are resampled in blocks, all values alike.
    """
    x, costs = np.log(np.asarray(values, np.float64)), _equal(samples)
    middle = np.log(np.median(costs, axis=1))
    for first in range(len(values) - LEAST + 1):
        slope, start = line(x[first:], middle[first:])
        residual = float(np.abs(np.expm1(middle[first:] - (start + slope * x[first:]))).max())
        if residual <= TOLERANCE:
            low, high = _interval(x[first:], costs[first:], seed)
            return PowerLaw(
                slope, low, high, float(np.exp(start)), values[first], values[-1], len(values) - first, residual
            )
    return None


def line(x: Floats, y: Floats) -> tuple[float, float]:
    """Least squares: slope, and y at 0."""
    off = x - x.mean()
    slope = float((off * (y - y.mean())).sum() / (off * off).sum())
    return slope, float(y.mean() - slope * x.mean())


def _interval(x: Floats, costs: Floats, seed: int) -> tuple[float, float]:
    picks = block_picks(costs.shape[1], RESAMPLES, np.random.default_rng(seed))
    medians = np.log(np.median(costs[:, picks], axis=2))  # (points, resamples)
    slopes = [line(x, column)[0] for column in medians.T]
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(low), float(high)


def _equal(samples: Sequence[Sequence[float]]) -> Floats:
    count = min(len(one) for one in samples)
    return np.array([list(one)[:count] for one in samples], np.float64)


def local_exponents(values: Sequence[float], costs: Sequence[float]) -> list[float]:
    """Between each two neighbours."""
    x, y = np.log(np.asarray(values, np.float64)), np.log(np.asarray(costs, np.float64))
    return [round(float(v), 3) for v in np.diff(y) / np.diff(x)]


def p99(samples: Sequence[float]) -> float:
    """Nearest rank: a cost that was measured."""
    return float(percentile_ns(np.asarray(samples, np.int64), 99))


@dataclass(frozen=True)
class Wall:
    """Where a curve reaches its limit. `value` None: not within REACH of its end. `beyond`: continued, not seen."""

    value: float | None
    beyond: bool
    headroom: float | None  # value over the base of the axis

    def as_dict(self) -> dict[str, Any]:
        value = None if self.value is None else float(f"{self.value:.4g}")
        return {"value": value, "beyond": self.beyond, "headroom": self.headroom and round(self.headroom, 2)}


def wall(values: Sequence[float], costs: Sequence[float], limit: float) -> Wall:
    """By the straight line between two points of the log-log curve."""
    if costs[0] >= limit:
        return Wall(values[0], False, 1.0)
    x, y = np.log(np.asarray(values, np.float64)), np.log(np.asarray(costs, np.float64))
    for i in range(1, len(values)):
        if costs[i] >= limit:
            share = (np.log(limit) - y[i - 1]) / (y[i] - y[i - 1])
            found = float(np.exp(x[i - 1] + share * (x[i] - x[i - 1])))
            return Wall(found, False, found / values[0])
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    if slope <= 0 or (reached := (np.log(limit) - y[-1]) / slope) > np.log(REACH):
        return Wall(None, False, None)
    found = float(np.exp(x[-1] + reached))
    return Wall(found, True, found / values[0])
