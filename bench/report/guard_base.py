"""A guarded run beside another one, or beside the paired result of `edgevla bench pairs`. Pure.

Two runs of the guard are not paired: what the machine did meanwhile differs. So their distributions stand side by
side, and nothing is concluded; only `bench pairs` runs both versions in turns and may say slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.report import guard_figures as figures
from bench.report import text
from bench.report.guard_part import NONE, Part, Table, us, whole
from bench.report.guard_sections import limits_us

Document = Mapping[str, Any]
NOT_PAIRED = (
    "The two runs are not paired: they ran at different times, and what else the machine did differs. Distributions "
    "are shown beside each other; a ratio here is no verdict. edgevla bench pairs BASE runs both versions in turns and "
    "gives one."
)
_VERDICTS = {"slower": "SLOWER", "unsound": "not sound", "lacking": "only here", "absent": "not here"}


def beside(document: Document, base: Document) -> Part:
    """Quantiles of both runs of the guard and their ratios."""
    ours, theirs = document["stages"], base["stages"]
    common = {name: stage for name, stage in ours.items() if name in theirs}
    head = ("stage", "p50", "base", "ratio", "p99", "base", "ratio", "max", "base", "ratio")
    rows = [
        (name, *(cell for key in ("p50_us", "p99_us", "max_us") for cell in _pair(stage[key], theirs[name][key])))
        for name, stage in common.items()
    ]
    drawn = figures.histograms(common, limits_us(document), theirs) if common else ""
    return Part("base", "Beside base", NOT_PAIRED, [Table(head, rows), _runs(document, base)], drawn)


def _pair(ours: float, theirs: float) -> tuple[str, str, str]:
    return us(ours), us(theirs), _times(ours / theirs) if theirs > 0 else NONE


def _times(ratio: float) -> str:
    """Three digits, also of what is far below one."""
    return text.times(ratio) if ratio >= 0.1 else f"{ratio:.2g}×"


def _runs(document: Document, base: Document) -> Table:
    """What the two runs were of: where that differs, the ratio is of that too."""
    both = (document, base)
    said = {
        "bundle": [f"{one['bundle']['name']} {one['bundle']['sha256'][:12]}" for one in both],
        "target, arm, load": [f"{one['target']}, {one['arm']}, {one['load']}" for one in both],
        "sound": ["yes" if one["sound"] else "no" for one in both],
        "CPU": [str(one["host"].get("cpu", NONE)) for one in both],
        "kernel": [str(one["host"].get("kernel", NONE)) for one in both],
        "measured at": [str(one["host"].get("measured_at", NONE)) for one in both],
        "stolen": [f"{sum(segment['stolen_s'] for segment in one['segments']):.2f} s" for one in both],
    }
    rows = [(name, ours, theirs, "" if ours == theirs else "differs") for name, (ours, theirs) in said.items()]
    return Table(("", "this run", "base", ""), rows, (1, 2, 3), "What was run")


def paired(result: Document) -> Part:
    """The outcome of every path that `bench pairs` ran in turns."""
    lead = (
        f"This tree against {result['base'][:12]}, run in turns on one core in one run, with base beside itself as a "
        "control. Above 1 is slower. An interval is of the median ratio of the rounds."
    )
    head = ("path", "", "this tree / base", "interval", "control", "interval", "rounds")
    rows = [
        (
            one["path"], _VERDICTS.get(one["verdict"], one["verdict"]), *_ratio(one["ratio"]), *_ratio(one["control"]),
            NONE if one["ratio"] is None else whole(one["ratio"]["rounds"]),
        )
        for one in result["outcomes"]
    ]  # fmt: skip
    reasons = [f"{one['path']}: {one['why']}" for one in result["outcomes"] if one["why"]]
    return Part("pairs", "Paired with base", lead, [Table(head, rows, (1,))], notes=reasons)


def _ratio(ratio: Document | None) -> tuple[str, str]:
    if ratio is None:
        return NONE, NONE
    return f"{ratio['median']:.3f}", f"{ratio['low']:.3f} to {ratio['high']:.3f}"
