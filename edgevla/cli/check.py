"""`edgevla check`: the timing contract of a bundle on a target with an arm, proved and measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.text import Text

import profiles
from edgevla.bundle import Bundle, open_bundle
from edgevla.check.compatible import compatibility
from edgevla.cli.output import JSON_OPTION, kept, print_json, print_table, say
from edgevla.control.timing import CONFIDENCE, QUANTILE, Claim, Measurements, broken, evaluate, require
from edgevla.doctor.board import target_here
from edgevla.errors import Unsound, explain
from edgevla.policy.blend import blend_ticks_of
from edgevla.telemetry.stats import samples_needed
from profiles import ArmProfile, Target
from profiles.bridge import require_driver
from profiles.calibrated import load_calibrated

if TYPE_CHECKING:
    from edgevla.check.measure import Measured


_IDLE_SHARE = 0.95  # of its core that a probe must have had for a broken bound to count


def check(
    path: Path = typer.Argument(..., metavar="BUNDLE", help="Folder NAME.bundle"),
    target: str = typer.Option("", help="Name or .toml of the target; default: the bundle's"),
    arm: str = typer.Option("", help="Name or .toml of the arm; default: the bundle's"),
    samples: int = typer.Option(10_000, min=1, help="Of each measurement; below 4,603 nothing is bounded"),
    arithmetic_only: bool = typer.Option(False, "--arithmetic-only", help="Prove, measure nothing"),
    best_effort: bool = typer.Option(False, "--best-effort", help="Measure without real-time priority too"),
    calibration: Path | None = typer.Option(None, help="File of `edgevla arm calibrate`, or LeRobot's"),
    accept_no_watchdog: bool = typer.Option(False, "--accept-no-watchdog", help="For an arm without one"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Prove and measure the timing claims of a bundle; refuse (exit 1) what cannot hold, in numbers.

    Example: edgevla check out/student.bundle --target host --arm metaworld-sawyer
    """
    bundle = open_bundle(path)
    arm_name = arm or bundle.manifest.arm
    computer, device = profiles.load_target(target or bundle.manifest.target), load_calibrated(arm_name, calibration)
    if not arithmetic_only and computer.arch == platform.machine():
        computer = target_here(computer)
    require_driver(device)
    claims = _claims(bundle, computer, device, None, accept_no_watchdog)
    notes, cpu_share = ["arithmetic only: nothing was measured"] if arithmetic_only else [], 1.0
    if not arithmetic_only and not broken(claims):
        _require_measurable(computer, samples)
        if not as_json:
            say(f"measuring {samples:,} inferences and {samples:,} servo periods side by side ...", "dim")
        result = _measure(bundle, computer, device, arm_name, samples, best_effort)
        measured = Measurements(result.inference_s, result.host_s)
        claims = _claims(bundle, computer, device, measured, accept_no_watchdog)
        claims.append(_paced(result.paced_s, computer.replan_ticks * bundle.manifest.timing.period_s, computer))
        notes, cpu_share = _notes(result), result.cpu_share
    _print(claims, notes, bundle, computer, device, as_json)
    _require_idle(claims, cpu_share)
    require(claims)


def _claims(
    bundle: Bundle, target: Target, arm: ArmProfile, measured: Measurements | None, accept: bool
) -> list[Claim]:
    manifest = bundle.manifest
    blend = blend_ticks_of(manifest)
    timing = evaluate(manifest.timing, target, arm, measured, manifest.cameras, accept, blend)
    return [*compatibility(manifest, target, arm), *timing]


def _require_measurable(target: Target, samples: int) -> None:
    """Raises Unsound before minutes are spent on what would prove nothing."""
    needed = samples_needed(QUANTILE, CONFIDENCE)
    if samples < needed:
        what = f"too few samples to bound p{100 * QUANTILE:g} at {100 * CONFIDENCE:g} %"
        raise Unsound(explain(what, f"at least {needed:,}", f"{samples:,}", "leave --samples out"))
    if target.arch != platform.machine():
        raise Unsound(
            explain(
                f"target {target.name} cannot be measured on this machine",
                target.arch,
                platform.machine(),
                "call `edgevla check` on the target itself; here --arithmetic-only proves the rest",
            )
        )


def _measure(
    bundle: Bundle, target: Target, arm: ArmProfile, arm_name: str, samples: int, best_effort: bool
) -> Measured:
    from edgevla.check.measure import measure

    result = measure(bundle, target, arm, arm_name, samples)
    if result.missing and not best_effort:
        raise Unsound(
            explain(
                "the kernel did not grant what a servo needs",
                "SCHED_FIFO, locked memory and its core",
                "; ".join(result.missing),
                "give the user CAP_SYS_NICE and a memlock limit, or measure with --best-effort",
            )
        )
    return result


def _notes(result: Measured) -> list[str]:
    servo = f"servo measured at {1e3 * result.servo_period_s:g} ms, beside an inference process at full load"
    share = f"inference had the processor {100 * result.cpu_share:.0f} % of its time"
    return [servo, share, *(f"BEST EFFORT, not granted: {missing}" for missing in result.missing)]


def _require_idle(claims: Sequence[Claim], cpu_share: float) -> None:
    """A latency above its bound says nothing of the bundle when another program had the processor."""
    only_inference = [claim.name for claim in broken(claims)] == ["inference"]
    if only_inference and cpu_share < _IDLE_SHARE:
        raise Unsound(
            explain(
                "inference latency could not be measured soundly: other programs took the processor",
                f"the processor {100 * _IDLE_SHARE:.0f} % of the time, and inference within its budget",
                f"{100 * cpu_share:.0f} %, and " + next(c.text for c in claims if c.name == "inference"),
                "end what else runs on this machine and measure again",
            )
        )


def _paced(paced_s: NDArray[np.float64], pause_s: float, target: Target) -> Claim:
    largest, count = float(np.max(paced_s)), len(paced_s)
    text = f"largest of {count} with {1e3 * pause_s:g} ms between, as in operation: {1e3 * largest:.4g} ms"
    return Claim("inference at leisure", "observed", text, largest, target.latency_budget_s, "s", count, None, None)


def _print(
    claims: Sequence[Claim],
    notes: Sequence[str],
    bundle: Bundle,
    target: Target,
    arm: ArmProfile,
    as_json: bool,
) -> None:
    if as_json:
        print_json(_summary(claims, notes, bundle, target, arm))
        return
    title = f"{bundle.manifest.name} on {target.name} with {arm.name}"
    print_table(title, ["claim", "kind", "in numbers", "n", ""], [claim_row(claim) for claim in claims])
    for note in notes:
        say(note, "bold" if note.isupper() or note.startswith("BEST") else "dim")
    if not target.measured:
        say(f"the latency budget of {target.name} is declared and was not measured on the device", "bold")
    if not broken(claims):
        say(f"{sum(claim.kept is True for claim in claims)} claims kept", "green")


def claim_row(claim: Claim) -> tuple[object, ...]:
    kind = f"{claim.kind}, {100 * claim.confidence:g} %" if claim.confidence else claim.kind
    verdict = Text("-") if claim.kept is None else kept(claim.kept)
    return claim.name, kind, claim.text, f"{claim.samples:,}" if claim.samples else "", verdict


def _summary(
    claims: Sequence[Claim], notes: Sequence[str], bundle: Bundle, target: Target, arm: ArmProfile
) -> dict[str, Any]:
    host = {"machine": platform.machine(), "cores": os.cpu_count(), "kernel": platform.release()}
    return {
        "bundle": str(bundle.path),
        "target": target.name,
        "arm": arm.name,
        "kept": not broken(claims),
        "claims": [claim.as_dict() for claim in claims],
        "notes": list(notes),
        "host": host,
    }
