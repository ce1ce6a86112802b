"""What `edgevla deploy` prints: tables and one closing line for people, one object with --json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgevla.cli.output import megabytes, print_json, print_table, say, stdout
from edgevla.doctor.finding import Finding
from edgevla.errors import BadInput, DeviceFault, EdgevlaError, Refused, Unsound

if TYPE_CHECKING:  # it imports asyncssh, which `--offline` does without
    from edgevla.deploy.session import Report

_STYLES = {"fail": "bold red", "warn": "yellow", "info": "dim", "pass": "green"}
_KINDS: dict[int, type[EdgevlaError]] = {3: Unsound, 4: BadInput, 5: DeviceFault}


def table(title: str, rows: Sequence[Finding]) -> None:
    """The preflight table, and under it what to do about each row that is not well."""
    shown = Table("", "what", "found", "expected", title=escape(title), title_justify="left", title_style="bold")
    for row in rows:
        shown.add_row(Text(row.level, _STYLES[row.level]), *map(escape, (row.name, row.found, row.expected)))
    stdout().print(shown)
    for row in rows:
        for line in row.todo if row.level == "fail" else row.todo[:1] if row.level == "warn" else ():
            stdout().print(Text(f"  {row.name}: {line}", _STYLES[row.level]), soft_wrap=True)


def no_table(title: str, rows: Sequence[Finding]) -> None:
    """With --json the rows are in the object."""


def report(done: Report, as_json: bool) -> None:
    """How a deploy ended. Raises what the robot says where it returned to the old release."""
    if as_json:
        print_json({**asdict(done), "preflight": [asdict(row) for row in done.preflight]})
    for text in () if as_json else done.warnings:
        say(f"warning: {text}", "yellow")
    if done.state == "failed":
        raise _KINDS.get(done.exit_code, Refused)(done.why)
    if not as_json:
        say(_closing(done), "green")


def _closing(done: Report) -> str:
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in done.seconds.items())
    if done.state == "unchanged":
        return f"{done.host} runs release {done.id} already, marked good; nothing to do ({seconds})"
    if done.state == "dry-run":
        return " ".join(["dry run: nothing was changed on", f"{done.host}.", done.why]).strip()
    moved = f"{megabytes(done.moved_bytes)} moved, the bundle has {megabytes(done.bundle_bytes)}"
    return f"{done.host} runs release {done.id}, counter {done.counter}, marked good; {moved} ({seconds})"


def outcome(result: Mapping[str, Any], as_json: bool) -> None:
    """How a rollback or an offline install ended. Raises what went wrong."""
    if as_json:
        print_json(result)
    for text in () if as_json else result.get("warnings") or ():
        say(f"warning: {text}", "yellow")
    if result.get("good") is not True:
        raise _KINDS.get(int(result.get("exit_code") or 1), Refused)(
            str(result.get("why", "the robot gives no reason"))
        )
    if not as_json:
        why = f" ({result['why']})" if result.get("why") else ""
        say(f"release {result.get('id')} runs, marked good{why}", "green")


def status(result: Mapping[str, Any], as_json: bool) -> None:
    """Facts, then the steps of the newest deploy."""
    if as_json:
        print_json(result)
        return
    facts = [(key, _plain(value)) for key, value in result.items() if key not in ("deploy", "outcome")]
    if isinstance(outcome := result.get("outcome"), dict):
        facts.append(("newest deploy", "kept" if outcome.get("good") else f"failed: {outcome.get('why')}"))
    print_table("robot", ["what", "value"], facts)
    lines = [line for line in result.get("deploy") or () if isinstance(line, dict) and "step" in line]
    newest = {line["step"]: line for line in lines}  # of each step its last word
    if newest:
        print_table("newest deploy", ["step", "what", ""], [_step_row(newest[step]) for step in sorted(newest)])


def releases(result: Mapping[str, Any], as_json: bool) -> None:
    """One row per release."""
    if as_json:
        print_json(result)
        return
    rows = []
    for row in result.get("releases") or ():
        marks = [mark for mark in ("current", "previous", "on_trial", "good") if row.get(mark)]
        rows.append((row.get("id"), row.get("name", ""), row.get("counter", ""), " ".join(marks), row.get("why") or ""))
    print_table("releases", ["id", "name", "counter", "", "why not good"], rows)


def removed(result: Mapping[str, Any], as_json: bool) -> None:
    """What a clean-up removed."""
    if as_json:
        print_json(result)
        return
    gone = [str(one) for one in result.get("removed") or ()]
    say(f"removed {len(gone)} releases{': ' if gone else ''}{', '.join(gone)}")


def logs(result: Mapping[str, Any], as_json: bool) -> None:
    """Lines as they are."""
    if as_json:
        print_json(result)
        return
    for name, lines in result.items():
        say(str(name), "bold")
        for line in lines if isinstance(lines, list) else [lines]:
            stdout().print(Text(line if isinstance(line, str) else json.dumps(line)), soft_wrap=True)


def _step_row(line: Mapping[str, Any]) -> tuple[object, object, object]:
    state = "failed" if line.get("failed") else "done" if line.get("done") else ""
    return f"{line.get('step', '')}/{line.get('of', '')}", line.get("text") or line.get("name", ""), state


def _plain(value: object) -> str:
    return json.dumps(value) if isinstance(value, (dict, list, bool)) else "-" if value is None else str(value)
