"""Recompute every committed summary from what it came from, and play a random 5 % of the paired episodes again.

    python -m bench.verify                       # make verify-results
    python -m bench.verify --episodes 0          # only the files: seconds

Exit 1 when a field or the success of an episode differs; other ticks to the same end are said. What cannot be played
again is named with the reason, and is no difference.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.verify.replay import Part, chosen, parts, replay
from bench.verify.subjects import Verdict, verdicts
from edgevla.cli.output import print_json, print_table, say
from edgevla.errors import EdgevlaError
from export.distill.progress import Reporter

RESULTS = Path("bench/results")
JUDGED = {  # folder of outcomes -> bundles and teacher that can play them again
    "metaworld": (
        (Path("out/demo/student.bundle"), Path("examples/metaworld/student.bundle")),
        Path("examples/metaworld/teacher"),
    ),
    "mt10": ((Path("examples/metaworld/mt/student.bundle"),), Path("examples/metaworld/mt/teacher")),
}
SHOWN = 12  # differences of a file that are printed


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    asked = _arguments(argv)
    try:
        found = verdicts(asked.results)
        if not asked.json:
            _show_files(found)
        seed = asked.seed or _commit()
        played = _episodes(asked, seed)
    except EdgevlaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    wrong = [f"{one.name}: {text}" for one in found for text in one.differences] + played["differences"]
    if asked.json:
        print_json({"kept": not wrong, "files": [vars(one) for one in found], "episodes": played, "differences": wrong})
    else:
        _show_episodes(played)
        _show_wrong(found, played["differences"])
        for text in played["other_paths"]:
            say(f"the same end by another path: {text}", "dim")
    return int(bool(wrong))


def _episodes(asked: argparse.Namespace, seed: str) -> dict[str, Any]:
    """Plays what was drawn, and says what was not and why."""
    told: dict[str, Any] = {"seed": seed, "played": [], "left_out": [], "differences": [], "other_paths": []}
    here = [name for name in JUDGED if (asked.results / name / "outcomes").is_dir()]
    if asked.episodes == 0 or not here:
        told["left_out"].append({"name": "all", "why": "--episodes 0" if asked.episodes == 0 else "no outcomes here"})
        return told
    found = [part for name in here for part in _parts(asked, name)]
    told["left_out"] += _left_out(found)
    if (asked.results / "delay.parquet").is_file():
        told["left_out"].append(
            {"name": "delay.parquet", "why": "41 ways and delays of its own: make delay plays them"}
        )
    for part, rows in chosen(found, seed, asked.episodes):
        reporter = Reporter(f"{part.name}, again", len(rows))
        wrong, paths = replay(part, rows, asked.jobs, (lambda done: None) if asked.json else reporter.show)
        told["differences"] += wrong
        told["other_paths"] += paths
        if not asked.json:
            reporter.close()
        told["played"].append({"name": part.name, "policy": part.policy, "episodes": len(rows), "of": len(part.rows)})
    return told


def _parts(asked: argparse.Namespace, name: str) -> list[Part]:
    bundles, teacher = JUDGED[name]
    return parts(asked.results / name, asked.bundle or bundles, asked.teacher or teacher)


def _left_out(found: Sequence[Part]) -> list[dict[str, Any]]:
    """A line for each file and reason."""
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in found:
        if part.why_not:
            groups.setdefault((part.name, part.why_not), []).append(part)
    return [
        {"name": name, "policy": ", ".join(p.policy for p in group[:2]) + (" ..." if len(group) > 2 else ""),
         "episodes": sum(len(p.rows) for p in group), "why": why}
        for (name, why), group in groups.items()
    ]  # fmt: skip


def _commit() -> str:
    """The commit that is checked out, so that everybody who checks it plays the same episodes; else a fixed word."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "no commit"


def _show_files(found: Sequence[Verdict]) -> None:
    words = {True: "same", False: "DIFFERS", None: "raw"}
    body = [(one.name, one.source, str(one.fields or "-"), words[one.kept]) for one in found]
    print_table("committed results", ("file", "computed from", "fields", ""), body)


def _show_episodes(told: dict[str, Any]) -> None:
    body = [(p["name"], p["policy"], f"{p['episodes']} of {p['of']}", "played again") for p in told["played"]]
    body += [(p["name"], p.get("policy", ""), "0", f"left out: {p['why']}") for p in told["left_out"]]
    print_table(f"episodes, drawn by seed {told['seed'][:16]}", ("outcomes", "policy", "episodes", ""), body)


def _show_wrong(found: Sequence[Verdict], episodes: Sequence[str]) -> None:
    for one in found:
        for text in one.differences[:SHOWN]:
            say(f"{one.name}: {text}", "red")
        if len(one.differences) > SHOWN:
            say(f"{one.name}: {len(one.differences) - SHOWN} more", "red")
    for text in episodes:
        say(text, "red")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to check")
    parser.add_argument("--episodes", type=int, help="so many instead of 5 %%; 0: none")
    parser.add_argument("--seed", help="of the draw (default: the commit that is checked out)")
    parser.add_argument("--bundle", type=Path, action="append", help="to play with; again for more than one")
    parser.add_argument("--teacher", type=Path, help="to play with (default: the committed ones)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes that play")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
