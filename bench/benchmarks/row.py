"""A line of docs/benchmarks.md, and the words that its cells are made of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.data import as_number
from edgevla.telemetry.host import host_line

Json = Mapping[str, Any]
NOT_MEASURED = "not measured"
OBSERVED, COUNTED, BOUNDED = "observed", "counted", "bounded at 99 %"
INTERVAL = "95 % interval"


@dataclass(frozen=True)
class Row:
    """`samples` and `largest` are "-" where a figure has none."""

    figure: str
    value: str
    samples: str
    largest: str
    kind: str

    @property
    def cells(self) -> tuple[str, ...]:
        return self.figure, self.value, self.samples, self.largest, self.kind


@dataclass(frozen=True)
class Subject:
    """`file` below bench/results; `rows` of what it holds; `note` stands under the title."""

    title: str
    file: str
    command: str
    rows: Callable[[Any], list[Row]]
    note: str = ""


def block(subject: Subject, found: Any) -> str:
    """Title, where it is from, and the table."""
    place = f"File: [{subject.file}](../bench/results/{subject.file}). Command: `{subject.command}`."
    if not found:
        return f"## {subject.title}\n\n{NOT_MEASURED}: no {subject.file}. Command: `{subject.command}`."
    host = host_words(found)
    lines = [f"## {subject.title}", f"Host: {host}. {place}{' ' + subject.note if subject.note else ''}"]
    rows = subject.rows(found)
    lines.append(table(("figure", "value", "samples", "largest", "kind"), [row.cells for row in rows]))
    return "\n\n".join(lines)


def host_words(found: Any) -> str:
    host = found.get("host") if isinstance(found, Mapping) else None
    if not isinstance(host, Mapping):
        return "not recorded"
    return host_line(host) + (f", {host['measured_at']}" if host.get("measured_at") else "")


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |" for cells in lines)


def whole(value: Any) -> str:
    number = as_number(value)
    return "-" if number is None else f"{number:,.0f}"


def three(found: Json, unit: str = "us", keys: Sequence[str] = ("p50_us", "p99_us", "p999_us")) -> str:
    """`17 / 46 / 257 us`."""
    return " / ".join(plain(found.get(key)) for key in keys) + f" {unit}"


def plain(value: Any) -> str:
    number = as_number(value)
    return "-" if number is None else f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def ratio(found: Json) -> str:
    """`2.26x (2.24 to 2.28)`."""
    return f"{found['median']:.2f}x ({found['low']:.2f} to {found['high']:.2f})"


def share(value: Any) -> str:
    number = as_number(value)
    return NOT_MEASURED if number is None else f"{100 * number:.1f} %"
