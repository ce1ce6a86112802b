"""A part of the guard's report: words, tables and drawings, as HTML or, without the drawings, as Markdown. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.report import parts, text

NONE = "-"
# A cell that is one of these words is a verdict, and gets its colour on the page.
TAGS = {"kept": "good", "BROKEN": "bad", "too few samples": "open", "not judged": "none", "drifts": "open"}
TAGS |= {"faster": "good", "SLOWER": "bad", "not sound": "open"}


@dataclass(frozen=True)
class Table:
    """Cells are plain text. `left`: columns of words. `name`: its heading, if it has one."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[int] = ()
    name: str = ""


@dataclass(frozen=True)
class Part:
    """`lead` and `notes` are plain text; `figures` is HTML made here."""

    anchor: str
    title: str
    lead: str
    tables: Sequence[Table] = ()
    figures: str = ""
    notes: Sequence[str] = ()
    missing: tuple[str, str] | None = None  # what is not there, and how it comes


def as_html(part: Part) -> str:
    """A card of the page."""
    gone = parts.missing(*part.missing) if part.missing else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in part.notes)
    listed = f'<ul class="plain">{notes}</ul>' if notes else ""
    tables = "".join(_table_html(table) for table in part.tables)
    return parts.section(part.anchor, escape(part.title), escape(part.lead), part.figures, gone, tables, listed)


def _table_html(table: Table) -> str:
    heading = f"<h3>{escape(table.name)}</h3>" if table.name else ""
    rows = [[_cell_html(cell) for cell in row] for row in table.rows]
    return heading + parts.table([escape(cell) for cell in table.head], rows, table.left)


def _cell_html(cell: str) -> str:
    kind = TAGS.get(cell)
    if kind == "none":
        return f'<span class="none">{escape(cell)}</span>'
    return parts.tag(cell, kind) if kind else escape(cell)


def as_markdown(part: Part) -> str:
    """A section; what a drawing alone shows is on the page only."""
    gone = [f"Missing: {part.missing[0]}. {part.missing[1]}"] if part.missing else []
    notes = ["\n".join(f"- {note}" for note in part.notes)] if part.notes else []
    tables = [block for table in part.tables for block in _table_markdown(table)]
    return "\n\n".join([f"## {part.title}", *filter(None, [part.lead]), *gone, *tables, *notes])


def _table_markdown(table: Table) -> list[str]:
    rule = [":--" if at == 0 or at in table.left else "--:" for at in range(len(table.head))]
    lines = [table.head, rule, *([_cell_markdown(cell) for cell in row] for row in table.rows)]
    heading = [f"### {table.name}"] if table.name else []
    return [*heading, "\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _cell_markdown(cell: str) -> str:
    plain = cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    shown = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain)  # what a renderer could take for markup
    return f"**{shown}**" if TAGS.get(cell) == "bad" else shown


def us(value: float | None) -> str:
    """Microseconds in the unit that suits them, with a real minus."""
    if not value:
        return NONE if value is None else "0"
    return text.duration(value * 1e3).replace("-", "\N{MINUS SIGN}")


def whole(value: float | None) -> str:
    """A count."""
    return NONE if value is None else text.whole(value)


def verdict_word(kept: bool | None, limit: float | None) -> str:
    """Of a claim: kept None is too few samples where there was a limit to hold."""
    if kept is None:
        return "not judged" if limit is None else "too few samples"
    return "kept" if kept else "BROKEN"
