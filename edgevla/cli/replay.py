"""`edgevla replay`: run a flight record again and say where it first differs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from edgevla.bundle import Bundle, open_bundle
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import BadInput, Refused, explain
from edgevla.flight.reader import Record, observations_of, read_record
from edgevla.flight.replay import Replayed, Terms, replay_policy, replay_ticks, terms_of
from edgevla.policy.engine import PolicyEngine
from edgevla.telemetry.host import describe_host

_BUNDLE = typer.Option(None, "--bundle", help="Folder NAME.bundle; without it only the schedule is replayed")
_FILE = typer.Argument(..., metavar="FILE", help="flight.mcap, or the folder of --record")


def replay(file: Path = _FILE, bundle: Path | None = _BUNDLE, as_json: bool = JSON_OPTION) -> None:
    """Run the policy on every recorded observation and the schedule on every recorded tick; name the first difference.

    Bit by bit on the CPU and ONNX Runtime of the recording, else to the tolerance of the bundle's golden vectors.
    Exit 1: something differs. Exit 4: the file is damaged.

    Example: edgevla replay out/run/flight.mcap --bundle out/student.bundle
    """
    record = read_record(file)
    opened = None if bundle is None else open_bundle(bundle)
    halves: dict[str, Replayed] = {}
    terms: Terms | None = None
    if opened is not None:
        terms = _terms(record, opened)
        halves["policy"] = replay_policy(record, PolicyEngine(opened), terms.tolerance)
    halves["schedule"] = replay_ticks(record.meta, record.ticks, (seen for _, seen, _ in observations_of(record)))
    if as_json:
        print_json(_summary(record, terms, halves))
    else:
        _print(record, terms, halves)
    _judge(record, halves)


def _terms(record: Record, bundle: Bundle) -> Terms:
    return terms_of(record, describe_host(), bundle.sha256, bundle)


def _judge(record: Record, halves: dict[str, Replayed]) -> None:
    if record.damage:
        todo = "copy the file again; what is left was replayed"
        raise BadInput(explain("the flight record is damaged", "whole chunks", "; ".join(record.damage), todo))
    differences = [half.difference for half in halves.values() if half.difference is not None]
    if differences:
        first = min(differences, key=lambda difference: difference.tick)
        todo = "another bundle or another edgevla than the recording's? else the record or this machine is at fault"
        what = f"replay differs first at tick {first.tick}, {first.stage}"
        raise Refused(explain(what, f"{first.expected} (recorded)", first.got, todo))
    if not any(half.compared for half in halves.values()):
        got = "; ".join(why for half in halves.values() for why in half.passed_over[:1]) or "an empty record"
        raise BadInput(
            explain("nothing could be replayed", "an arming and its ticks in the record", got, "record anew")
        )


def _summary(record: Record, terms: Terms | None, halves: dict[str, Replayed]) -> dict[str, Any]:
    return {
        "files": [file.name for file in record.files],
        "terms": None if terms is None else {**asdict(terms), "exact": terms.exact},
        "equal": all(half.difference is None for half in halves.values()),
        **{name: asdict(half) for name, half in halves.items()},
        "damage": list(record.damage),
        "cut": record.cut,
        "lost": record.lost,
    }


def _print(record: Record, terms: Terms | None, halves: dict[str, Replayed]) -> None:
    rows = [
        (name, half.compared, str(half.difference or "none"), "; ".join(half.passed_over) or "nothing")
        for name, half in halves.items()
    ]
    print_table("replay", ["half", "compared", "first difference", "passed over"], rows)
    if terms is not None:
        how = "bit by bit" if terms.exact else f"to {terms.tolerance:g}, normalised actions"
        say(f"policy compared {how}: CPU {_same(terms.same_cpu)}, ONNX Runtime {_same(terms.same_runtime)}")
        if not terms.same_bundle:
            say("this is not the bundle that was flown: its manifest has another sha256", "bold red")
    if record.cut:
        say("the record was cut: the recorder was killed or its disk was full", "bold")
    if record.lost:
        say("lost while recording: " + ", ".join(f"{count} {what}" for what, count in record.lost.items()), "bold")


def _same(equal: bool) -> str:
    return "as recorded" if equal else "ANOTHER than recorded"
