"""Small HTML pieces: tables, tiles, bars, tags, host lines. Strings that come from data are escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from bench.report import text
from edgevla.telemetry.host import host_line


def section(anchor: str, title: str, lead: str, *body: str) -> str:
    """A card with a heading, one sentence on how to read it, and its content. ``lead`` is our own markup."""
    return f'<section id="{anchor}"><h2>{title}</h2><p class="lead">{lead}</p>{"".join(body)}</section>'


def foot(report: Mapping[str, Any], figure: str) -> str:
    """The host under a figure: that figure's own (``figures.hosts``), else the report's."""
    hosts = (report.get("figures") or {}).get("hosts") or {}
    return f'<p class="host">Host: {escape(host_line(hosts.get(figure) or report.get("host")))}</p>'


def missing(what: str, how: str) -> str:
    """A part that was not measured is said as such."""
    return f'<div class="missing"><b>Missing:</b> {escape(what)}. {escape(how)}</div>'


def table(head: Sequence[str], body: Iterable[Sequence[str]], left: Sequence[int] = (), total: bool = False) -> str:
    """A table of ready cells (HTML). ``left``: columns set flush left. ``total``: the last row is a sum."""
    lines = [list(row) for row in body]

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=l' if i in left else ''}>{cell}</{tag}>" for i, cell in enumerate(row))

    out = [f"<tr>{cells('th', head)}</tr>"]
    for index, row in enumerate(lines):
        last = total and index == len(lines) - 1
        out.append(f"<tr{' class=total' if last else ''}>{cells('td', row)}</tr>")
    return f'<div class="scroll"><table>{"".join(out)}</table></div>'


def cell(value: str) -> str:
    """Escaped text of a cell; a missing one in soft italics."""
    return '<span class="none">missing</span>' if value == text.MISSING else escape(value)


def tag(words: str, kind: str) -> str:
    """A small coloured word: kind good | bad | open."""
    return f'<span class="tag {kind}">{escape(words)}</span>'


def verdict_tag(kept: bool | None) -> str:
    """kept | broken | missing."""
    if kept is None:
        return tag("missing", "open")
    return tag("kept", "good") if kept else tag("broken", "bad")


def tile(value: str, name: str, note: str) -> str:
    """One headline figure."""
    gone = " gone" if value == text.MISSING else ""
    inner = f"<b>{escape(value)}</b><span>{escape(name)}</span><small>{escape(note)}</small>"
    return f'<div class="tile{gone}">{inner}</div>'


def key(entries: Iterable[tuple[str, str]]) -> str:
    """A colour key of (name, CSS class)."""
    spans = "".join(f'<span><i class="{cls}"></i>{escape(name)}</span>' for name, cls in entries)
    return f'<div class="key">{spans}</div>'


def bars(rows: Sequence[tuple[str, float, str, str]]) -> str:
    """Horizontal bars: (name, value >= 0, label, CSS class), scaled to the largest."""
    largest = max((value for _, value, _, _ in rows), default=0.0) or 1.0
    out = []
    for name, value, label, cls in rows:
        width = f"calc((100% - 8.5em) * {value / largest:.4f})"
        box = f'<div class="fill {cls}" style="width:{width}"></div><span>{escape(label)}</span>'
        out.append(f'<div>{escape(name)}</div><div class="bar-box">{box}</div>')
    return f'<div class="bars">{"".join(out)}</div>'
