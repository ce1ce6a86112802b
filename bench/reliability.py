"""The block of docs/reliability.md: one line per fault of the suite, from bench/results/faults-run.json, and one per
chapter of the power-cut proof, from bench/results/powercut.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.report.data import as_number, get, rows

NOT_MEASURED = "not measured"


def faults_table(found: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and cells; times in ms, `at rest / bound`."""
    head = ("fault", "outcome", "late", "beyond limits", "of commands", "at rest / bound", "latched / bound", "why")
    return head, [_cells(row) for row in rows(found, "rows")]


def totals(found: Mapping[str, Any]) -> str:
    """One sentence over all rows."""
    listed = rows(found, "rows")
    if not listed:
        return NOT_MEASURED
    late, beyond, judged = (
        sum(as_number(row.get(key)) or 0 for row in listed)
        for key in ("late_commands", "out_of_limit_commands", "samples")
    )
    skipped = "".join(f" Skipped: {row.get('fault')} ({row.get('reason')})." for row in rows(found, "skipped"))
    seconds = as_number(get(found, "seconds")) or 0
    return (
        f"{len(listed)} faults, {judged:.0f} commands: **{late:.0f} late, {beyond:.0f} beyond limits**. "
        f"Took {seconds / 60:.1f} minutes.{skipped}"
    )


def powercut_table(found: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and cells, a chapter a line."""
    head = ("chapter", "calls", "states", "of them distinct", "boots", "kills", "releases lost")
    keys = ("calls", "states", "distinct", "boots", "kills")
    body = []
    for row in rows(found, "chapters"):
        lost = row.get("lost")
        said = f"{len(lost)}" if isinstance(lost, list) else NOT_MEASURED
        body.append((str(row.get("chapter", "?")), *(_count(row, key) for key in keys), said))
    return head, body


def powercut_totals(found: Mapping[str, Any]) -> str:
    """Two sentences over all chapters."""
    chapters = rows(found, "chapters")
    if not chapters:
        return NOT_MEASURED
    of_commit, met = (sum(as_number(row.get(key)) or 0 for row in chapters) for key in ("commit_calls", "kills_met"))
    calls, states, boots, kills, lost = (
        _count(found, key) for key in ("calls", "points", "boots", "kills", "releases_lost")
    )
    minutes = (as_number(get(found, "seconds")) or 0) / 60
    return (
        f"{calls} calls recorded, {states} states tried, {boots} boots, {kills} kills: **{lost} releases lost**. "
        f"Killed at the very call: {met:,.0f} of the {of_commit:,.0f} calls of the commit phase. "
        f"Took {minutes:.0f} minutes beside other work."
    )


def _count(row: Mapping[str, Any], key: str) -> str:
    value = as_number(row.get(key))
    return NOT_MEASURED if value is None else f"{value:,.0f}"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (as_number(row.get(key)) for key in ("late_commands", "out_of_limit_commands", "samples"))
    return (
        str(row.get("fault", "?")),
        str(row.get("outcome", "?")),
        *(NOT_MEASURED if count is None else f"{count:.0f}" for count in counts),
        _pair(row, "stop_ms", "bound_ms"),
        _pair(row, "latched_ms", "latched_bound_ms"),
        _plain(str(row.get("explained_by", ""))),
    )


def _pair(row: Mapping[str, Any], value: str, bound: str) -> str:
    """Two times in ms; `-` where the arm did not stop."""
    found, limit = as_number(row.get(value)), as_number(row.get(bound))
    return "-" if found is None or limit is None else f"{found:.0f} / {limit:.0f}"


def _plain(text: str) -> str:
    """Without what a table takes for its own."""
    return " ".join(text.replace("|", "/").replace("`", "").split())
