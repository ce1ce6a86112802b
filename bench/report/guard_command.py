"""`edgevla bench page`: the report of a guard's JSON."""

from __future__ import annotations

from pathlib import Path

import typer

from edgevla.cli.output import JSON_OPTION, print_json, say
from edgevla.errors import Usage, explain


def page(
    path: Path = typer.Argument(..., metavar="GUARD", help="What `edgevla bench guard --out` wrote"),
    out: Path | None = typer.Option(None, "--out", "-o", metavar="FILE", help="HTML; default: beside the JSON"),
    markdown: Path | None = typer.Option(None, metavar="FILE", help="Also the same tables as Markdown"),
    base: list[Path] = typer.Option([], metavar="FILE", help="Shown beside it: another guard's JSON, or that of pairs"),
    tegrastats: Path | None = typer.Option(None, metavar="FILE", help="A log of tegrastats that ran beside the run"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Build the report of a guarded run: one HTML file, and Markdown where asked for.

    Example: edgevla bench page out/guard.json --base out/guard-before.json -o out/guard.html
    """
    from bench.energy import read_tegrastats
    from bench.report.guard_page import GUARD, PAIRS, Source, read, write

    html = out or path.with_suffix(".html")
    if html == path or markdown == path:
        raise Usage(explain("the report would replace its JSON", "another file", path, "pass another -o FILE"))
    bases = [read(one, GUARD, PAIRS) for one in base]
    log = read_tegrastats(tegrastats) if tegrastats else None
    written = write(Source(read(path, GUARD), bases, log), html, markdown)
    if as_json:
        print_json({"written": [{"path": str(one), "bytes": one.stat().st_size} for one in written]})
        return
    for one in written:
        say(str(one))
