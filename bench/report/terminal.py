"""The figures of a demo as terminal tables; the same numbers as report.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.budgets import check_budgets
from bench.report import text
from bench.report.data import get, number
from edgevla.telemetry.host import host_line


def print_figures(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print models, success, loop, wall times and budgets; what the report lacks is printed as missing."""
    out = console or Console(highlight=False)
    if report.get("synthetic"):
        out.print("[bold]Synthetic test data. Nothing below was measured.[/]")
    out.print(models_table(report))
    out.print(pairs_table("Success and loop", _facts(report)))
    out.print(pairs_table("Wall time", _steps(report)))
    out.print(budgets_table(report))
    out.print(f"Host: {host_line(report.get('host'))}", style="dim", markup=False)


def models_table(report: Mapping[str, Any]) -> Table:
    """Size, latency and success of the three models."""
    table = Table("Model", title="Models", title_justify="left", title_style="bold")
    for name in ("parameters", "bytes", "p50", "p99", "success"):
        table.add_column(name, justify="right")
    for model, label in text.MODELS.items():
        entry = f"models.{model}."
        table.add_row(
            label,
            text.count(number(report, entry + "parameters")),
            text.size(number(report, entry + "bytes")),
            text.ms(number(report, entry + "p50_ms")),
            text.ms(number(report, entry + "p99_ms")),
            text.percent(number(report, f"success.{model}")),
        )
    return table


def pairs_table(title: str, facts: list[tuple[str, str]]) -> Table:
    """Name and value, two columns."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in facts:
        table.add_row(name, value)
    return table


def budgets_table(report: Mapping[str, Any]) -> Table:
    """Limits declared beforehand against what came."""
    table = Table("Budget", title="Budgets", title_justify="left", title_style="bold")
    for name in ("limit", "measured", ""):
        table.add_column(name, justify="right")
    for verdict in check_budgets(report):
        budget = verdict.budget
        sign = text.SENSE[budget.sense]
        word = {True: "[green]kept[/]", False: "[bold red]broken[/]", None: "[yellow]missing[/]"}[verdict.kept]
        limit, value = (text.in_unit(v, budget.unit) for v in (budget.limit, verdict.value))
        table.add_row(budget.name, f"{sign} {limit}", value, word)
    return table


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    shares = [
        ("half-way scenes, the named way", "halfway"),
        ("same, trained with blank words", "blank_words"),
        ("control: demonstrations only", "demos_only"),
        ("control: distilled without z", "without_z"),
    ]
    return [
        ("pairs (same seeds)", text.whole(number(report, "success.pairs"))),
        ("loss of success int8 / teacher, upper 95 %", text.percent(number(report, "success.loss_upper95"))),
        *((name, text.percent(number(report, f"success.{key}"))) for name, key in shares),
        ("control ticks", text.whole(number(report, "loop.ticks"))),
        ("late commands", text.whole(number(report, "loop.late_commands"))),
        ("runs played again after a late one", text.whole(number(report, "loop.runs_again"))),
        ("misses", text.whole(number(report, "loop.misses"))),
        ("wake latency p99", _us(number(report, "loop.wake_p99_us"))),
        ("wake latency p99.9", _us(number(report, "loop.wake_p999_us"))),
        *(("ten tasks, by the clock", told) for told in _many(report)),
    ]


def _many(report: Mapping[str, Any]) -> list[str]:
    """How many of the tasks that were tried the policy of ten tasks did; nothing where it did not run."""
    done = list((get(report, "many.tasks") or {}).values())
    return [f"{sum(map(bool, done))} of {len(done)} done"] if done else []


def _us(value: float | None) -> str:
    return text.duration(None if value is None else value * 1e3)


def _steps(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = get(report, "steps_s") or {}
    steps = [(str(name), text.seconds(number({"s": value}, "s"))) for name, value in given.items()]
    return [*steps, ("total", text.seconds(number(report, "total_s")))]
