"""`edgevla profile`: where time and memory of a bundle go, as tables, a trace for Perfetto and one HTML page."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

import profiles
from edgevla.bundle import open_bundle
from edgevla.cli.output import JSON_OPTION, print_json, say

_BUNDLE = typer.Option(..., "--bundle", metavar="BUNDLE", help="NAME.bundle")
_OUT = typer.Option(Path("out/profile"), "--out", "-o", help="Folder of profile.json, trace.json and profile.html")


def profile(
    bundle: Path = _BUNDLE,
    target: str = typer.Option("", help="Name or .toml of the target; default: the bundle's"),
    arm: str = typer.Option("", help="Name or .toml of the arm; default: the bundle's"),
    out: Path = _OUT,
    instruction: str = typer.Option("", help="Default: that of the bundle's first golden vector"),
    seconds: float = typer.Option(5.0, min=0.5, max=60.0, help="Armed time of each of the two runs"),
    rounds: int = typer.Option(300, min=50, help="Profiled passes of each graph"),
    best_effort: bool = typer.Option(False, "--best-effort", help="Without real-time priority too; the result says so"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Where time and memory of a bundle go: stages, operators, memory, cold start, roofline. Virtual arm, one minute.

    Writes profile.json, trace.json (load it at ui.perfetto.dev) and profile.html. It judges nothing: `check` and
    `bench guard` do.

    Example: edgevla profile --bundle out/student.bundle -o out/profile
    """
    opened = open_bundle(bundle)
    from bench.files import write_json, write_text  # here, as these load onnx
    from bench.guard.drive import Setup
    from bench.plans import instruction_of
    from bench.profile.cold import Asked
    from bench.profile.collect import collect
    from bench.profile.page import render
    from bench.profile.table import print_profile
    from bench.roofline.run import each_chunk
    from edgevla.control.plan import plan_of

    manifest = opened.manifest
    target_name, arm_name = target or manifest.target, arm or manifest.arm
    device = profiles.load_arm(arm_name)
    plan = plan_of(opened, profiles.load_target(target_name), device, accept_no_watchdog=device.watchdog_s is None)
    graphs = tuple(stage.name for stage in each_chunk(manifest.stages))
    setup = Setup(opened, plan, graphs, instruction or instruction_of(opened))
    asked = Asked(setup, bundle, target_name, arm_name, seconds, best_effort)
    found, trace = collect(opened, asked, rounds, _tell)
    write_json(out / "profile.json", found)
    write_json(out / "trace.json", trace)
    write_text(out / "profile.html", render(found))
    if as_json:
        print_json(found)
        return
    print_profile(found)
    say(f"written to {out}: profile.json, profile.html, and trace.json for ui.perfetto.dev")


def _tell(line: str) -> None:
    """Progress on stderr: stdout is for the result."""
    print(line, file=sys.stderr, flush=True)
