"""`edgevla bench predict`: a latency interval for a computer that is not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

import profiles
from bench.files import write_json
from bench.predict.ceilings import of_target
from bench.predict.interval import MARK, Interval, predict
from edgevla.bundle.reader import open_bundle
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.telemetry.host import describe_host, host_line

SCHEMA = "edgevla.prediction/1"


def predict_command(
    bundle: Path = typer.Argument(..., metavar="BUNDLE", help="NAME.bundle"),
    target: str = typer.Option("jetson-orin-nano-8", "--target", help="A Jetson module; host: only the validation"),
    rounds: int = typer.Option(200, min=50, help="Profiled passes on this host"),
    out: Path | None = typer.Option(None, "--out", "-o", help="JSON file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """A latency interval from operators, bytes and data-sheet ceilings: a prediction, not a measurement.

    It predicts this host by the same method first, and says whether what is measured here lies in the interval.

    Example: edgevla bench predict examples/metaworld/student.bundle --target jetson-orin-nano-8
    """
    opened, profile = open_bundle(bundle), profiles.load_target(target)
    ceilings = [] if target == "host" else of_target(profile)
    from bench.predict.here import look  # here, as it loads onnx

    here = look(opened, rounds)
    found = [predict(here.operators, here.shares, one) for one in ceilings]
    document = {
        "schema": SCHEMA,
        "prediction_not_measurement": True,
        "bundle": {"name": opened.manifest.name, "sha256": opened.sha256},
        "target": profile.name,
        "power_mode": profile.power_mode or None,
        "latency_budget_ms": profile.latency_budget_s * 1e3,
        "intervals": [one.as_dict() for one in found],
        "validation": here.validation(),
        "host": describe_host(),
    }
    if out is not None:
        write_json(out, document)
    print_json(document) if as_json else show(document, found, here.own)


def show(document: dict[str, Any], found: list[Interval], own: Interval) -> None:
    """Intervals, classes, assumptions, and what the method is worth here."""
    for one in found:
        body = [
            (c.name, str(c.operators), f"{c.multiply_adds:,}", f"{c.bytes:,}", f"{100 * c.share_here:.0f} %",
             f"{c.low_ms:.3f}", f"{c.high_ms:.3f}")
            for c in one.classes
        ]  # fmt: skip
        launches = one.high_ms - sum(c.high_ms for c in one.classes)
        body.append(("launches", str(one.launches), "", "", "", "0", f"{launches:.3f}"))
        body.append(("all", "", "", "", "", f"{one.low_ms:.3f}", f"{one.high_ms:.3f}"))
        head = ("operators", "n", "multiply-adds", "bytes", "of peak here", "from ms", "to ms")
        print_table(f"{document['target']}, {one.engine}: {MARK}", head, body)
        for text in one.assumptions:
            say(f"  {text}", "dim")
    mode = document["power_mode"] or "-"
    for one in found:
        say(
            f"{MARK}: {document['target']}, {one.engine}, mode {mode}: {one.low_ms:.2f} to {one.high_ms:.2f} ms a chunk"
        )
    told = document["validation"]
    verdict = "inside" if told["inside"] else "OUTSIDE"
    if not told["sound"]:
        verdict += f", not sound: it had {100 * told['cpu_share']:.0f} % of a core"
    say(
        f"the method on this host: {own.low_ms:.3f} to {own.high_ms:.3f} ms predicted, p50 of {told['samples']} "
        f"measured {told['measured_p50_ms']:.3f} ms: {verdict}. {host_line(document['host'])}"
    )
