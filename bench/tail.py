"""The tail beyond the samples, by peaks over threshold: an estimate with its goodness of fit, never a bound. Pure.

Excesses over a high threshold follow a generalized Pareto distribution in the limit (Pickands 1975). Shape and scale by
probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987), which need no iteration and hold for shapes
below 1/2. The fit is judged by Anderson-Darling with a parametric bootstrap, as its parameters were fitted too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

SHARE = 0.05  # of the samples lie above the threshold
LEAST = 50  # excesses; fewer fit anything
REPLICATES = 199  # of the bootstrap: p in steps of 1/200
_EDGE = 1e-12


@dataclass(frozen=True)
class Fit:
    """`shape` xi (> 0: heavy), `scale` in the unit of the samples; Anderson-Darling `statistic` and its `p_value`."""

    threshold: float
    shape: float
    scale: float
    exceedances: int
    samples: int
    statistic: float
    p_value: float

    def quantile(self, probability: float) -> float:
        """Estimate of that quantile, at or beyond the threshold."""
        share = self.exceedances / self.samples
        beyond = min(1.0, (1.0 - probability) / share)
        if abs(self.shape) < 1e-9:
            return self.threshold - self.scale * float(np.log(beyond))
        return self.threshold + self.scale / self.shape * (beyond**-self.shape - 1.0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_tail(samples: ArrayLike, seed: int = 0) -> Fit | None:
    """The excesses of the largest twentieth; None where there are too few of them, or all are the same."""
    values = np.sort(np.asarray(samples, np.float64))
    count = int(SHARE * values.size)
    if count < LEAST:
        return None
    threshold = float(values[-count - 1])
    excess = values[-count:] - threshold
    if excess[-1] <= 0 or np.unique(excess).size < LEAST // 2:
        return None
    shape, scale = (part[0] for part in moments(excess[None]))
    statistic = anderson_darling(excess[None], shape, scale)[0]
    random = np.random.default_rng(seed)
    drawn = np.sort(_sample(random.uniform(size=(REPLICATES, count)), shape, scale), axis=1)
    shapes, scales = moments(drawn)
    as_bad = int((anderson_darling(drawn, shapes[:, None], scales[:, None]) >= statistic).sum())
    p_value = (1 + as_bad) / (REPLICATES + 1)
    return Fit(threshold, float(shape), float(scale), count, int(values.size), float(statistic), p_value)


def moments(excess: Float64) -> tuple[Float64, Float64]:
    """Shapes (m,) and scales (m,) of rows (m, n), each rising."""
    size = excess.shape[1]
    above = 1.0 - (np.arange(1, size + 1) - 0.35) / size
    first, second = excess.mean(axis=1), (excess * above).mean(axis=1)
    apart = np.maximum(first - 2.0 * second, _EDGE * first)
    return 2.0 - first / apart, 2.0 * first * second / apart


def anderson_darling(excess: Float64, shape: Any, scale: Any) -> Float64:
    """A^2 (m,) of rows (m, n), each rising, against generalized Pareto distributions."""
    size = excess.shape[1]
    inside = np.clip(_distribution(excess, shape, scale), _EDGE, 1.0 - _EDGE)
    weights = 2.0 * np.arange(1, size + 1) - 1.0
    result: Float64 = -size - (weights * (np.log(inside) + np.log1p(-inside[:, ::-1]))).mean(axis=1)
    return result


def _distribution(excess: Float64, shape: Any, scale: Any) -> Float64:
    heavy = np.where(np.abs(shape) < 1e-9, 1e-9, shape)
    inner = np.maximum(1.0 + heavy * excess / scale, 0.0)
    with np.errstate(divide="ignore"):
        result: Float64 = 1.0 - inner ** (-1.0 / heavy)
    return result


def _sample(uniform: Float64, shape: float, scale: float) -> Float64:
    if abs(shape) < 1e-9:
        return -scale * np.log(uniform)
    result: Float64 = scale / shape * (uniform**-shape - 1.0)
    return result
