"""`edgevla bench`: describe this host, build the report, hold a report against its budgets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from bench.budgets import DEMO, check_budgets, load_budgets
from bench.counts.command import counts
from bench.guard.command import guard
from bench.loop.command import loop
from bench.pairs.command import pairs
from bench.peers.command import peers
from bench.predict.command import predict_command
from bench.report import build_report, print_figures, read_report, text
from bench.report.guard_command import page
from bench.scaling.command import scaling
from bench.soak.command import soak
from bench.steady import steady
from bench.submit.command import submit
from edgevla.bundle.reader import open_bundle
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import Refused, Unsound
from edgevla.telemetry.host import describe_host

app = typer.Typer(
    help="Measure, report, and hold figures against budgets. `report` and `budgets` need a report.json of `make demo`.",
    epilog="Example: edgevla bench budgets out/demo/report.json",
    no_args_is_help=True,
)
app.command()(loop)
app.command()(steady)
app.command()(soak)
app.command()(guard)
app.command()(page)
app.command()(counts)
app.command()(pairs)
app.command()(peers)
app.command()(scaling)
app.command("predict")(predict_command)
app.command()(submit)
REPORT = typer.Argument(..., help="report.json as `make demo` writes it")


@app.command()
def host(as_json: bool = JSON_OPTION) -> None:
    """Describe this host as every result does.

    Example: edgevla bench host --json
    """
    described = describe_host()
    if as_json:
        print_json(described)
        return
    print_table("host", ["what", "value"], [(name, str(value)) for name, value in described.items()])


@app.command()
def report(
    path: Path = REPORT,
    out: Path = typer.Option(None, "--out", "-o", help="HTML file (default: beside the JSON)"),
    figures: bool = typer.Option(False, "--figures", help="Also print the figures"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Build the HTML page from a report.json.

    Example: edgevla bench report out/demo/report.json -o out/demo/report.html
    """
    found = read_report(path)
    written = build_report(found, out or path.with_suffix(".html"), path.parent)
    if figures and not as_json:
        print_figures(found)
    if as_json:
        print_json({"html": str(written), "bytes": written.stat().st_size})
        return
    say(str(written))


@app.command()
def budgets(
    path: Path = REPORT,
    limits: Path = typer.Option(DEMO, "--limits", help="Budget file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Hold a report against its budgets: exit 1 when one is broken, 3 when one could not be judged.

    Example: edgevla bench budgets out/demo/report.json
    """
    verdicts = check_budgets(read_report(path), load_budgets(limits))
    if as_json:
        kept = all(verdict.kept for verdict in verdicts)
        print_json({"report": str(path), "kept": kept, "verdicts": [asdict(verdict) for verdict in verdicts]})
    else:
        words = {True: "kept", False: "BROKEN", None: "missing"}
        body = [
            (
                v.budget.name,
                f"{text.SENSE[v.budget.sense]} {text.in_unit(v.budget.limit, v.budget.unit)}",
                text.in_unit(v.value, v.budget.unit),
                words[v.kept],
            )
            for v in verdicts
        ]
        print_table("budgets", ["budget", "limit", "measured", ""], body)
    broken = [v.budget.name for v in verdicts if v.kept is False]
    absent = [v.budget.name for v in verdicts if v.kept is None]
    if broken:
        raise Refused(f"broken: {'; '.join(broken)}")
    if absent:
        raise Unsound(f"not in {path}: {'; '.join(absent)}")


@app.command()
def roofline(
    bundle: Path = typer.Argument(..., metavar="BUNDLE", help="NAME.bundle"),
    float_model: bool = typer.Option(False, "--float", help="Its FP32 graphs instead of what ships"),
    rounds: int = typer.Option(300, min=50, help="Profiled passes"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Where the time of a chunk goes, per class of operators, against the peaks of this CPU. One thread.

    Peaks are measured in the same run: large products in FP32 and U8S8 by ONNX Runtime, and a large copy.

    Example: edgevla bench roofline out/demo/student.bundle
    """
    opened = open_bundle(bundle)
    from bench.roofline.run import roofline as run_roofline  # here, as it loads onnx
    from bench.roofline.table import print_roofline

    found = run_roofline(opened, float_model, rounds)
    if as_json:
        print_json(found.as_dict())
        return
    print_roofline(found)
