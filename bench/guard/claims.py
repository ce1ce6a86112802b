"""What a run may claim of its stages: proved, bounded at a confidence, or observed. Pure; the three are never mixed.

Neighbouring samples share their stalls, so a bound counts effective samples (`bench.effective`), not samples: it is the
order statistic that so many independent samples would allow, at the same share from the top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.effective import effective_samples
from bench.guard.budget import CONFIDENCE, Budget, Limit
from bench.guard.stages import REPORTED
from bench.hdr import Histogram, histogram_of
from edgevla.control.timing import Claim as Contract
from edgevla.telemetry.stats import exceedances_allowed, samples_needed

Float64 = NDArray[np.float64]
QUANTILES = (0.999, 0.99, 0.9, 0.5)  # the highest that the effective samples allow is bounded where nobody asked


@dataclass(frozen=True)
class Claim:
    """`value_us <= limit_us`, times in microseconds; None: not applicable. `kept` None: not judged."""

    name: str
    stage: str
    kind: str  # proved | bounded | observed
    limit_us: float | None
    value_us: float | None
    samples: int
    effective_samples: float | None
    confidence: float | None
    quantile: float | None
    kept: bool | None
    text: str = ""

    @property
    def slack_us(self) -> float | None:
        """What the stage could take longer before the claim breaks."""
        return None if self.limit_us is None or self.value_us is None else self.limit_us - self.value_us

    def as_dict(self) -> dict[str, Any]:
        times = {"limit_us": self.limit_us, "value_us": self.value_us, "slack_us": self.slack_us}
        rounded = {key: None if value is None else round(value, 3) for key, value in times.items()}
        effective = None if self.effective_samples is None else round(self.effective_samples, 1)
        return {**asdict(self), **rounded, "effective_samples": effective}


@dataclass(frozen=True)
class Measured:
    """One stage: its samples in the order in which they were due, segment by segment, ns."""

    name: str
    segments: tuple[Float64, ...]
    histogram: Histogram
    effective: float

    @property
    def samples_ns(self) -> Float64:
        return np.concatenate(self.segments)

    def bound_ns(self, quantile: float, confidence: float) -> int | None:
        """Value that the true quantile does not exceed at that confidence; None: too few effective samples."""
        effective = math.floor(self.effective)
        if effective < samples_needed(quantile, confidence):
            return None
        share = exceedances_allowed(effective, quantile, confidence) / effective
        count = self.histogram.count
        return self.histogram.at_rank(count - 1 - math.floor(share * count))


def measured(name: str, segments: Sequence[Float64]) -> Measured | None:
    """None where nothing was measured."""
    kept = tuple(segment for segment in segments if segment.size)
    if not kept:
        return None
    effective = sum(effective_samples(segment) for segment in kept)
    return Measured(name, kept, histogram_of(np.concatenate(kept)), effective)


def proved(contract: Sequence[Contract], period_s: float) -> list[Claim]:
    """The arithmetic of the timing contract; ticks as the time that they last."""
    scale = {"s": 1e6, "ticks": period_s * 1e6}
    return [
        Claim(
            found.name,
            "contract",
            "proved",
            found.right * scale[found.unit] if math.isfinite(found.right) else None,
            found.left * scale[found.unit],
            0,
            None,
            None,
            None,
            found.kept,
            found.text,
        )
        for found in contract
        if found.kind == "proved" and found.unit in scale
    ]


def bounded(stages: Mapping[str, Measured], budget: Budget, natural_us: Mapping[str, float]) -> list[Claim]:
    """A claim for every limit of the budget, and one for each stage that has none. Stages in their order.

    natural_us: limits that need no budget, as bundle, target and arm declare them.
    """
    found: list[Claim] = []
    for name, stage in stages.items():
        limits = [] if name in REPORTED else budget.of(name)
        found += [_limited(stage, limit) for limit in limits] or [_described(stage, natural_us.get(name))]
    return found


def _limited(stage: Measured, limit: Limit) -> Claim:
    """kept None: the effective samples do not bound that quantile."""
    bound_ns = stage.bound_ns(limit.quantile, limit.confidence)
    value_us = None if bound_ns is None else bound_ns / 1e3
    kept = None if value_us is None else value_us <= limit.limit_us
    return _claim(stage, limit.quantile, limit.confidence, limit.limit_us, value_us, kept)


def _described(stage: Measured, limit_us: float | None) -> Claim:
    """The highest quantile that the effective samples bound."""
    for quantile in QUANTILES:
        bound_ns = stage.bound_ns(quantile, CONFIDENCE)
        if bound_ns is not None:
            kept = None if limit_us is None else bound_ns / 1e3 <= limit_us
            return _claim(stage, quantile, CONFIDENCE, limit_us, bound_ns / 1e3, kept)
    return _claim(stage, QUANTILES[-1], CONFIDENCE, limit_us, None, None)


def _claim(
    stage: Measured,
    quantile: float,
    confidence: float,
    limit_us: float | None,
    value_us: float | None,
    kept: bool | None,
) -> Claim:
    name = f"{stage.name} p{100 * quantile:g}"
    count = stage.histogram.count
    return Claim(name, stage.name, "bounded", limit_us, value_us, count, stage.effective, confidence, quantile, kept)


def observed(stages: Mapping[str, Measured]) -> list[Claim]:
    """The largest of each stage: what was seen, which proves nothing."""
    return [
        Claim(
            f"{name} maximum",
            name,
            "observed",
            None,
            stage.histogram.maximum_ns / 1e3,
            stage.histogram.count,
            None,
            None,
            None,
            None,
        )
        for name, stage in stages.items()
    ]


def late_commands(past_expiry_ns: NDArray[np.int64], samples: int) -> Claim:
    """No command is written after its expiry. past_expiry_ns: of those that were, how long after."""
    largest_us = float(past_expiry_ns.max()) / 1e3 if past_expiry_ns.size else 0.0
    text = f"{past_expiry_ns.size} commands written after their expiry"
    kept = not past_expiry_ns.size
    return Claim("late commands", "bus", "observed", 0.0, largest_us, samples, None, None, None, kept, text)


def broken(claims: Sequence[Claim]) -> list[Claim]:
    return [claim for claim in claims if claim.kept is False]


def unjudged(claims: Sequence[Claim]) -> list[Claim]:
    """Bounded claims with a limit that the samples cannot bound."""
    return [c for c in claims if c.kind == "bounded" and c.limit_us is not None and c.value_us is None]


def broken_beyond_blame(claims: Sequence[Claim], stages: Mapping[str, Measured]) -> list[Claim]:
    """Broken whatever spoiled single samples: even the median of the stage is over its limit.

    Stolen time, drift and a short run spoil tails, never half of all samples.
    """
    return [
        claim
        for claim in [*broken(claims), *unjudged(claims)]
        if claim.kind == "bounded"
        and claim.stage in stages
        and claim.limit_us is not None
        and stages[claim.stage].histogram.quantile_ns(0.5) / 1e3 > claim.limit_us
    ]
