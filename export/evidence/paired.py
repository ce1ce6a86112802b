"""Success of two policies over the same seeds: pure statistics, no I/O, no scipy.

``reference`` is the model that was compressed (the teacher), ``candidate`` what came out (student, int8). The
loss is reference share minus candidate share: positive means the candidate succeeds less often.

Sources: McNemar 1947 (exact binomial form); Tango, Statistics in Medicine 17 (1998) 891-908
(score interval for paired proportions); Lan and DeMets, Biometrika 70 (1983) 659-663 (spending); Armitage,
McPherson and Rowe, JRSS A 132 (1969) 235-244 (recursive integration).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NORMAL = NormalDist()
_GRID = 801  # odd, for Simpson's rule; 801 points give boundaries right to 4 decimals


@dataclass(frozen=True)
class PairCounts:
    """The 2 x 2 table of n pairs. Only the discordant ones tell the two policies apart."""

    both: int
    only_reference: int
    only_candidate: int
    neither: int

    @property
    def pairs(self) -> int:
        return self.both + self.only_reference + self.only_candidate + self.neither

    @property
    def discordant(self) -> int:
        return self.only_reference + self.only_candidate

    @property
    def reference_share(self) -> float:
        return (self.both + self.only_reference) / self.pairs

    @property
    def candidate_share(self) -> float:
        return (self.both + self.only_candidate) / self.pairs

    @property
    def loss(self) -> float:
        return (self.only_reference - self.only_candidate) / self.pairs


def count_pairs(reference: ArrayLike, candidate: ArrayLike) -> PairCounts:
    """Count the four cells. Both are boolean, shape (n,), entry i of the same seed and scene."""
    ref, cand = np.asarray(reference, bool), np.asarray(candidate, bool)
    if ref.ndim != 1 or ref.shape != cand.shape or ref.size == 0:
        raise ValueError(
            f"paired success: expected two equal 1-D series with at least one pair, got {ref.shape} "
            f"and {cand.shape}; run both policies on the same seeds"
        )
    cells = (ref & cand, ref & ~cand, ~ref & cand, ~ref & ~cand)
    return PairCounts(*(int(cell.sum()) for cell in cells))


def mcnemar_exact(counts: PairCounts) -> float:
    """Two-sided exact p-value of 'both succeed equally often'; 1 when no pair is discordant."""
    n, k = counts.discordant, min(counts.only_reference, counts.only_candidate)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return float(min(1.0, 2 * tail / 2**n))  # int / int: exact, no overflow


def loss_z(only_reference: ArrayLike, only_candidate: ArrayLike, pairs: ArrayLike, loss: float) -> NDArray[np.float64]:
    """Tango's score statistic of 'the true loss is ``loss``'; positive when the observed loss is smaller.

    Its variance is that of the maximum-likelihood estimate under that loss: it does not collapse to 0 when no
    pair is discordant. Works on arrays.
    """
    b, c, n = (np.asarray(x, np.float64) for x in (only_reference, only_candidate, pairs))
    linear = (2 * n - b + c) * loss - b - c
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * loss * (1 - loss), 0.0))
    q_candidate = (root - linear) / (4 * n)  # share of pairs only the candidate wins, given the loss
    variance = n * np.maximum(2 * q_candidate + loss * (1 - loss), 1e-300)
    return np.asarray((n * loss - (b - c)) / np.sqrt(variance), np.float64)


def loss_interval(counts: PairCounts, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's two-sided score interval of the loss."""
    z = _two_sided_z(confidence)
    return _loss_limit(counts, -z), _loss_limit(counts, z)


def loss_upper_bound(counts: PairCounts, confidence: float = 0.95) -> float:
    """One-sided upper bound of the loss: the loss is smaller than this with the given confidence."""
    return _loss_limit(counts, _NORMAL.inv_cdf(confidence))


def _loss_limit(counts: PairCounts, z: float) -> float:
    """Solve loss_z(loss) = z; loss_z grows with loss from -inf to +inf."""
    low, high = (counts.loss, 1.0) if z > 0 else (-1.0, counts.loss)
    for _ in range(60):
        middle = (low + high) / 2
        below = loss_z(counts.only_reference, counts.only_candidate, counts.pairs, middle) < z
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2


def pairs_needed(discordance: float, margin: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Pairs for one fixed look, when there is no true loss and a share ``discordance`` of pairs disagrees."""
    z = _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)
    return math.ceil(z * z * discordance / margin**2)


@dataclass(frozen=True)
class Comparison:
    """Everything one line of the report says about a pair of policies."""

    counts: PairCounts
    loss: float
    low: float
    high: float
    upper95: float
    mcnemar_p: float

    def as_dict(self) -> dict[str, Any]:
        c = self.counts
        return {
            "pairs": c.pairs,
            "both": c.both,
            "only_reference": c.only_reference,
            "only_candidate": c.only_candidate,
            "neither": c.neither,
            "reference": c.reference_share,
            "candidate": c.candidate_share,
            "loss": self.loss,
            "loss_low95": self.low,
            "loss_high95": self.high,
            "loss_upper95": self.upper95,
            "mcnemar_p": self.mcnemar_p,
        }


def compare(reference: ArrayLike, candidate: ArrayLike) -> Comparison:
    """Compare two boolean series of the same seeds."""
    return compare_counts(count_pairs(reference, candidate))


def compare_counts(counts: PairCounts) -> Comparison:
    """Compare from the 2 x 2 table."""
    low, high = loss_interval(counts)
    return Comparison(counts, counts.loss, low, high, loss_upper_bound(counts), mcnemar_exact(counts))


# --- group-sequential non-inferiority ---


@dataclass(frozen=True)
class Design:
    """Declared BEFORE the first episode: margin, alpha, and after how many pairs one may look and stop."""

    margin: float = 0.03
    alpha: float = 0.05
    looks: tuple[int, ...] = (250, 500, 750, 1000)

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0, *self.looks), self.looks, strict=False))
        if not self.looks or not rising or not 0 < self.margin < 1 or not 0 < self.alpha < 0.5:
            raise ValueError(
                f"sequential design: expected rising looks, 0 < margin < 1, 0 < alpha < 0.5; got looks "
                f"{self.looks}, margin {self.margin}, alpha {self.alpha}"
            )

    @property
    def boundaries(self) -> tuple[float, ...]:
        """z to reach at each declared look."""
        return _boundaries(self.looks, self.alpha)


@lru_cache(maxsize=64)
def _boundaries(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    return sequential_boundaries([n / looks[-1] for n in looks], alpha)


@dataclass(frozen=True)
class Look:
    """One look. ``upper_bound`` is the repeated one-sided bound: valid although one looked several times."""

    pairs: int
    loss: float
    z: float
    boundary: float
    alpha_spent: float
    upper_bound: float
    non_inferior: bool


@dataclass(frozen=True)
class Verdict:
    """``decision``: non-inferior | continue (a declared look is still to come) | not shown (all used)."""

    decision: str
    looks: tuple[Look, ...]
    design: Design

    @property
    def next_look(self) -> int | None:
        """Pairs at which to look next; None when finished."""
        return self.design.looks[len(self.looks)] if self.decision == "continue" else None

    def as_dict(self) -> dict[str, Any]:
        d = self.design
        return {
            "decision": self.decision,
            "margin": d.margin,
            "alpha": d.alpha,
            "declared_looks": list(d.looks),
            "looks": [dict(look.__dict__) for look in self.looks],
        }


def obrien_fleming_spending(fraction: float, alpha: float) -> float:
    """Alpha spent at an information fraction in (0, 1]: 2 (1 - Phi(z_{alpha/2} / sqrt(t))), one-sided."""
    return 2 * _upper_tail(_NORMAL.inv_cdf(1 - alpha / 2) / math.sqrt(fraction))


def sequential_boundaries(fractions: Sequence[float], alpha: float) -> tuple[float, ...]:
    """z boundaries at the information fractions, so that each look spends just its own share of alpha."""
    boundaries: list[float] = []
    grid: NDArray[Any]
    density: NDArray[Any]
    grid, density = np.zeros(1), np.ones(1)  # Brownian motion starts at 0 with mass 1
    spent, before = 0.0, 0.0
    for fraction in fractions:
        step = math.sqrt(fraction - before)
        share = max(obrien_fleming_spending(fraction, alpha) - spent, 1e-14)
        limit = _bisect(lambda x: _crossing(grid, density, step, x) - share, -8.0, 12.0)  # noqa: B023
        boundaries.append(limit / math.sqrt(fraction))
        grid, density = _survivors(grid, density, step, limit, math.sqrt(fraction))
        spent, before = spent + share, fraction
    return tuple(boundaries)


def sequential_verdict(design: Design, looks: Sequence[PairCounts]) -> Verdict:
    """Judge cumulative counts taken at the declared looks, in order; stops at the first crossing."""
    for expected, counts in zip(design.looks, looks, strict=False):
        if counts.pairs != expected:
            raise ValueError(
                f"sequential look: expected {expected} pairs as declared, got {counts.pairs}; looks cannot be moved"
            )
    if len(looks) > len(design.looks):
        raise ValueError(f"sequential look: {len(design.looks)} looks were declared, got {len(looks)}")
    taken: list[Look] = []
    for counts, boundary in zip(looks, design.boundaries, strict=False):
        taken.append(_look(design, counts, boundary))
        if taken[-1].non_inferior:
            return Verdict("non-inferior", tuple(taken), design)
    return Verdict("continue" if len(taken) < len(design.looks) else "not shown", tuple(taken), design)


def _look(design: Design, counts: PairCounts, boundary: float) -> Look:
    z = float(loss_z(counts.only_reference, counts.only_candidate, counts.pairs, design.margin))
    spent = obrien_fleming_spending(counts.pairs / design.looks[-1], design.alpha)
    return Look(counts.pairs, counts.loss, z, boundary, spent, _loss_limit(counts, boundary), z >= boundary)


def _crossing(grid: NDArray[Any], density: NDArray[Any], step: float, limit: float) -> float:
    """Probability that the next position exceeds ``limit``, not having stopped before."""
    tails = np.array([_upper_tail((limit - x) / step) for x in grid])
    return _simpson(density * tails, grid)


def _survivors(
    grid: NDArray[Any], density: NDArray[Any], step: float, limit: float, scale: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sub-density of the position below ``limit`` after one more step."""
    to = np.linspace(-8 * scale, limit, _GRID)
    kernel = np.exp(-0.5 * ((to[:, None] - grid[None, :]) / step) ** 2) / (step * math.sqrt(2 * math.pi))
    return to, np.array([_simpson(row * density, grid) for row in kernel])


def _simpson(values: NDArray[Any], grid: NDArray[Any]) -> float:
    if grid.size == 1:  # the point mass at the start
        return float(values[0])
    weights = np.ones(grid.size)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    return float(values @ weights * (grid[1] - grid[0]) / 3)


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """Root of a falling function."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2


def _upper_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _two_sided_z(confidence: float) -> float:
    return _NORMAL.inv_cdf(0.5 + confidence / 2)
