"""`python -m bench.bus`: every protocol paced by its wire, and unpaced beside the maker's library."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from bench.bus.case import Case, peer_module
from bench.bus.measure import CYCLES, Seats, paced, unpaced
from bench.bus.result import COLUMNS, SCHEMA, row, short, table
from bench.files import write_json
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import Refused, Unsound, Usage, explain
from edgevla.telemetry.host import describe_host, host_line
from firmware_bridge.errors import BridgeError
from firmware_bridge.protocols import KINDS

ROUNDS = 200
TRIES = 3


def bus(
    protocol: list[str] = typer.Option(list(KINDS), "--protocol", help="Which; may be given more than once"),
    joints: list[int] = typer.Option([6, 7], "--joints", help="On the bus; may be given more than once"),
    rounds: int = typer.Option(ROUNDS, min=10, help="Interleaved blocks of 20 exchanges, unpaced"),
    cycles: int = typer.Option(CYCLES, min=100, help="Paced, back to back"),
    core: int = typer.Option(1, help="Of the host's side"),
    device_core: int = typer.Option(0, help="Of the virtual device"),
    out: Path | None = typer.Option(None, "--out", "-o", help="JSON file; the long result goes to NAME-run.json"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Host share and wire efficiency on a line as slow as the real one; CPU and wall time beside the maker's library.

    Exit 1 when a target is missed, 3 when a line was faster than its wire or a peer got no answer.

    Example: python -m bench.bus -o bench/results/bus.json --protocol feetech --joints 6
    """
    if any(not 1 <= count <= 8 for count in joints):
        raise Usage(explain("joints on one bus", "1..8", joints, "pass others with --joints"))
    seats = Seats(core, device_core)
    modules = {name: peer_module(name) for name in protocol}
    host = describe_host()  # before this process is bound to one core of it
    seats.check()
    rows = []
    for module in modules.values():
        for count in joints:
            case = module.case(count)
            if not as_json:
                say(case.name, "dim")
            rows.append(_measured(case, module, seats, cycles, rounds))
    found = {"schema": SCHEMA, "command": "python -m bench.bus", "host": host, "rows": rows}
    if out is not None:
        write_json(out.with_name(f"{out.stem}-run.json"), found)
        write_json(out, short(rows))
    print_json(found) if as_json else _print(found)
    _judge(rows)


def _measured(case: Case, module: ModuleType, seats: Seats, cycles: int, rounds: int) -> dict[str, Any]:
    """The row of one case. A host that stalls for longer than a watchdog or a library waits spoils a run: TRIES of it.

    Raises Unsound when none was whole.
    """
    failed: list[str] = []
    for _ in range(TRIES):
        try:
            figures = paced(case, module, seats, cycles), unpaced(case, module, seats, rounds)
        except (BridgeError, Unsound) as error:
            failed.append(str(error))
            continue
        found = row(case, module.LIBRARY, getattr(module, "WHY_NONE", ""), *figures)
        return {**found, "spoiled_runs": failed}
    todo = "end what else runs on this machine; the first of them says where it broke"
    raise Unsound(explain(f"{case.name} was spoiled in {TRIES} runs", "one whole run", failed[0], todo))


def _print(found: dict[str, Any]) -> None:
    print_table("buses: paced by the wire | unpaced, us per exchange", COLUMNS, table(found["rows"]))
    say(host_line(found["host"]), "dim")


def _judge(rows: list[dict[str, Any]]) -> None:
    """Raises Refused naming the rows that miss a target."""
    broken = [f"{row['protocol']} x{row['joints']}: {', '.join(row['missed'])}" for row in rows if row["missed"]]
    if broken:
        todo = "look at the spreads in the long result; run again alone on the machine"
        raise Refused(explain("targets of the bus bench", "every target kept", "; ".join(broken), todo))
