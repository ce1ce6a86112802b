"""The document of a guarded run: `edgevla.guard/1`, its verdict, and the table that a terminal shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.effective import autocorrelation_time
from bench.guard import sound as soundness
from bench.guard.budget import Budget
from bench.guard.claims import (
    Claim,
    Measured,
    bounded,
    broken,
    broken_beyond_blame,
    late_commands,
    measured,
    observed,
    proved,
)
from bench.guard.drift import Drift, drift_of
from bench.guard.drive import Segment, Setup
from bench.guard.sound import Reason
from bench.tail import fit_tail
from edgevla.control.timing import evaluate

SCHEMA = "edgevla.guard/1"
_FAR = 0.9999


@dataclass(frozen=True)
class Guarded:
    """The verdict and the document that says why."""

    document: dict[str, Any]
    claims: tuple[Claim, ...]
    reasons: tuple[Reason, ...]
    exit_code: int

    @property
    def broken(self) -> list[Claim]:
        return broken(self.claims)


def guarded(setup: Setup, budget: Budget, segments: Sequence[Segment], host: Mapping[str, Any]) -> Guarded:
    """Everything that the segments say together. At least one segment."""
    names = segments[0].series
    found = {name: measured(name, [segment.series[name] for segment in segments]) for name in names}
    stages = {name: stage for name, stage in found.items() if stage is not None}
    drifts = {name: drift_of(stage.samples_ns) for name, stage in stages.items()}
    facts = [segment.facts for segment in segments]
    claims = [
        *_proved(setup),
        *bounded(stages, budget, natural_limits_us(setup)),
        *_to_the_end(facts),
        late_commands(
            np.concatenate([np.array(one["past_expiry_ns"], np.int64) for one in facts]),
            sum(one["commands"] for one in facts),
        ),
        *observed(stages),
    ]
    reasons = [*_reasons(budget, facts), *soundness.of_samples(claims, stages, drifts)]
    beyond = broken_beyond_blame(claims, stages)
    document = {
        "schema": SCHEMA,
        "claims": [claim.as_dict() for claim in claims],
        "sound": not reasons,
        "unsound_because": [reason.text for reason in reasons],
        "broken_beyond_blame": [claim.name for claim in beyond],
        "host": dict(host),
        **{key: value for key, value in facts[0]["key"].items() if key != "engine"},
        "schedule": _schedule(setup),
        "segments": [{key: one[key] for key in ("wall_s", "stolen_s", "stop", "misses")} for one in facts],
        "stages": {name: _stage(stage, drifts[name]) for name, stage in stages.items()},
        "ladder": [{"segment": at, **event} for at, one in enumerate(facts) for event in one["ladder"]],
        "ticks": facts[-1]["ticks"],
        "memory": facts[-1]["memory"],
        "energy": facts[-1]["energy"],
    }
    code = soundness.exit_code(len(broken(claims)), reasons, len(beyond))
    return Guarded(document, tuple(claims), tuple(reasons), code)


def natural_limits_us(setup: Setup) -> dict[str, float]:
    """Limits that bundle, target and arm declare themselves."""
    plan = setup.plan
    ages_s = [camera.max_age_s for camera in plan.cameras]
    return {"policy": plan.target.latency_budget_s * 1e6, **({"age": min(ages_s) * 1e6} if ages_s else {})}


def _proved(setup: Setup) -> list[Claim]:
    plan, manifest = setup.plan, setup.bundle.manifest
    contract = evaluate(manifest.timing, plan.target, plan.arm, None, manifest.cameras, True, plan.blend_ticks)
    return proved(contract, plan.period_s)


def _to_the_end(facts: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """A run that latched or was stopped by its arm is a broken claim of its own."""
    ended = [one["stop"]["reason"] for one in facts if one["stop"]["code"]]
    text = ended[0] if ended else "every segment ran for its time"
    return [Claim("run to its end", "run", "observed", None, None, len(facts), None, None, None, not ended, text)]


def _reasons(budget: Budget, facts: Sequence[Mapping[str, Any]]) -> list[Reason]:
    stolen, wall_s = (sum(one[key] for one in facts) for key in ("stolen_s", "wall_s"))
    missing = sorted({text for one in facts for text in one["missing"]})
    operator = next((one["stop"]["reason"] for one in facts if one["stop"]["operator"]), "")
    machine = {reason["text"]: Reason(**reason) for one in facts for reason in one["machine"]}
    return [*soundness.of_run(budget.sound, stolen, wall_s, missing, operator), *machine.values()]


def _schedule(setup: Setup) -> dict[str, Any]:
    plan = setup.plan
    numbers = {"H": "horizon", "d": "delay", "r": "replan", "m": "survive"}
    said = {letter: getattr(plan.schedule, name) for letter, name in numbers.items()}
    return {"period_s": plan.period_s, "servo_ratio": plan.target.servo_ratio, **said, "warm_up_s": setup.warm_up_s}


def _stage(stage: Measured, drift: Drift) -> dict[str, Any]:
    histogram, samples_ns = stage.histogram, stage.samples_ns
    quantiles = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    longest = max(stage.segments, key=len)
    return {
        **{key: round(histogram.quantile_ns(quantile) / 1e3, 3) for key, quantile in quantiles.items()},
        "max_us": round(histogram.maximum_ns / 1e3, 3),
        "count": histogram.count,
        "effective_samples": round(stage.effective, 1),
        "autocorrelation_ticks": round(autocorrelation_time(longest), 2),
        "hdr": histogram.encoded,
        "blocks": list(drift.blocks),
        "drift": {
            "test": "Kruskal-Wallis",
            "p_value": None if drift.p_value is None else float(f"{drift.p_value:.3g}"),
            "spread": round(drift.spread, 4),
            "significant": drift.significant,
        },
        "tail": _tail(samples_ns / 1e3),
    }


def _tail(samples_us: Any) -> dict[str, Any] | None:
    fit = fit_tail(samples_us)
    if fit is None:
        return None
    return {
        "threshold_us": round(fit.threshold, 3),
        "shape": round(fit.shape, 4),
        "scale_us": round(fit.scale, 3),
        "exceedances": fit.exceedances,
        "fit": {
            "test": "Anderson-Darling",
            "statistic": round(fit.statistic, 4),
            "p_value": round(fit.p_value, 4),
        },
        "p9999_us_estimate": round(fit.quantile(_FAR), 3),
        "estimate": True,
    }


def table(claims: Sequence[Claim]) -> list[tuple[str, ...]]:
    """Claim, kind, value, limit, slack, samples (effective), verdict."""
    return [
        (
            claim.name,
            _kind(claim),
            _us(claim.value_us),
            _us(claim.limit_us),
            _us(claim.slack_us),
            _count(claim),
            _verdict(claim),
        )
        for claim in claims
        if claim.kept is not None or claim.kind != "observed"
    ]


def _verdict(claim: Claim) -> str:
    if claim.kept is None:
        return "not judged" if claim.limit_us is None else "too few samples"
    return "kept" if claim.kept else "BROKEN"


def _kind(claim: Claim) -> str:
    return claim.kind if claim.confidence is None else f"{claim.kind} at {100 * claim.confidence:g} %"


def _us(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _count(claim: Claim) -> str:
    if not claim.samples:
        return "-"
    effective = "" if claim.effective_samples is None else f" ({claim.effective_samples:,.0f})"
    return f"{claim.samples:,}{effective}"
