"""`edgevla bench soak`: blocks of the real loop until there are ticks enough; each is in the file when it is over."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import typer

from bench.files import write_json
from bench.loop.load import KINDS, loaded
from bench.plans import bundle_plan, instruction_of
from bench.soak.evidence import TICKS, added, begun, continued, figures, time_left_s
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.control.options import RunOptions
from edgevla.control.plan import RunPlan
from edgevla.control.run import run
from edgevla.errors import BadInput, Refused, Unsound, Usage, explain
from edgevla.telemetry.host import describe_host

_LARGEST_BLOCK_S = 3000.0  # s: the flight record of a run keeps one hour


@dataclass(frozen=True)
class Soak:
    """What every block has in common, and how long it goes on."""

    plan: RunPlan
    options: RunOptions
    loads: tuple[str, ...]
    ticks: int
    block_s: float
    out: Path

    @property
    def step_s(self) -> float:
        return self.plan.period_s / self.plan.target.servo_ratio

    def key(self) -> dict[str, Any]:
        """What makes blocks comparable."""
        return {
            "policy": self.plan.policy,
            "bundle_sha256": self.plan.bundle_sha256,
            "arm": self.plan.arm.name,
            "target": self.plan.target.name,
            "plant": self.options.plant,
            "sim": self.options.sim,
            "instruction": self.options.instruction,
            "rate_hz": round(1 / self.step_s, 3),
            "load": " + ".join(("policy inference", *self.loads)),
            "best_effort": self.options.best_effort,
        }


def soak(
    bundle: Path = typer.Option(..., "--bundle", metavar="BUNDLE", help="NAME.bundle; its policy runs all the time"),
    ticks: int = typer.Option(TICKS, min=1, help="Servo steps in all blocks together"),
    servo_hz: float | None = typer.Option(None, help="At least; default: the rate of the bundle's target"),
    load: str = typer.Option("none", help=f"Beside the policy, on its core: none, or of {', '.join(KINDS)}"),
    plant: str = typer.Option("integrator", help="integrator, or metaworld (the extra `sim`)"),
    sim: str = typer.Option("drawer-open-v3", help="Meta-World task; a success ends a block"),
    instruction: str = typer.Option("", help="Default: that of the bundle's first golden vector"),
    block_s: float = typer.Option(180.0, min=5.0, max=_LARGEST_BLOCK_S, help="Length of a block"),
    best_effort: bool = typer.Option(False, "--best-effort", help="Without real-time priority too; the file says so"),
    out: Path = typer.Option(Path("out/soak.json"), "--out", "-o", help="Evidence file; blocks are added to it"),
    as_json: bool = JSON_OPTION,
) -> None:
    """The real loop with bus and policy for 460,515 servo steps (p99.999 at 99 % if none is late). Resumable.

    Call it again with the same options to go on. Exit 1 when a command was late; misses are reported, never judged.

    Example: edgevla bench soak --bundle out/student.bundle --servo-hz 640 -o out/soak.json
    """
    loads = () if load == "none" else tuple(load.split(","))
    if not set(loads) <= set(KINDS) or plant not in ("integrator", "metaworld"):
        expected = f"--load none or of {', '.join(KINDS)}; --plant integrator or metaworld"
        raise Usage(explain("no such soak", expected, f"--load {load} --plant {plant}", "pass others"))
    opened, plan = bundle_plan(bundle, servo_hz)
    options = RunOptions(
        instruction=instruction or instruction_of(opened), sim=sim, plant=plant, best_effort=best_effort
    )
    asked = Soak(plan, options, loads, ticks, block_s, out)
    tell: Callable[[str], None] = (lambda text: None) if as_json else (lambda text: say(text, "dim"))
    evidence = run_blocks(asked, tell)
    print_json(evidence) if as_json else _print(evidence)
    _judge(evidence, ticks)


def run_blocks(asked: Soak, tell: Callable[[str], None]) -> dict[str, Any]:
    """Blocks until the ticks are there, an operator stops it, or a block fails; the file is whole after each."""
    key = asked.key()
    evidence = continued(_read(asked.out), key, str(asked.out)) if asked.out.exists() else begun(key, describe_host())
    while evidence["ticks"] < asked.ticks:
        block = one_block(asked, asked.ticks - evidence["ticks"])
        if not block["ticks"]:  # stopped before the arm was armed: no evidence of anything
            break
        evidence = added(evidence, {"index": len(evidence["blocks"]), **block})
        write_json(asked.out, evidence)
        tell(progress(evidence, asked.ticks))
        if block["exit_code"] or block["reason"].startswith("operator stop"):
            break
    return evidence


def one_block(asked: Soak, ticks_left: int) -> dict[str, Any]:
    """One run of the loop, its figures and raw histograms."""
    duration_s = min(asked.block_s, max(1.0, ticks_left * asked.step_s * 1.01))
    options = replace(asked.options, duration_s=duration_s)
    begun_s, begun_at = time.monotonic(), datetime.now(timezone.utc)
    core = asked.plan.target.policy_core
    work = loaded(asked.loads, core or 0) if asked.loads else contextlib.nullcontext()
    with work:
        result = run(asked.plan, options)
    told = result.figures
    return {
        "begun_at": begun_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "wall_s": round(time.monotonic() - begun_s, 3),
        "reason": result.stop_reason,
        "exit_code": result.exit_code,
        "error": result.error or None,
        "stolen_s": told["stolen_s"],
        "real_time": told["real_time"],
        "inferences": told["inference"]["count"],
        "chunks": told["chunks"],
        "link": told["link"],
        **figures(result.ticks, asked.step_s, asked.plan.arm.command_ttl_s),
    }


def progress(evidence: dict[str, Any], ticks: int) -> str:
    """One line after each block."""
    left_min = time_left_s(evidence, ticks) / 60
    return (
        f"block {len(evidence['blocks'])}: {evidence['ticks']:,} of {ticks:,} steps, {evidence['late_commands']} late, "
        f"{evidence['misses']} misses, {evidence['stolen_s']:.2f} s stolen, {left_min:.0f} min left"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            explain(f"{path} cannot be continued", "evidence of a soak", error, "pass another --out")
        ) from None
    if not isinstance(found, dict):
        raise BadInput(explain(f"{path} cannot be continued", "a JSON object", type(found).__name__, "pass another"))
    return found


def _judge(evidence: dict[str, Any], ticks: int) -> None:
    if evidence["late_commands"]:
        todo = "see `blocks` in the file; nothing but a defect writes a command after its expiry"
        raise Refused(explain("commands were late", "0", evidence["late_commands"], todo))
    last = evidence["blocks"][-1] if evidence["blocks"] else {}
    if last.get("exit_code"):
        todo = "mend that, then call it again: the blocks so far count"
        raise Unsound(explain("a block ended before its time", "duration reached", last["reason"], todo))
    if evidence["ticks"] < ticks:
        todo = "call it again with the same options to go on"
        raise Unsound(explain("the soak is not over", f"{ticks} servo steps", evidence["ticks"], todo))


def _print(found: dict[str, Any]) -> None:
    bounds = found["late_share"]
    shown = [
        ("servo steps", f"{found['ticks']:,} at {found['rate_hz']:g} Hz, load: {found['load']}"),
        ("effective samples", f"{found['effective_samples']:,.0f}"),
        ("late commands (written after expiry)", found["late_commands"]),
        ("expired commands (not written)", found["expired_commands"]),
        ("servo misses", f"{found['misses']} ({found['skipped_periods']} periods skipped)"),
        ("late share at 99 %, ticks independent", _share(bounds["bound_if_independent"])),
        ("late share at 99 %, effective samples", _share(bounds["bound_by_effective_samples"])),
        ("stolen by the host, s", found["stolen_s"]),
        ("blocks", len(found["blocks"])),
    ]
    print_table("soak", ["", "measured"], shown)
    for name in ("first_byte", "wake"):
        if found[name]:
            parts = " / ".join(str(found[name][part]) for part in ("p50_us", "p99_us", "p999_us", "max_us"))
            say(f"{name.replace('_', ' ')} after deadline, p50 / p99 / p99.9 / max: {parts} us")


def _share(bound: float | None) -> str:
    return "-" if bound is None else f"<= {bound:.2e}"
