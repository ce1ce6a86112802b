"""`edgevla eval`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import typer

from edgevla.cli.output import JSON_OPTION, print_json, say
from edgevla.errors import BadInput, Refused, Usage, explain
from export.eval.budget import Budget, read_budget
from export.evidence.paired import Design

_BUNDLES = typer.Argument(..., metavar="BUNDLE...", help="NAME.bundle; two of them with --real")
_DATA = typer.Option(None, "--data", metavar="DATASET", help="Recorded episodes")
_BUDGET = typer.Option(None, "--budget", metavar="FILE", help="Declared budget (TOML), instead of the options below")
_REPORT = typer.Option(None, "--report", metavar="FILE", help="Default: out/eval.json, out/replay.json, out/env.json")

_SESSION = typer.Option(None, metavar="DIR", help="With --real, --env: journal, logs; default out/real, out/env")


def evaluate(
    bundles: list[Path] = _BUNDLES,
    data: Path | None = _DATA,
    replay: bool = typer.Option(False, "--replay", help="Recorded episodes through the real schedule, open loop"),
    episodes: str = typer.Option("", metavar="LIST", help="Episodes to look at, such as 0-9,12"),
    held_out: float | None = typer.Option(
        None, metavar="SHARE", help="Or the last share of each instruction's; else the episodes `compress` keeps out"
    ),
    frames: int = typer.Option(600, help="Frames to compare, spread over those episodes; 300 at least"),
    budget: Path | None = _BUDGET,
    p99: float = typer.Option(Budget.p99, min=0, help="Bundle against its FP32 graphs, share of a channel's range"),
    maximum: float = typer.Option(Budget.max, "--max", min=0, help="The same for the largest error"),
    flips: float = typer.Option(Budget.flips, min=0, help="Share of acting rows with a gripper flip"),
    recorded_ratio: float = typer.Option(
        Budget.recorded_ratio, min=0, help="Error against the record, bundle over FP32"
    ),
    report: Path | None = _REPORT,
    real: bool = typer.Option(False, "--real", help="REFERENCE CANDIDATE: blinded trials on the real arm"),
    command: str = typer.Option("", help="With --real: what runs a trial, {bundle} in it. Default: edgevla run"),
    instruction: str = typer.Option("", help="With --real and without --command: for edgevla run"),
    port: str = typer.Option("", metavar="PATH", help="With --real and without --command: for edgevla run"),
    session: Path | None = _SESSION,
    margin: float = typer.Option(0.15, help="With --real: loss of success that is accepted, a share"),
    alpha: float = typer.Option(0.05, help="With --real: one-sided error of calling too large a loss accepted"),
    looks: str = typer.Option("20,40,60", help="With --real: pairs after which to look; the last is the most"),
    seed: str = typer.Option("", help="With --real: of the order of the trials; default: drawn, and not shown"),
    env: str = typer.Option("", "--env", metavar="NAME", help="In a simulator: calvin, simpler, FILE.py:FUNCTION"),
    tasks: str = typer.Option("", metavar="LIST", help="With --env simpler: names of its tasks"),
    count: int | None = typer.Option(None, min=1, help="With --env: chains (1000), or episodes of each variant (24)"),
    replan: int | None = typer.Option(None, min=1, help="With --env: steps between two inferences"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Evaluate a bundle on recorded episodes, in a simulator of yours, or two of them blinded on the real arm.

    Exit 1: the declared budget is broken, or the candidate was not shown to be as good as the reference.

    Example: edgevla eval out/student.bundle --data out/held-out
    """
    if real:
        if data is not None or replay or budget is not None or as_json or env:
            todo = "call eval twice"
            raise Usage(explain("--real", "none of --data, --replay, --budget, --json, --env", "one of them", todo))
        template = command or _run_command(instruction, port)
        evaluate_real(bundles, template, session or Path("out/real"), _design(margin, alpha, looks), seed)
        return
    if len(bundles) != 1:
        raise Usage(explain("eval without --real", "one bundle", f"{len(bundles)}", "two are for --real"))
    if env:
        declared = Budget(p99, maximum, flips, recorded_ratio)
        others = (
            replay,
            episodes,
            held_out is not None,
            budget is not None,
            declared != Budget(),
            command,
            frames != 600,
            instruction,
            port,
            seed,
            (margin, alpha, looks) != (0.15, 0.05, "20,40,60"),
        )
        if any(others):
            todo = "call eval twice"
            raise Usage(explain("--env", "no option of recorded episodes or of --real", "one of them", todo))
        _evaluate_env(bundles[0], env, data, tasks, count, replan, session or Path("out/env"), report, as_json)
        return
    if tasks or count or replan:
        raise Usage(explain("--tasks, --count and --replan", "together with --env", "no --env", "add it"))
    if data is None:
        raise Usage(explain("eval without --real", "--data DATASET", "none", "give a folder of recorded episodes"))
    declared = Budget(p99, maximum, flips, recorded_ratio)
    if budget is not None and declared != Budget():
        todo = "declare the budget in one place"
        raise Usage(explain("--budget and limits as options", "one of them", "both", todo))
    if budget is not None:
        declared = read_budget(budget)
    destination = report or Path("out/replay.json" if replay else "out/eval.json")
    from export.eval import offline  # here, as torch takes seconds: what is wrong is told before

    if replay:
        found = offline.evaluate_replay(bundles[0], data, episodes, held_out, not as_json)
    else:
        found = offline.evaluate_error(bundles[0], data, episodes, held_out, frames, declared, not as_json)
    write_report(destination, found)
    if as_json:
        print_json(found)
    else:
        (offline.print_replay_report if replay else offline.print_error_report)(found)
        say(f"wrote {destination}", "dim")
    broken = [check for check in found.get("checks", ()) if not check["kept"]]
    if broken:
        first = broken[0]
        got = f"{first['got']:.3g} {first['unit']}, declared {first['limit']:.3g}"
        raise Refused(f"{len(broken)} of {len(found['checks'])} lines of the budget are broken: {first['what']}: {got}")


def _evaluate_env(
    bundle: Path, env: str, data: Path | None, tasks: str, count: int | None, replan: int | None, session: Path,
    report: Path | None, as_json: bool,
) -> None:  # fmt: skip
    from export.eval.benchmarks.command import evaluate_env, print_env_report

    names = [name for name in tasks.split(",") if name]
    found = evaluate_env(bundle, env, data, names, count, replan, session, not as_json)
    destination = report or Path("out/env.json")
    write_report(destination, found)
    if as_json:
        print_json(found)
        return
    print_env_report(found)
    say(f"wrote {destination}", "dim")


def evaluate_real(bundles: list[Path], command: str, folder: Path, design: Design, seed: str) -> None:
    """Plays the session to its end and unblinds it."""
    from export.eval.real import Session
    from export.eval.unblind import print_real_report, report_of

    if len(bundles) != 2:
        raise Usage(explain("eval --real", "two bundles, reference and candidate", len(bundles), "name both"))
    session = Session(folder, (bundles[0], bundles[1]), command, design, seed)
    try:
        decision = session.run()
        report = report_of(session, decision)
    finally:
        session.journal.close()
    write_report(folder / "report.json", report)
    print_real_report(report)
    say(f"wrote {folder / 'report.json'}", "dim")
    if decision != "non-inferior":
        loss = f"{100 * report['paired']['loss']:.1f} points"
        todo = "keep the reference, or declare a session with more pairs"
        raise Refused(
            explain("candidate", f"shown non-inferior at {100 * design.margin:g} points", f"loss {loss}", todo)
        )


def _run_command(instruction: str, port: str) -> str:
    """`edgevla run` of this environment."""
    if not instruction or not port:
        got = f"--instruction {instruction!r}, --port {port!r}"
        raise Usage(explain("eval --real", "--command, or --instruction and --port", got, "say what runs a trial"))
    words = [sys.executable, "-m", "edgevla.cli.entry", "run", "--instruction", instruction, "--port", port]
    return shlex.join(words) + " --bundle {bundle}"


def _design(margin: float, alpha: float, looks: str) -> Design:
    try:
        return Design(margin, alpha, tuple(int(look) for look in looks.split(",")))
    except ValueError as error:
        todo = "such as --looks 20,40,60 --margin 0.15 --alpha 0.05"
        raise Usage(explain("--looks, --margin or --alpha", "a sequential design", error, todo)) from error


def write_report(path: Path, report: dict[str, Any]) -> None:
    """JSON, whole or not at all. Raises BadInput where it cannot be written."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(report, indent=1) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(explain(f"report {path}", "a file that can be written", error, "choose --report")) from error
