"""`edgevla doctor`: can this computer hold a deadline, and what to type where it cannot."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import profiles
from edgevla.cli.output import JSON_OPTION, print_json, say, stdout
from edgevla.doctor.board import board_facts
from edgevla.doctor.examine import examine
from edgevla.doctor.finding import Finding, can_hold, counts, worst_first
from edgevla.doctor.host import Host, Wanted
from profiles import ProfileError, Target, resolve_module

_STYLES = {"fail": "bold red", "warn": "yellow", "info": "dim", "pass": "green"}


def doctor(
    target: str = typer.Option("", help="Name or .toml of the target: judges its cores, priority and memory"),
    arm: str = typer.Option("", help="Name or .toml of the arm: its CAN bit rate"),
    port: str = typer.Option("", help="Port of the arm: /dev/ttyUSB0, or a CAN interface such as can0"),
    worst: bool = typer.Option(False, "--worst-first", help="Fails first, instead of by subject"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Examine this computer as a robot's: kernel, cores, heat, supply, ports, buses. Changes nothing.

    Exit code 1 if something is found with which it cannot hold a deadline. What cannot be known is never a pass.

    Example: edgevla doctor --target jetson-orin --port /dev/ttyUSB0
    """
    host = Host()
    wanted = Wanted(
        target=_found(profiles.load_target(target), host) if target else None,
        arm=profiles.load_arm(arm) if arm else None,
        port=port or None,
    )
    findings = examine(host, wanted)
    everything = [finding for group in findings.values() for finding in group]
    if as_json:
        print_json(summary(findings, wanted))
    else:
        _print({"worst first": worst_first(everything)} if worst else findings)
        total = counts(everything)
        say(", ".join(f"{number} {level}" for level, number in total.items()), "bold")
    if not can_hold(everything):
        raise typer.Exit(1)


def _found(target: Target, host: Host) -> Target:
    """Of a family the module that this is; the family where no module fits, which is no reason to examine nothing."""
    try:
        return resolve_module(target, board_facts(host.tree))
    except ProfileError:
        return target


def summary(findings: dict[str, list[Finding]], wanted: Wanted) -> dict[str, Any]:
    """The JSON object."""
    everything = [finding for group in findings.values() for finding in group]
    return {
        "target": wanted.target.name if wanted.target else None,
        "arm": wanted.arm.name if wanted.arm else None,
        "port": wanted.port,
        "can_hold": can_hold(everything),
        "counts": counts(everything),
        "findings": [{"subject": subject, **asdict(f)} for subject, group in findings.items() for f in group],
    }


def _print(groups: dict[str, list[Finding]]) -> None:
    for title, findings in groups.items():
        if findings:
            stdout().print(_table(title, findings))
    for finding in worst_first(finding for group in groups.values() for finding in group):
        if finding.todo:
            say(f"\n{finding.level}: {finding.name}", _STYLES[finding.level])
            for line in finding.todo:
                stdout().print(Text(f"  {line}"), soft_wrap=True)  # a line to copy is never broken


def _table(title: str, findings: list[Finding]) -> Table:
    table = Table("", "what", "found", "expected", title=escape(title), title_justify="left", title_style="bold")
    for finding in findings:
        level = Text(finding.level, style=_STYLES[finding.level])
        table.add_row(level, escape(finding.name), escape(finding.found), escape(finding.expected))
    return table
