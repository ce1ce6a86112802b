"""`edgevla bench counts`: instructions per call of the pure hot paths, against what is written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from bench.counts import budget as budgets
from bench.files import write_json
from edgevla.cli.output import JSON_OPTION, print_json, print_table, say
from edgevla.errors import BadInput, Refused, Unsound, explain
from edgevla.telemetry.host import describe_host

SCHEMA = "edgevla.counts/1"
BUDGET = typer.Option(budgets.BUDGET, "--budget", help="Instruction budgets, TOML")
_WORDS = {True: "kept", False: "BROKEN", None: "not judged"}


def counts(
    budget: Path = BUDGET,
    update: bool = typer.Option(False, "--update", help="Write what was counted into the budget file"),
    out: Path = typer.Option(None, "--out", "-o", help="Also write the counts to this file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Count the instructions of every pure hot path with callgrind. Exit 1: one costs more than its budget.

    Needs valgrind and gcc; takes half a minute, and a busy machine changes nothing but that.

    Example: edgevla bench counts
    """
    from bench.counts.count import count  # here, so that --help needs neither

    known, key = budgets.read(budget), budgets.interpreter()
    counted = count()
    here = budgets.environment()
    table = {} if update and key not in known.tables else known.of(key)
    verdicts = budgets.judge(counted, table, known.tolerance)
    result = document(verdicts, known, key, here)
    if out is not None:
        write_json(out, {**result, "host": describe_host()})
    if as_json:
        print_json({**result, "host": describe_host()})
    else:
        _print(verdicts, f"instructions per call, {here}")
    if update:
        _write(budget, budgets.text(known, key, counted, here))
        if not as_json:
            say(f"written: {budget}")
        return
    require_kept(verdicts, budget, known.made_with(key), here)


def document(verdicts: Sequence[budgets.Verdict], known: budgets.Budget, key: str, here: str) -> dict[str, Any]:
    """What `--json` prints, less the host."""
    rows = [
        {"path": v.path, "instructions": v.counted, "budget": v.budget, "ratio": v.ratio, "kept": v.kept}
        for v in verdicts
    ]
    return {
        "schema": SCHEMA,
        "interpreter": key,
        "counted_with": here,
        "budget_of": known.made_with(key),
        "tolerance": known.tolerance,
        "kept": all(v.kept for v in verdicts),
        "functions": {v.path: v.counted for v in verdicts if v.counted is not None},
        "verdicts": rows,
    }


def require_kept(verdicts: Sequence[budgets.Verdict], path: Path, made_with: str, here: str) -> None:
    """Raises Refused where a path costs more than its budget, Unsound where one cannot be judged."""
    broken = [v for v in verdicts if v.kept is False]
    strange = [v.path for v in verdicts if v.kept is None]
    same = "" if made_with == here else f"; the budget was counted with {made_with}, this is {here}"
    if broken:
        got = ", ".join(f"{v.path} {v.counted:,.0f} for {v.budget:,.0f} ({(v.ratio or 0) - 1:+.1%})" for v in broken)
        todo = "make it cheaper, or accept the cost in the commit that brings it: edgevla bench counts --update"
        expected = f"at most {1 + verdicts[0].tolerance:.0%} of the budget"
        raise Refused(explain("a hot path executes more instructions than its budget", expected, got + same, todo))
    if strange:
        todo = "edgevla bench counts --update, and commit the file"
        got = f"one without the other: {', '.join(strange)}{same}"
        raise Unsound(explain(f"paths and {path.name} differ", "a budget for each path", got, todo))


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise BadInput(explain(f"{path} cannot be written", "a folder to write into", got, "pass --budget")) from None


def _print(verdicts: Sequence[budgets.Verdict], title: str) -> None:
    rows = [
        (
            v.path,
            "-" if v.counted is None else f"{v.counted:,.0f}",
            "-" if v.budget is None else f"{v.budget:,.0f}",
            "-" if v.ratio is None else f"{v.ratio - 1:+.2%}",
            "kept; much cheaper: --update" if v.saved else _WORDS[v.kept],
        )
        for v in verdicts
    ]
    print_table(title, ["path", "instructions", "budget", "difference", ""], rows)
