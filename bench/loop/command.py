"""`edgevla bench loop`: wake latency beside cyclictest, then the loop with a bus, then what a busy tail wins."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from bench.files import write_json
from bench.loop import bus, cyclictest
from bench.loop.report import COLUMNS, GOAL, SCHEMA, rows, table
from bench.loop.windows import LOADS, Design, busy_tail, check_design, measure
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import Refused, Usage, explain
from edgevla.telemetry.host import describe_host
from edgevla.telemetry.stats import samples_needed
from profiles import load_arm
from profiles.bridge import wire_s

_WINDOW_S = 12.0  # s: at 200 Hz too few for the p99.9 of one window; all windows together bound it
_BUS_SAMPLES = 4603


def loop(
    rates: str = typer.Option("200,500,1000", help="Hz, of the loop"),
    loads: str = typer.Option("idle,memory,inference,disk", help=f"Of: {', '.join(LOADS)}"),
    rounds: int = typer.Option(3, min=1, help="Windows of each kind; odd, so that one is the median"),
    samples: int = typer.Option(samples_needed(0.999, 0.99), min=1000, help="In one window, at most"),
    window_s: float = typer.Option(_WINDOW_S, min=1.0, help="Longest window; fewer samples where it is too short"),
    core: int = typer.Option(1, help="That is measured"),
    load_core: int = typer.Option(0, help="That carries the load and the virtual arm"),
    bundle: str = typer.Option("", help="Bundle whose policy is the load `inference` (default: a graph made here)"),
    folder: str = typer.Option("", help="Where the load `disk` writes (default: the temporary folder)"),
    seed: int = typer.Option(0, help="Of the order of the windows"),
    out: Path | None = typer.Option(None, "--out", "-o", help="JSON file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Our loop beside cyclictest on one core in alternating windows, and with a bus. Needs root and rt-tests.

    Exit 1 when p99 or p99.9 of the median window is above 1.5 times cyclictest's. The maximum is printed, never judged.

    Example: edgevla bench loop -o bench/results/loop-windows.json
    """
    design = Design(
        rates_hz=_numbers(rates), loads=tuple(loads.split(",")), rounds=rounds,
        samples={rate: min(samples, round(rate * window_s)) for rate in _numbers(rates)},
        core=core, load_core=load_core, seed=seed, bundle=bundle, folder=folder,
    )  # fmt: skip
    check_design(design)
    found = _measured(design, (lambda text: None) if as_json else lambda text: say(text, "dim"))
    if out is not None:
        write_json(out, found)
    print_json(found) if as_json else _print(found)
    missed = [f"{row['rate_hz']} Hz {row['load']}" for row in found["rows"] if not row["kept"]]
    if missed:
        got = f"above it: {', '.join(missed)}"
        todo = "look at the spread of the ratios; run again on an idle host, with more --rounds"
        raise Refused(explain("p99 or p99.9 beside cyclictest", f"<= {GOAL} in the median window", got, todo))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise Usage(explain("rates that are no numbers", "for example 200,500,1000", text, "pass others")) from None


def _measured(design: Design, tell: Any) -> dict[str, Any]:
    tell(f"{len(design.loads) * len(design.rates_hz) * design.rounds} pairs of windows, {design.seconds / 60:.1f} min")
    host = describe_host()
    with tempfile.TemporaryDirectory(prefix="edgevla-loop-") as name:
        windows, worked = measure(design, Path(name), tell)
        fastest = max(design.rates_hz)
        tell("the loop with a bus")
        buses = [
            bus.measure(rate, min(_BUS_SAMPLES, design.samples[rate]), design.core, design.load_core, Path(name))
            for rate in design.rates_hz
            if _carried(rate)
        ]
        tell("busy tail")
        tail = busy_tail(fastest, design.samples[fastest], design.core, Path(name))
    return {
        "schema": SCHEMA,
        "command": "edgevla bench loop",
        "host": host,
        "cyclictest": cyclictest.version(),
        "design": asdict(design),
        "goal": GOAL,
        "rows": rows(windows),
        "bus": buses,
        "not_carried_by_the_bus_hz": [rate for rate in design.rates_hz if not _carried(rate)],
        "busy_tail": tail,
        "loads": worked,
        "windows": [window.as_dict() for window in windows],
    }


def _carried(rate_hz: int) -> bool:
    """Whether command and reply fit into a period at the reference arm's baud rate."""
    return wire_s(load_arm(bus.ARM)) <= 1 / rate_hz


def _print(found: dict[str, Any]) -> None:
    print_table("wake latency after the deadline, median window", COLUMNS, table(found["rows"]))
    print_table(
        "with a bus (edgelink over a pty), us; no reply: in half a period",
        ["Hz", "first byte p50 / p99 / p99.9", "round trip p50 / p99 / p99.9", "no reply", "wire share"],
        [(b["rate_hz"], _three(b["first_byte"]), _three(b["round_trip"]), b["no_reply_in_half_a_period"],
          f"{b['wire_efficiency']:.2f}") for b in found["bus"]],
    )  # fmt: skip
    tail = found["busy_tail"]
    print_table(
        f"busy tail of {tail['tail_us']} us at {tail['rate_hz']} Hz, us",
        ["", "p50 / p99 / p99.9", "max", "share of the core"],
        [(name, _three(tail[name]), tail[name]["max_us"], f"{tail[name]['cpu_share']:.1%}")
         for name in ("without", "with")],
    )  # fmt: skip


def _three(figures: dict[str, Any]) -> str:
    return " / ".join(str(figures[part]) for part in ("p50_us", "p99_us", "p999_us"))
