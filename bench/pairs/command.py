"""`edgevla bench pairs BASE`: is this tree slower than another version of it?"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.files import write_json
from edgevla.cli.output import JSON_OPTION, print_json, print_table
from edgevla.errors import Usage, explain
from edgevla.telemetry.host import describe_host

if TYPE_CHECKING:
    from bench.pairs.rule import Outcome
    from edgevla.telemetry.interleaved import Ratio

SCHEMA = "edgevla.pairs/1"
ROOT = Path(__file__).parents[2]


def pairs(
    base: str = typer.Argument(..., metavar="BASE", help="Branch, tag or commit to compare this tree with"),
    only: str = typer.Option("", "--only", help="Paths whose name has this in it"),
    slow: bool = typer.Option(False, "--slow", help="Also the paths that take seconds a call"),
    tolerance: float = typer.Option(0.05, min=0.01, max=1.0, help="What a pure path may cost more; others twice that"),
    seconds: float = typer.Option(1.5, min=0.1, help="Of each path"),
    out: Path = typer.Option(None, "--out", "-o", help="Also write the result to this file"),
    as_json: bool = JSON_OPTION,
) -> None:
    """Time the hot paths of this tree and of BASE in turns, on one core, in one run. Exit 1: one is slower.

    Exit 3: base, run beside itself as a control, differs from itself. Takes some 5 minutes on a quiet machine.

    Example: edgevla bench pairs main
    """
    from bench.pairs.compare import Trees, compare
    from bench.pairs.workers import Measured
    from bench.pairs.worktree import checked_out, commit_of
    from bench.suites.bundles import bundle_for_benchmarks

    paths, commit = chosen(only, slow), commit_of(ROOT, base)
    with tempfile.TemporaryDirectory(prefix="edgevla-pairs-") as name, checked_out(ROOT, commit) as tree:
        what = Measured(bundle_for_benchmarks(Path(name)), min(os.sched_getaffinity(0)))
        found = compare(Trees(tree, ROOT), what, paths, tolerance, seconds, say=_progress)
    result = {
        "schema": SCHEMA,
        "base": commit,
        "bundle": what.bundle.name,
        "stolen_s": found.stolen_s,
        "outcomes": [one.as_dict() for one in found.outcomes],
        "host": describe_host(),
    }
    if out is not None:
        write_json(out, result)
    if as_json:
        print_json(result)
    else:
        _print(found.outcomes, f"this tree against {base} ({commit[:12]}), {found.stolen_s} s stolen")
    found.require_kept()


def chosen(only: str, slow: bool) -> list[str]:
    """Names of the paths to compare. Raises Usage where there is none."""
    from bench.suites.paths import all_paths

    names = [path.name for path in all_paths() if only in path.name and (slow or not path.slow)]
    if not names:
        known = ", ".join(path.name for path in all_paths())
        raise Usage(explain("no such path", f"part of one of: {known}", only, "correct --only"))
    return names


def _progress(line: str) -> None:
    sys.stderr.write(line + "\n")


def _print(outcomes: Sequence[Outcome], title: str) -> None:
    rows: list[tuple[Any, ...]] = [
        (one.path, _times(one.ratio), _times(one.control), one.verdict.value, one.why) for one in outcomes
    ]
    print_table(title, ["path", "this tree / base", "control", "", "why"], rows)


def _times(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f}, {ratio.rounds} rounds)"
