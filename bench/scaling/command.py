"""`edgevla bench scaling`: what a controller costs against eight things, and the first wall."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

import profiles
from bench.files import write_json
from bench.plans import ARM, PERIOD_S, TARGET
from bench.scaling.axes import AXES, QUICK, Axis, key_of
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import BadInput, EdgevlaError, Usage, explain
from edgevla.telemetry.host import describe_host, host_line

SCHEMA = "edgevla.scaling/1"
SERVO_SHARE = 0.76  # of a core: what the kernel leaves to real-time tasks (95 %), less the margin that `check` keeps
ROUNDS, FEW_ROUNDS, SECONDS, LIMIT_S = 60, 12, 6.0, 60.0
NAMES = ", ".join(axis.name for axis in AXES)
_BUILD_S, _ARM_S = 12.0, 5.0  # about, for the time that is left


def scaling(
    axes: str = typer.Option("", help=f"Of: {NAMES}; default: all"),
    quick: bool = typer.Option(False, "--quick", help="Two short axes: shows that it runs"),
    work: Path = typer.Option(Path("out/scaling"), help="For graphs that are made once (1 GB), and axes that are done"),
    again: bool = typer.Option(False, "--again", help="Forget the axes that are done"),
    best_effort: bool = typer.Option(False, "--best-effort", help="Servo axes without real-time priority; it is said"),
    svg: Path | None = typer.Option(None, "--svg", help="The curves, such as docs/images/scaling.svg"),
    out: Path | None = typer.Option(None, "--out", "-o", help="JSON file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Cost against picture size, cameras, chunk, history, joints, model size, servo rate and number of arms.

    Exponents with 95 % intervals where a power law holds, and the first axis that breaks the control period of the
    default target. One thread, random weights, our int8. Stopped, it goes on when it is called again.

    Example: edgevla bench scaling -o bench/results/scaling.json --svg docs/images/scaling.svg
    """
    from bench.scaling.curves import svg as draw

    chosen = _chosen(axes, QUICK if quick else AXES)
    tell: Callable[[str], None] = (lambda text: None) if as_json else (lambda text: say(text, "dim"))
    state = work / ("quick.json" if quick else "axes.json")
    if again:
        state.unlink(missing_ok=True)
    found = run(chosen, work, state, quick, best_effort, tell)
    if out is not None:
        write_json(out, found)
    if svg is not None:
        svg.parent.mkdir(parents=True, exist_ok=True)
        svg.write_text(draw(found["axes"]), encoding="utf-8")
    print_json(found) if as_json else show(found)


def _chosen(names: str, axes: Sequence[Axis]) -> list[Axis]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = set(wanted) - {axis.name for axis in axes}
    if unknown:
        expected = ", ".join(axis.name for axis in axes)
        raise Usage(explain("no such axis", expected, ", ".join(sorted(unknown)), "pass others with --axes"))
    return [axis for axis in axes if not wanted or axis.name in wanted]


def run(
    axes: Sequence[Axis], work: Path, state: Path, quick: bool, best_effort: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Every axis that `state` does not hold yet, and the result of all. Raises BadInput: the file is another's."""
    from bench.scaling.result import axis_result, first_wall

    host, done = describe_host(), _read(state)
    for number, axis in enumerate(axes, 1):
        key = json.dumps([key_of(axis), best_effort], sort_keys=True)
        if key in done:
            continue
        left = list(axes[number - 1 :])
        tell(f"axis {number} of {len(axes)}: {axis.name} (some {sum(_about_s(a) for a in left) / 60:.0f} min left)")
        begun_s = time.monotonic()
        measured = _measured(axis, work / "graphs", quick, best_effort, tell)
        done[key] = {"axis": axis.name, "took_s": round(time.monotonic() - begun_s, 1), **measured}
        write_json(state, {"schema": SCHEMA, "cpu": host["cpu"], "done": done})
    target = profiles.load_target(TARGET)
    limits = {"policy": PERIOD_S * 1e3, "budget": target.latency_budget_s * 1e3, "servo": SERVO_SHARE}
    keys = [json.dumps([key_of(axis), best_effort], sort_keys=True) for axis in axes]
    results = [axis_result(axis, done[key], limits) for axis, key in zip(axes, keys, strict=True)]
    return {
        "schema": SCHEMA, "command": "edgevla bench scaling", "host": host, "quick": quick, "target": TARGET,
        "arm": ARM, "period_ms": limits["policy"], "latency_budget_ms": limits["budget"],
        "servo_share_limit": SERVO_SHARE, "best_effort": best_effort, "threads": 1, "axes": results,
        "first_wall": first_wall(results), "raw": [done[key] for key in keys],
    }  # fmt: skip


def _measured(axis: Axis, graphs: Path, quick: bool, best_effort: bool, tell: Callable[[str], None]) -> dict[str, Any]:
    if axis.kind != "policy":
        return _servos(axis, SECONDS if not quick else 2.0, best_effort, tell)
    from bench.scaling.policy import LARGE, costs, points

    values, skipped = points(axis, graphs)
    for value, why in skipped.items():
        tell(f"  {axis.name} {value:g} left out: {why}")
    large = axis.name == "model size" and max(values, default=0.0) > LARGE
    rounds = 10 if quick else FEW_ROUNDS if large else ROUNDS
    found = costs(axis, values, graphs, rounds, LIMIT_S if not quick else 10.0)
    return {**found, "skipped": {f"{value:g}": why for value, why in skipped.items()}}


def _servos(axis: Axis, seconds: float, best_effort: bool, tell: Callable[[str], None]) -> dict[str, Any]:
    """Servo rate, one arm; or arms, at the rate of the default target."""
    from bench.scaling.arm import together

    found: dict[str, Any] = {"values": [], "arms": [], "skipped": {}}
    for value in axis.values:
        count, rate = (int(value), 1 / PERIOD_S) if axis.kind == "arms" else (1, float(value))
        tell(f"  {axis.name} {value:g}")
        try:
            told = together(count, rate, seconds, best_effort)
        except EdgevlaError as error:  # this host does not carry it: said, and the axis ends here
            found["skipped"][f"{value:g}"] = " ".join(str(error).split())[:300]
            break
        found["values"].append(value)
        found["arms"].append(told)
    return found


def _about_s(axis: Axis) -> float:
    if axis.kind == "policy":
        return len(axis.values) * _BUILD_S + (200.0 if axis.name == "model size" else 10.0)
    return len(axis.values) * (SECONDS + _ARM_S)


def _read(state: Path) -> dict[str, Any]:
    if not state.exists():
        return {}
    try:
        told = json.loads(state.read_text(encoding="utf-8"))
        if told["schema"] != SCHEMA or told["cpu"] != describe_host()["cpu"]:
            raise ValueError(f"{told['schema']} of {told['cpu']}")
        return dict(told["done"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        todo = "pass --again to begin anew"
        raise BadInput(explain(f"{state} cannot be continued", "axes of this host", error, todo)) from None


def show(found: dict[str, Any]) -> None:
    """Curves as a table, exponents, walls."""
    rows = []
    for axis in found["axes"]:
        law, wall = axis["power_law"], axis["wall"]
        costs = ", ".join(f"{p['value']:g}: {p['p50']:.3g}" for p in axis["points"])
        told = (
            f"{law['exponent']:.2f} ({law['low']:.2f} to {law['high']:.2f}), from {law['first']:g}" if law else "none"
        )
        where = (
            "none in sight" if wall["value"] is None else f"{wall['value']:g}{', continued' if wall['beyond'] else ''}"
        )
        rows.append(
            (f"{axis['axis']} {axis['unit']}".strip(), f"{axis['cost']}, {axis['cost_unit']}", costs, told, where)
        )
    print_table("scaling", ("axis", "cost, p50", "curve", "exponent (95 %)", "meets its limit at"), rows)
    wall = found["first_wall"]
    if wall is not None:
        more = " (continued beyond what was measured)" if wall["beyond"] else ""
        where = f"{wall['axis']} at {wall['value']:g} {wall['unit']}".strip()
        say(f"first wall: {where}, {wall['headroom']:.1f} times the reference{more}")
    for axis in found["axes"]:
        for value, why in axis["skipped"].items():
            say(f"{axis['axis']} {value}: left out, {why}", "yellow")
    say(host_line(found["host"]), "dim")
