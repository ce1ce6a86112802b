"""`edgevla flight`: say why a run stopped and show its last seconds."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import BadInput, Usage, explain
from edgevla.flight.explain import explain_stop
from edgevla.flight.meta import instructions_of
from edgevla.flight.moments import Curve, Moment, Window, curves_of, moments_of, sparkline, window_of
from edgevla.flight.page import page
from edgevla.flight.reader import Record, read_record
from edgevla.telemetry.host import host_line

_FILE = typer.Argument(..., metavar="FILE", help="flight.mcap, or the folder of --record")
_HTML = typer.Option(None, "--html", metavar="OUT", help="Write the plots there, one HTML file")


def flight(
    file: Path = _FILE,
    last: float = typer.Option(5.0, help="Seconds before the stop to show"),
    html: Path | None = _HTML,
    as_json: bool = JSON_OPTION,
) -> None:
    """Explain in one line why a run stopped; show what happened in the seconds before, and the joints as curves.

    Example: edgevla flight out/run/flight.mcap --last 3 --html out/stop.html
    """
    if not 0.0 < last <= 3600.0:
        raise Usage(explain("the seconds to show", "0 < --last <= 3600", last, "pass another"))
    record = read_record(file)
    if not len(record.ticks):
        got = "; ".join(record.damage) or "none"
        raise BadInput(explain(f"{file} holds no servo step", "a record of at least a second", got, "record longer"))
    stop, window = explain_stop(record), window_of(record, last)
    moments, curves = moments_of(record, window), curves_of(record, window)
    if html is not None:
        _write(html, page(f"Flight of {_policy(record)}", stop, _facts(record), window, curves, moments))
    if as_json:
        print_json(_summary(record, stop, window, moments))
    else:
        _print(record, stop, window, moments, curves)
        if html is not None:
            say(f"plots in {html}", "dim")


def _write(path: Path, text: str) -> None:
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staging.write_text(text, encoding="utf-8")
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def _policy(record: Record) -> str:
    return str(record.meta.get("policy", "an unknown policy"))


def _facts(record: Record) -> list[str]:
    """What the reader should know of the record itself."""
    parts = [f"{len(record.ticks)} servo steps, {len(record.inferences)} inferences"]
    parts += [f"lost while recording: {count} {what}" for what, count in record.lost.items()]
    parts += ["the record was cut: the recorder was killed or its disk was full"] if record.cut else []
    parts += list(record.damage)
    words = "; ".join(instructions_of(record.meta, record.events).values())
    facts = [f"instruction: {words}", host_line(record.meta.get("host"))]
    return ["; ".join(parts), " · ".join(fact for fact in facts if fact)]


def _summary(record: Record, stop: str, window: Window, moments: list[Moment]) -> dict[str, Any]:
    return {
        "stop": stop,
        "stopped": window.stopped,
        "files": [file.name for file in record.files],
        "servo_steps": len(record.ticks),
        "inferences": len(record.inferences),
        "lost": record.lost,
        "cut": record.cut,
        "damage": list(record.damage),
        "moments": [asdict(moment) for moment in moments],
    }


def _print(record: Record, stop: str, window: Window, moments: list[Moment], curves: list[Curve]) -> None:
    say(stop, "bold")
    for fact in _facts(record):
        say(fact, "dim")
    rows = [(f"{0.0 - m.before_s:+.3f}", "" if m.tick is None else m.tick, m.kind, m.text) for m in moments]
    zero = "the stop" if window.stopped else "the end"
    if rows:
        print_table(f"what happened, s from {zero}", ["s", "tick", "what", ""], rows)
    joints = []
    for curve in curves:
        for name, values in ((curve.name, curve.setpoint), (curve.state_name, curve.state)):
            if values is not None:
                kind = "set-point" if values is curve.setpoint else "state"
                joints.append((name, kind, curve.unit, sparkline(values), f"{values[0]:.4g}", f"{values[-1]:.4g}"))
    if joints:
        print_table("joints", ["name", "", "unit", "over the window", "first", "last"], joints)
