"""`edgevla bench steady`: the memory of the servo process stands still over 10^5 steps of the real loop with a bus.

Twice, as tracing itself takes memory: once traced (growth, peak), once not (page faults). The audit sits inside the
servo process (`edgevla.control.audit`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from bench.files import write_json
from bench.plans import patrol_plan
from edgevla.cli.output import JSON_OPTION, kept, print_json, print_table, say
from edgevla.control.options import RunOptions
from edgevla.control.run import run
from edgevla.errors import Refused, Unsound, explain
from edgevla.telemetry.host import describe_host

SCHEMA = "edgevla.steady/1"
_SETTLE_STEPS = 11_000  # of the audit: its caches are full by then, and one block more gives the first floor
_SPARE, _SPARE_S = 1.05, 1.0  # of the duration: periods that are skipped are no steps
# figure -> (mode that measures it, largest that is steady, unit)
LIMITS = {
    "traced_growth_bytes": ("memory", 4096, "B"),
    "traced_peak_bytes": ("memory", 65536, "B"),
    "minor_faults": ("faults", 0, ""),
    "major_faults": ("faults", 0, ""),
    "collections": ("faults", 0, ""),
}


def steady(
    ticks: int = typer.Option(100_000, min=1000, help="Servo steps, after the loop is warm"),
    servo_hz: float = typer.Option(640.0, help="At least; whole parts of the 80 Hz period"),
    best_effort: bool = typer.Option(False, "--best-effort", help="Without real-time priority and locked memory too"),
    out: Path | None = typer.Option(None, "--out", "-o", help="JSON file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Growth, peak, page faults and collections of the servo process while it drives the virtual arm. Two runs.

    Exit 1 when one is above its limit.

    Example: edgevla bench steady -o bench/results/steady.json
    """
    modes = {mode: _audited(mode, ticks, servo_hz, best_effort, as_json) for mode in ("memory", "faults")}
    figures = {name: modes[mode][name] for name, (mode, _, _) in LIMITS.items()}
    found = {
        "schema": SCHEMA,
        "command": "edgevla bench steady",
        "host": describe_host(),
        "servo_hz": servo_hz,
        "ticks": min(told["ticks"] for told in modes.values()),
        **figures,
        "limits": {name: limit for name, (_, limit, _) in LIMITS.items()},
        "runs": modes,
    }
    if out is not None:
        write_json(out, found)
    print_json(found) if as_json else _print(found)
    above = broken(figures)
    if above:
        todo = (
            "trace the servo: python -X tracemalloc=10; what grows or faults is on the path since the last good commit"
        )
        raise Refused(explain("the servo's memory does not stand still", "every limit kept", "; ".join(above), todo))


def broken(figures: dict[str, int]) -> list[str]:
    """The figures above their limits, in words. Pure."""
    return [f"{name} {figures[name]} > {limit}" for name, (_, limit, _) in LIMITS.items() if not figures[name] <= limit]


def _audited(mode: str, ticks: int, servo_hz: float, best_effort: bool, quiet: bool) -> dict[str, Any]:
    """One run under one audit. Raises Unsound when it counted fewer steps than asked for."""
    plan = patrol_plan(servo_hz)
    step_s = plan.period_s / plan.target.servo_ratio
    duration_s = (ticks + _SETTLE_STEPS) * step_s * _SPARE + _SPARE_S
    if not quiet:
        say(f"audit of {mode}: {duration_s:.0f} s", "dim")
    options = RunOptions(
        instruction="patrol",
        sim="drawer-open-v3",
        plant="integrator",
        duration_s=duration_s,
        best_effort=best_effort,
        audit=mode,
    )
    result = run(plan, options)
    told = result.figures.get("steady") or {}
    if result.exit_code or told.get("ticks", 0) < ticks:
        got = f"{told.get('ticks', 0)}; the run ended with: {result.stop_reason}"
        raise Unsound(explain("too few steps to judge", f"{ticks} audited servo steps", got, "run on an idle host"))
    loop = {key: result.figures["loop"][key] for key in ("servo_steps", "late_commands", "misses", "skipped_periods")}
    return {**told, **loop, "stolen_s": result.figures["stolen_s"]}


def _print(found: dict[str, Any]) -> None:
    rows = [
        (name.replace("_", " "), f"{found[name]} {unit}".strip(), f"{limit} {unit}".strip(), kept(found[name] <= limit))
        for name, (_, limit, unit) in LIMITS.items()
    ]
    print_table(f"servo process over {found['ticks']} steps", ["", "measured", "at most", ""], rows)
