"""How many independent samples a sequence is worth. Pure.

Neighbouring ticks share their stalls, so n ticks bound a quantile less well than n independent ones would. The
integrated autocorrelation time says by how much (Geyer's initial positive sequence, Statistical Science 7, 1992).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

TAIL = 0.99  # the quantile above which a tick counts as late-ish


def effective_samples(lateness: ArrayLike) -> float:
    """Of a sequence in its order: the smaller one of its values' and of its worst hundredth's."""
    values = np.asarray(lateness, np.float64)
    if values.size == 0:
        return 0.0
    above = (values > np.quantile(values, TAIL)).astype(np.float64)
    return min(_effective(values), _effective(above))


def share_bound(events: int, samples: float, confidence: float = 0.99) -> float | None:
    """The largest share that no event in `samples` independent ones leaves open; None where there were events."""
    if events or samples <= 0:
        return None
    return float(1.0 - (1.0 - confidence) ** (1.0 / samples))


def _effective(values: NDArray[np.float64]) -> float:
    return values.size / max(1.0, autocorrelation_time(values))


def autocorrelation_time(values: NDArray[np.float64]) -> float:
    """1 + 2 sum of the autocorrelations, up to the first pair of neighbours whose sum is not positive."""
    centred = values - values.mean()
    size = values.size
    spectrum = np.fft.rfft(centred, 2 * size)
    covariance = np.fft.irfft(spectrum * spectrum.conj())[:size]
    if covariance[0] <= 1e-12 * size:
        return 1.0  # a constant correlates with nothing
    correlation = covariance / covariance[0]
    pairs = correlation[: size // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.nonzero(pairs <= 0)[0]
    return float(2.0 * pairs[: ends[0] if ends.size else None].sum() - 1.0)
