"""The timing contract as claims: what must hold before anything moves. Pure.

Three kinds that are never mixed: *proved* is arithmetic on declared numbers, *bounded* is a measurement with
its confidence (p99.9 at 99 %), *observed* is the maximum that was seen and proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from numpy.typing import ArrayLike

from edgevla.control.schedule import Schedule
from edgevla.errors import Refused, explain
from edgevla.telemetry.stats import summarise, upper_bound_quantile
from profiles.bridge import wire_s
from profiles.model import ArmProfile, CameraSpec, Target

QUANTILE, CONFIDENCE = 0.999, 0.99
FIT = "differences"  # unit of the claims that bundle, target and arm speak of the same thing
_CEIL_SLACK = 1e-9  # ticks: 0.025 s / 0.0125 s is 2, not 2.0000000000000004


class BundleTiming(Protocol):
    """What the bundle owns: T in seconds, H, d_max and the spacing of what it remembers in ticks."""

    @property
    def period_s(self) -> float: ...
    @property
    def horizon(self) -> int: ...
    @property
    def d_max(self) -> int: ...
    @property
    def memory_ticks(self) -> int: ...


class CameraTiming(Protocol):
    """What the bundle says of a camera."""

    @property
    def name(self) -> str: ...
    @property
    def rate_hz(self) -> float: ...
    @property
    def when_missing(self) -> str: ...


@dataclass(frozen=True)
class Claim:
    """One inequality `left <= right` (or as `text` says), and whether it is kept. None: says nothing."""

    name: str
    kind: str  # proved | bounded | observed
    text: str  # the inequality in numbers
    left: float
    right: float
    unit: str
    samples: int
    confidence: float | None
    kept: bool | None
    todo: str = ""  # where it is broken, of what only this claim can say

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measurements:
    """Samples in seconds: one whole inference, and the host's share of a servo period (wake to last byte)."""

    inference_s: ArrayLike | None = None
    host_s: ArrayLike | None = None


def delay_ticks(latency_budget_s: float, period_s: float) -> int:
    """d = ceil(L / T)."""
    return max(1, math.ceil(latency_budget_s / period_s - _CEIL_SLACK))


def servo_period_s(timing: BundleTiming, target: Target) -> float:
    """Ts = T / n."""
    return timing.period_s / target.servo_ratio


def schedule_of(timing: BundleTiming, target: Target, blend_ticks: int | None = None) -> Schedule:
    """The schedule of a bundle on a target; `blend_ticks` as in `evaluate`.

    Raises Refused with the inequality that fails, in numbers.
    """
    require(_schedule_claims(timing, target, blend_ticks))
    delay = delay_ticks(target.latency_budget_s, timing.period_s)
    return Schedule(timing.horizon, delay, target.replan_ticks, target.survive_misses)


def evaluate(
    timing: BundleTiming,
    target: Target,
    arm: ArmProfile,
    measurements: Measurements | None = None,
    cameras: Sequence[CameraTiming] | None = None,
    accept_no_watchdog: bool = False,
    blend_ticks: int | None = None,
) -> list[Claim]:
    """All claims of the timing contract. Raises Unsound when a measurement has too few samples to bound.

    `blend_ticks`: b of a policy that takes no prefix (`edgevla.policy.blend.blend_ticks_of`), None for one that does.
    """
    measured = measurements or Measurements()
    return [
        *_schedule_claims(timing, target, blend_ticks),
        *_wire_claims(timing, target, arm, measured),
        *_watchdog_claims(timing, target, arm, accept_no_watchdog),
        _start_claim(timing, target, arm),
        *_camera_claims(timing, target, arm, cameras),
        *_inference_claims(target, measured),
    ]


def broken(claims: Iterable[Claim]) -> list[Claim]:
    """The claims that are not kept."""
    return [claim for claim in claims if claim.kept is False]


def require(claims: Sequence[Claim]) -> None:
    """Raises Refused that states every failing inequality in numbers."""
    failing = broken(claims)
    if failing:
        raise Refused(
            explain(
                "bundle, target and arm do not fit" if _unfit(failing) else "the timing contract cannot hold",
                "; ".join(claim.name for claim in failing),
                "; ".join(claim.text for claim in failing),
                _todo(failing),
            )
        )


def _unfit(failing: Sequence[Claim]) -> bool:
    return any(claim.unit == FIT for claim in failing)


def _todo(failing: Sequence[Claim]) -> str:
    """What the claims themselves say; of timing, that of other profiles, and where ticks are short a longer horizon."""
    said = list(dict.fromkeys(claim.todo for claim in failing if claim.todo))
    if _unfit(failing):
        return "; ".join(said)  # of a bundle for another arm the rest says nothing yet
    rest = [claim for claim in failing if not claim.todo]
    longer = ", or export the policy with a longer horizon" if any(c.unit == "ticks" for c in rest) else ""
    return "; ".join([*said, *([f"choose another target or arm profile{longer}"] if rest else [])])


def _ticks(name: str, text: str, left: int, right: int) -> Claim:
    return Claim(name, "proved", text, left, right, "ticks", 0, None, left <= right)


def _seconds(name: str, text: str, left: float, right: float, strict: bool = False) -> Claim:
    kept = left < right if strict else left <= right * (1 + _CEIL_SLACK)
    sign = "<" if strict else "<="
    numbers = f"{text}: {1e3 * left:.4g} ms {sign} {1e3 * right:.4g} ms"
    return Claim(name, "proved", numbers, left, right, "s", 0, None, kept)


def _schedule_claims(timing: BundleTiming, target: Target, blend_ticks: int | None) -> list[Claim]:
    h, r, m = timing.horizon, target.replan_ticks, target.survive_misses
    d = delay_ticks(target.latency_budget_s, timing.period_s)
    needed = d + (m + 1) * r
    return [
        _ticks("horizon", f"d + (m + 1) r <= H: {d} + {m + 1} * {r} = {needed} <= {h}", needed, h),
        _ticks("one inference in flight", f"d <= r: {d} <= {r}", d, r),
        _seam_claim(timing, d, r, blend_ticks),
        _ticks("servo ratio", f"1 <= n: 1 <= {target.servo_ratio}", 1, target.servo_ratio),
        *_memory_claims(timing, r),
    ]


def _memory_claims(timing: BundleTiming, r: int) -> list[Claim]:
    """A policy that remembers was trained on observations so far apart: at another rate it sees another speed."""
    spacing = timing.memory_ticks
    if not spacing:
        return []
    text = f"observations as far apart as in training, r = {spacing}: {r}"
    todo = f"set replan_ticks = {spacing} in the target profile"
    return [Claim("spacing of the memory", "proved", text, r, spacing, "ticks", 0, None, r == spacing, todo)]


def _seam_claim(timing: BundleTiming, d: int, r: int, blend_ticks: int | None) -> Claim:
    """A policy goes on from a prefix as long as it was trained with; without one, a seam is over before the next
    observation, which would otherwise take what the blend makes up for what the arm was meant to do."""
    if blend_ticks is None:
        return _ticks("trained prefix", f"d <= d_max: {d} <= {timing.d_max}", d, timing.d_max)
    done = d + blend_ticks
    text = f"no trained prefix: seams are blended over b ticks, d + b <= r: {d} + {blend_ticks} = {done} <= {r}"
    return _ticks("blended seams", text, done, r)


def _wire_claims(timing: BundleTiming, target: Target, arm: ArmProfile, measured: Measurements) -> list[Claim]:
    fixed = wire_s(arm) + arm.return_delay_s + arm.usb_turnaround_s
    period = servo_period_s(timing, target)
    claims = [_seconds("wire time", "wire + return delay + USB <= Ts", fixed, period)]
    if measured.host_s is not None:
        host = upper_bound_quantile(measured.host_s, QUANTILE, CONFIDENCE)
        claims.append(
            _bound(
                "servo period",
                "wire + return delay + USB + host p99.9 <= Ts",
                fixed + host,
                period,
                summarise(measured.host_s).count,
            )
        )
    return claims


def _bound(name: str, text: str, left: float, right: float, samples: int) -> Claim:
    numbers = f"{text}: {1e3 * left:.4g} ms <= {1e3 * right:.4g} ms"
    return Claim(name, "bounded", numbers, left, right, "s", samples, CONFIDENCE, left <= right)


def _watchdog_claims(timing: BundleTiming, target: Target, arm: ArmProfile, accept_no_watchdog: bool) -> list[Claim]:
    gap = 2 * servo_period_s(timing, target)  # one period overslept and skipped
    if arm.watchdog_s is None:
        text = "the arm has no watchdog: it keeps its last command when this computer dies; "
        text += "accepted by --accept-no-watchdog" if accept_no_watchdog else "pass --accept-no-watchdog to accept that"
        todo = "pass --accept-no-watchdog"
        return [Claim("watchdog", "proved", text, gap, math.inf, "s", 0, None, accept_no_watchdog, todo)]
    return [
        _seconds("watchdog", "largest command gap (2 Ts) < watchdog", gap, arm.watchdog_s, strict=True),
        _seconds("command expiry", "command_ttl <= watchdog", arm.command_ttl_s, arm.watchdog_s),
    ]


def _start_claim(timing: BundleTiming, target: Target, arm: ArmProfile) -> Claim:
    """An armed arm holds until the first release, d ticks after arming, and latches after `hold_s`."""
    first_s = delay_ticks(target.latency_budget_s, timing.period_s) * timing.period_s
    return _seconds("first chunk", "d T < hold_s", first_s, arm.hold_s, strict=True)


def _camera_claims(
    timing: BundleTiming, target: Target, arm: ArmProfile, cameras: Sequence[CameraTiming] | None
) -> list[Claim]:
    """Of the arm's cameras that the bundle names; without a bundle, of all."""
    specs = {spec.name: spec for spec in arm.cameras}
    asked = {camera.name: camera for camera in cameras} if cameras is not None else dict.fromkeys(specs)
    claims = []
    for name, camera in asked.items():
        if name in specs:
            claims += _one_camera(timing, target, arm, specs[name], camera)
        elif camera is not None and camera.when_missing == "refuse":
            known = ", ".join(specs) or "none"
            text = f"the bundle's camera {name!r} is one of the arm's: {known}"
            claims.append(Claim("camera", "proved", text, 1, 0, "cameras", 0, None, False))
    claims.append(_seconds("state age", "T <= max state age", timing.period_s, arm.max_state_age_s))
    return claims


def _one_camera(
    timing: BundleTiming, target: Target, arm: ArmProfile, spec: CameraSpec, camera: CameraTiming | None
) -> list[Claim]:
    period = 1.0 / spec.rate_hz
    skew = max(period + timing.period_s, servo_period_s(timing, target))
    claims = [
        _seconds(f"camera {spec.name} age", "camera period + T <= max age", period + timing.period_s, spec.max_age_s),
        _seconds(f"camera {spec.name} skew", "camera period + T <= max skew", skew, arm.max_skew_s),
    ]
    if camera is not None:
        name, text = f"camera {spec.name} rate", "camera period <= that of training"
        claims.append(_seconds(name, text, period, 1.0 / camera.rate_hz))
    return claims


def _inference_claims(target: Target, measured: Measurements) -> list[Claim]:
    if measured.inference_s is None:
        return []
    summary = summarise(measured.inference_s)
    bound = upper_bound_quantile(measured.inference_s, QUANTILE, CONFIDENCE)
    budget = target.latency_budget_s
    seen = f"largest inference seen: {1e3 * summary.maximum:.4g} ms (L is {1e3 * budget:.4g} ms)"
    return [
        _bound("inference", "inference p99.9 <= L", bound, budget, summary.count),
        Claim("inference maximum", "observed", seen, summary.maximum, budget, "s", summary.count, None, None),
    ]
