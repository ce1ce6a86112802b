"""The self-test's verdict: what a disarmed run at the operating rate showed, as claims with their confidence. Pure.

Bounded claims speak of p95 or p99 at 99 %: of 20 s of samples that is what can be said. `edgevla check` bounds p99.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevla.check.exercise import Window
from edgevla.control.exchange import Status
from edgevla.control.ladder import Phase
from edgevla.control.plan import RunPlan
from edgevla.control.timing import Claim, broken
from edgevla.telemetry.stats import samples_needed, upper_bound_quantile

CONFIDENCE = 0.99
OFTEN, MOST = 0.95, 0.99  # quantiles: of the servo's punctuality and of inferences; of the bus
RATE_SHARE = 0.9  # of a camera's rate
STOLEN_SHARE = 0.01  # of the time: more than that, and a late step says nothing of the release
LOST_SHARE = 0.05  # of what goes on the flight record
TIMING = ("servo", "bus", "camera", "cameras", "policy", "recorder")
_WRONG_INPUT = (Status.NO_FRAME, Status.OLD_FRAME, Status.SKEWED, Status.OLD_STATE, Status.IMPOSSIBLE)

LEAST_INFERENCES = samples_needed(OFTEN, CONFIDENCE)  # 90
LEAST_STEPS = samples_needed(MOST, CONFIDENCE)  # 459


def claims_of(
    plan: RunPlan,
    window: Window,
    ticks: NDArray[Any],
    inferences: NDArray[Any],
    figures: Mapping[str, Any],
    sources: Sequence[str],
) -> list[Claim]:
    """One claim a part. `figures`: of the run's result; `sources`: cameras that a source was given for.

    Raises Unsound: too few samples.
    """
    steps = ticks[(ticks["deadline_ns"] >= window.begin_ns) & (ticks["deadline_ns"] <= window.end_ns)]
    asked = inferences[(inferences["asked_ns"] >= window.begin_ns) & (inferences["asked_ns"] <= window.end_ns)]
    return [
        _disarmed(ticks),
        _servo(plan, steps),
        _bus(plan, steps),
        *(_camera(plan, window, name) for name in sources),
        *([_inputs(plan, asked)] if sources else []),
        _policy(plan, window, asked),
        _recorder(figures.get("recorder", {}), int(figures.get("events_not_recorded", 0))),
        _restarts(figures),
    ]


def only_timing_broken(claims: Sequence[Claim]) -> bool:
    """Nothing else is broken than what a busy machine breaks."""
    found = broken(claims)
    return bool(found) and all(claim.name.partition(" ")[0] in TIMING for claim in found)


def _disarmed(ticks: NDArray[Any]) -> Claim:
    commanded = int((ticks["phase"] != Phase.DISARMED).sum() + (ticks["write_ns"] > 0).sum())
    return _count("disarmed", f"{commanded} of {len(ticks)} steps commanded anything", commanded, len(ticks))


def _servo(plan: RunPlan, steps: NDArray[Any]) -> Claim:
    """Lateness of every step that was due: one that was overslept never came."""
    step_s = plan.period_s / plan.target.servo_ratio
    late_s = (steps["wake_ns"] - steps["deadline_ns"]) * 1e-9
    overslept = int(np.maximum(np.diff(steps["step"]) - 1, 0).sum())
    samples = np.concatenate([late_s, np.full(overslept, np.inf)])
    return _bounded("servo", "wake after deadline p95 <= Ts / 2", samples, OFTEN, step_s / 2)


def _bus(plan: RunPlan, steps: NDArray[Any]) -> Claim:
    """Age of the newest state at each step, on whose bus all joints have to answer once a step."""
    known = steps["state_stamp_ns"] > 0
    age_s = np.where(known, (steps["wake_ns"] - steps["state_stamp_ns"]) * 1e-9, np.inf)
    return _bounded("bus", "age of the joint state p99 <= max state age", age_s, MOST, plan.arm.max_state_age_s)


def _policy(plan: RunPlan, window: Window, asked: NDArray[Any]) -> Claim:
    """Observation to chunk; what failed, was refused, passed over or never answered took for ever."""
    sound = asked[asked["status"] == Status.OK]
    failed = max(0, window.asked - len(sound)) + window.passed_over
    latency_s = np.concatenate([(sound["done_ns"] - sound["asked_ns"]) * 1e-9, np.full(failed, np.inf)])
    text = f"observation to chunk p95 <= L, {failed} without a chunk"
    return _bounded("policy", text, latency_s, OFTEN, plan.target.latency_budget_s)


def _inputs(plan: RunPlan, asked: NDArray[Any]) -> Claim:
    """Age of the oldest camera's frame at each inference; refused inputs were too old, absent or of other moments."""
    refused = np.isin(asked["status"], _WRONG_INPUT) | (asked["frame_age_ns"] < 0)
    age_s = np.where(refused, np.inf, asked["frame_age_ns"] * 1e-9)
    limit_s = max(camera.max_age_s for camera in plan.cameras)
    return _bounded("cameras", "age of the frames p95 <= max age, none refused", age_s, OFTEN, limit_s)


def _camera(plan: RunPlan, window: Window, name: str) -> Claim:
    wanted_hz = next(camera.rate_hz for camera in plan.cameras if camera.name == name)
    (first, begin_ns), (newest, end_ns) = window.frames.get(name, [(0, 0), (0, 0)])
    frames = newest - first
    rate_hz = frames * 1e9 / (end_ns - begin_ns) if end_ns > begin_ns else 0.0
    text = f"{RATE_SHARE:g} of the declared rate: {RATE_SHARE * wanted_hz:.4g} Hz <= {rate_hz:.4g} Hz"
    kept = rate_hz >= RATE_SHARE * wanted_hz
    return Claim(f"camera {name}", "observed", text, RATE_SHARE * wanted_hz, rate_hz, "Hz", frames, None, kept)


def _recorder(told: Mapping[str, Any], events_lost: int) -> Claim:
    lost, messages = int(told.get("lost", 0)) + events_lost, int(told.get("messages", 0))
    if "message" in told or messages < LEAST_INFERENCES:
        return _count("recorder", str(told.get("message") or f"only {messages} messages"), 1, messages)
    allowed = LOST_SHARE * (messages + lost)
    kept = few(lost, messages + lost)
    text = f"share of messages lost <= {LOST_SHARE:g}: {lost} of {messages + lost}"
    return Claim("recorder", "bounded", text, lost, allowed, "", messages + lost, CONFIDENCE, kept)


def few(hits: int, trials: int) -> bool:
    """Whether `hits` of `trials` show at `CONFIDENCE` that the share is at most `LOST_SHARE`."""
    return upper_bound_quantile(np.arange(trials) >= trials - hits, 1.0 - LOST_SHARE, CONFIDENCE) == 0.0


def _restarts(figures: Mapping[str, Any]) -> Claim:
    policy, cameras = int(figures.get("policy_restarts", 0)), int(figures.get("camera_stalls", 0))
    return _count("processes", f"{policy} restarts of the policy, {cameras} stalls of a camera", policy + cameras, 0)


def _count(name: str, text: str, wrong: int, samples: int) -> Claim:
    return Claim(name, "observed", text, wrong, 0, "", samples, None, wrong == 0)


def _bounded(name: str, text: str, samples: NDArray[Any], quantile: float, limit_s: float) -> Claim:
    bound_s = upper_bound_quantile(samples, quantile, CONFIDENCE)
    numbers = f"{text}: {1e3 * bound_s:.4g} ms <= {1e3 * limit_s:.4g} ms"
    kept = bound_s <= limit_s
    return Claim(name, "bounded", numbers, bound_s, limit_s, "s", len(samples), CONFIDENCE, kept)
