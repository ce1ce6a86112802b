"""What commands print: tables for people, JSON for programs, one block for an error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edgevla.errors import Usage, explain

JSON_OPTION = typer.Option(False, "--json", help="Print one JSON object instead of tables.")


def print_error(text: str) -> None:
    """One red block on stderr; plain text where stderr is no terminal, so that logs can be searched."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        console.print(Panel(Text(text), title="error", title_align="left", border_style="red", expand=False))
    else:
        sys.stderr.write(f"error: {text}\n")


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    plain = json.loads(json.dumps(value, default=_plain), parse_constant=lambda _: None)  # JSON has no infinity
    sys.stdout.write(json.dumps(plain, indent=1, allow_nan=False) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout; columns after the first are right-aligned where they hold numbers."""
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], (int, float)) for row in rows)
        table.add_column(escape(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else escape(str(cell)) for cell in row))
    stdout().print(table)


def stdout() -> Console:
    """Console on stdout; wide enough for a log file where there is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def say(text: str, style: str = "") -> None:
    """One line on stdout, no markup."""
    stdout().print(Text(text, style=style))


def kept(holds: bool) -> Text:
    """The word that closes a row: kept or BROKEN."""
    return Text("kept", style="green") if holds else Text("BROKEN", style="bold red")


def require_writable(path: Path) -> None:
    """A regular file may be made or replaced there; asked before anything is done for it. Makes no folder.

    Raises Usage.
    """
    folder = path.parent
    if not folder.is_dir():
        got, todo = f"{folder}, which is not there", f"`mkdir -p {folder}`, or pass another -o FILE"
    elif path.is_dir():
        got, todo = "a folder", f"name a file in it: -o {path / 'FILE'}"
    elif path.exists() and not path.is_file():
        got, todo = "a device, pipe or socket", "pass another -o FILE"
    elif not os.access(folder, os.W_OK):
        got, todo = f"{folder}, which is not yours to write", "pass another -o FILE"
    else:
        return
    raise Usage(explain(f"{path} cannot be written", "a file name in a folder to write into", got, todo))


def megabytes(count: int) -> str:
    """Bytes as a person reads them, powers of ten."""
    if count < 1_000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy, tuples in dataclasses, paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
